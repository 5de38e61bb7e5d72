"""Which models there are, and who answers for a name: upstreams, configured names, systems, `belljar/verbatim`.

A name is looked for in this order: configured models; systems (such as "groq/compound"), which stand for the default
model where nothing is configured; what the upstreams list, the first upstream first; "NAME/model" for upstream NAME;
an upstream that gives no list, which then says itself whether it knows the name. `belljar/verbatim` is always there.
Promises: a known name is resolved without network; an upstream that is down does not keep the others from being
listed; lists are kept for half a minute, and longer while they cannot be had anew.
"""

from __future__ import annotations

import asyncio
import difflib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from belljar.errors import BelljarError, UnknownModel, UpstreamUnavailable
from belljar.events import LanguageModel
from belljar.model import ModelInfo
from belljar.upstream import traits
from belljar.upstream.adapter import Learned, UpstreamModel, Way
from belljar.upstream.client import Endpoint
from belljar.upstream.settings import ModelSettings, UpstreamSettings
from belljar.upstream.shelf import Shelf
from belljar.verbatim import ID as VERBATIM
from belljar.verbatim import Verbatim

OWNER = "belljar"  # of what is no upstream's: discovery knows a Belljar by it
MOST_REMEMBERED = 1000  # names and refusals: an upstream without a list takes any name
NEAR_NAMES = 3
MOST_SHOWN = 200  # characters of an unknown name in a message


def open_endpoint(settings: UpstreamSettings) -> Endpoint:
    """The client of an upstream."""
    return Endpoint(settings.name, settings.url, settings.key, timeouts=settings.timeouts, retries=settings.retries)


@dataclass(frozen=True, kw_only=True)
class UpstreamState:
    """An upstream as it is now: how many models it lists, None where it never gave a list; the last error."""

    name: str
    url: str
    origin: str
    models: int | None
    error: str | None


class _Upstream:
    """One upstream: its settings, its client, its list, what it refused."""

    def __init__(self, settings: UpstreamSettings, endpoint: Endpoint) -> None:
        self.settings = settings
        self.endpoint = endpoint
        self.shelf = Shelf(settings.name, endpoint.models)
        self._learned: dict[str, Learned] = {}

    def model(self, identity: str, name: str, settings: ModelSettings | None = None) -> UpstreamModel:
        """Its model of this name, called `identity` here."""
        own = self.settings
        way = Way(
            id=identity,
            model=name,
            tools=settings.tools if settings and settings.tools else own.tools,
            images=settings.images if settings and settings.images is not None else own.images,
            thinks=settings.thinks if settings else False,
        )
        if len(self._learned) > MOST_REMEMBERED:
            self._learned.clear()
        return UpstreamModel(self.endpoint, way, self._learned.setdefault(name, Learned()))

    @property
    def default(self) -> str | None:
        """The model to use where none is named."""
        listed = self.shelf.models
        return self.settings.default or next(filter(traits.can_chat, listed), next(iter(listed), None))


class Catalog:
    """All models under one roof. Raises ValueError for settings that do not fit together."""

    def __init__(
        self,
        upstreams: Sequence[UpstreamSettings] = (),
        models: Sequence[ModelSettings] = (),
        *,
        systems: Sequence[str] = (),
        connect: Callable[[UpstreamSettings], Endpoint] = open_endpoint,
    ) -> None:
        _check(upstreams, models, systems)
        self._settings = tuple(upstreams)
        self._configured = {settings.id: settings for settings in models}
        self._systems = tuple(systems)
        self._connect = connect
        self._upstreams: dict[str, _Upstream] = {}
        self._verbatim = Verbatim()
        self._resolved: dict[str, LanguageModel] = {}
        self._version = 0

    async def start(self) -> None:
        """Open the clients and fetch all lists. An upstream that is down is no error."""
        for settings in self._settings:
            upstream = _Upstream(settings, self._connect(settings))
            self._upstreams[settings.name] = upstream
            await upstream.endpoint.start()
        await self._refresh()

    async def close(self) -> None:
        """Close all connections."""
        upstreams, self._upstreams = list(self._upstreams.values()), {}
        self._resolved.clear()
        for upstream in upstreams:
            await upstream.shelf.close()
            await upstream.endpoint.close()

    # --- what there is ------------------------------------------------------------------------------------------------

    async def list(self) -> list[ModelInfo]:
        """Every model that can be asked for: the upstreams' own, configured names, systems, the built-in one."""
        await self._refresh()
        listed: dict[str, ModelInfo] = {}
        for name, upstream in self._upstreams.items():
            for info in upstream.shelf.models.values():
                identity = info.id if info.id not in listed else f"{name}/{info.id}"
                listed.setdefault(identity, info if identity == info.id else _named(info, identity))
        for identity in (*self._configured, *self._systems, VERBATIM):
            listed.setdefault(identity, ModelInfo(id=identity, owner=OWNER))
        return [*listed.values()]

    @property
    def states(self) -> Sequence[UpstreamState]:
        """Every upstream, as it was when last asked for its list."""
        return [
            UpstreamState(
                name=name,
                url=upstream.settings.url,
                origin=upstream.settings.origin,
                models=len(upstream.shelf.models) if upstream.shelf.known else None,
                error=upstream.shelf.error,
            )
            for name, upstream in self._upstreams.items()
        ]

    @property
    def default(self) -> str:
        """The model to use where none is named: that of the first upstream that has one, else the first configured
        one that is no system, else `belljar/verbatim`.
        """
        own = (identity for identity in self._configured if identity not in self._systems)
        return self._upstream_default() or next(own, None) or VERBATIM

    def answering_for(self, identity: str) -> str | None:
        """The model that writes the last answer for this one, where that is another."""
        settings = self._configured.get(identity)
        return settings.answering if settings else None

    # --- names --------------------------------------------------------------------------------------------------------

    async def resolve(self, identity: str) -> LanguageModel:
        """Who answers for a name. Raises UnknownModel; UpstreamUnavailable where it stands for an upstream's default,
        and that is not known.
        """
        known = self._resolved.get(identity)
        if known is not None:
            return known
        model = self._find(identity)
        if model is None:
            await self._refresh(missed=True)
            model = self._find(identity) or self._guess(identity)
        if model is None:
            raise self._unknown(identity)
        if len(self._resolved) >= MOST_REMEMBERED:
            self._resolved.clear()
        self._resolved[identity] = model
        return model

    def _find(self, identity: str) -> LanguageModel | None:
        """A name that is known for sure."""
        if identity == VERBATIM:
            return self._verbatim
        settings = self._configured.get(identity)
        if settings is not None and (settings.upstream or settings.model):
            return self._find_configured(settings)
        if identity in self._systems:
            return self._find_default()
        return self._find_listed(identity, identity, settings)

    def _find_configured(self, settings: ModelSettings) -> LanguageModel | None:
        name = settings.model or settings.id
        if settings.upstream:
            return self._upstreams[settings.upstream].model(self._label(settings, name), name, settings)
        if name == VERBATIM:
            return self._verbatim
        if name != settings.id and name in self._configured:
            return self._find(name)
        if len(self._upstreams) == 1:
            only = next(iter(self._upstreams.values()))
            return only.model(self._label(settings, name), name, settings)
        return self._find_listed(self._label(settings, name), name, settings)

    def _label(self, settings: ModelSettings, name: str) -> str:
        """Under which name usage is reported: the configured one, of a system the one of the model behind it."""
        return name if settings.id in self._systems else settings.id

    def _find_default(self) -> LanguageModel | None:
        """The model behind a system that is not configured; the built-in one only where there is no upstream."""
        default = self.default
        return None if default == VERBATIM and self._upstreams else self._find(default)

    def _upstream_default(self) -> str | None:
        for name, upstream in self._upstreams.items():
            default = upstream.default
            if default is not None:
                first = self._place(default)
                return default if first is None or first[0] is upstream else f"{name}/{default}"
        return None

    def _find_listed(self, label: str, name: str, settings: ModelSettings | None) -> LanguageModel | None:
        place = self._place(name)
        return place[0].model(label, place[1], settings) if place else None

    def _place(self, name: str) -> tuple[_Upstream, str] | None:
        """The upstream that lists a name, and the name there."""
        whole = ((upstream, name) for upstream in self._upstreams.values() if name in upstream.shelf.models)
        parts = ((upstream, rest) for upstream, rest in self._addressed(name) if rest in upstream.shelf.models)
        return next(itertools.chain(whole, parts), None)

    def _addressed(self, name: str) -> Iterator[tuple[_Upstream, str]]:
        """Upstreams that a name begins with, and the rest of it."""
        for word, upstream in self._upstreams.items():
            if name.startswith(f"{word}/"):
                yield upstream, name[len(word) + 1 :]

    def _guess(self, identity: str) -> LanguageModel | None:
        """The first upstream without a list that may know the name; a default is as good as a list."""
        settings = self._configured.get(identity)
        if identity in self._systems and not (settings and settings.model):
            return None
        name = settings.model or identity if settings else identity
        everywhere = ((upstream, name) for upstream in self._upstreams.values())
        for upstream, rest in itertools.chain(self._addressed(name), everywhere):
            if not upstream.shelf.known and rest:
                return upstream.model(self._label(settings, rest) if settings else identity, rest, settings)
        return None

    def _unknown(self, identity: str) -> BelljarError:
        """What to say of a name that nobody knows."""
        errors = [upstream.shelf.error for upstream in self._upstreams.values() if upstream.shelf.error]
        if identity in self._systems:
            why = "; ".join(errors) or "the upstreams list no model that chats"
            return UpstreamUnavailable(f"no model stands behind {identity!r}: {why}")
        names = [*self._names()]
        near = difflib.get_close_matches(identity[:MOST_SHOWN], names, n=NEAR_NAMES)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        return UnknownModel(
            f"there is no model {identity[:MOST_SHOWN]!r}; {hint}GET /v1/models lists those that there are",
            model=identity[:MOST_SHOWN],
        )

    def _names(self) -> Iterator[str]:
        for upstream in self._upstreams.values():
            yield from upstream.shelf.models
        yield from (*self._configured, *self._systems, VERBATIM)

    async def _refresh(self, *, missed: bool = False) -> None:
        """Fetch the lists that are old, all at the same time."""
        shelves = [upstream.shelf for upstream in self._upstreams.values()]
        await asyncio.gather(*(shelf.refresh(missed=missed) for shelf in shelves))
        version = sum(shelf.version for shelf in shelves)
        if version != self._version:
            self._version = version
            self._resolved.clear()


def _named(info: ModelInfo, identity: str) -> ModelInfo:
    return ModelInfo(id=identity, owner=info.owner, created=info.created, extra=info.extra)


def _check(upstreams: Sequence[UpstreamSettings], models: Sequence[ModelSettings], systems: Sequence[str]) -> None:
    """Raises ValueError for names that are given twice, or that nothing has."""
    names = [settings.name for settings in upstreams]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"upstreams: there are two with the name {name!r}")
    by_id: dict[str, ModelSettings] = {}
    for settings in models:
        place = f'models."{settings.id}"'
        if settings.id == VERBATIM:
            raise ValueError(f"{place}: this name is the built-in model's; choose another")
        if settings.id in by_id:
            raise ValueError(f"{place}: this name is given twice")
        if settings.upstream and settings.upstream not in names:
            known = f"there are {', '.join(names)}" if names else "there is none"
            raise ValueError(f"{place}.upstream: there is no upstream {settings.upstream!r}; {known}")
        about = settings.upstream or settings.tools or settings.images is not None or settings.thinks
        if settings.id in systems and about and not settings.model:
            raise ValueError(f"{place}: say which model stands behind it, too: model = ...")
        by_id[settings.id] = settings
    for identity in by_id:
        _check_chain(identity, by_id)


def _check_chain(identity: str, by_id: Mapping[str, ModelSettings]) -> None:
    """Raises ValueError where names stand for each other in a circle."""
    seen: list[str] = []
    settings = by_id.get(identity)
    while settings is not None and not settings.upstream and settings.model not in (None, settings.id):
        if settings.id in seen:
            raise ValueError(f'models."{identity}": it stands for itself: {" -> ".join([*seen, settings.id])}')
        seen.append(settings.id)
        settings = by_id.get(settings.model or "")
