"""What can be said of upstreams and models, as frozen values, and how it is read from the configuration's tables:

    [upstreams.local]
    url = "http://127.0.0.1:8000/v1"

    [models."groq/compound"]
    upstream = "local"
    model = "Qwen/Qwen3-32B"

Promises: a value that cannot be is refused with a ValueError that names its place and what to change; a key is never
part of a message or a repr. Nothing is read from the environment but the variables that `key_env` names.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, get_type_hints
from urllib.parse import SplitResult, urlsplit

from belljar.upstream.client import Timeouts

TOOLS = ("auto", "native", "prompted")
_NAME = re.compile(r"[\w.:-]+")
_ENDINGS = ("/chat/completions", "/models")  # of addresses that were copied whole
_SECONDS = tuple(f.name for f in fields(Timeouts))


@dataclass(frozen=True, kw_only=True)
class UpstreamSettings:
    """A server that speaks OpenAI chat completions.

    `url` is its base, as the SDKs take it; without a path, /v1 is added. `tools` says how its models are offered tools:
    natively, prompted (in words, the first Python block of an answer is the call), or auto: natively until the
    upstream refuses. `default` is the model to use where none is named, else the first chat model of its list.
    `origin` is where these settings come from, for people.
    """

    name: str
    url: str
    key: str | None = field(default=None, repr=False)
    tools: str = "auto"
    images: bool | None = None  # whether its models see; None goes by their names
    default: str | None = None
    retries: int = 2
    timeouts: Timeouts = field(default_factory=Timeouts)
    origin: str = "configured"

    def __post_init__(self) -> None:
        """Check, and bring the URL into one form."""
        place = f"upstreams.{self.name}"
        if not _NAME.fullmatch(self.name):
            raise ValueError(f"upstreams: {self.name!r} is no name; use letters, digits and any of . _ - :")
        _check_word(f"{place}.tools", self.tools, TOOLS)
        if self.retries < 0:
            raise ValueError(f"{place}.retries: it must not be below 0")
        for name in _SECONDS:
            if getattr(self.timeouts, name) <= 0:
                raise ValueError(f"{place}.{name}: it must be above 0")
        if self.key is not None and not re.fullmatch(r"[!-~]+", self.key):
            raise ValueError(f"{place}.key: it holds a character that no key can have, as a blank or a line break")
        object.__setattr__(self, "url", check_url(self.url, f"{place}.url"))

    @property
    def host(self) -> str:
        """Host and port of the URL."""
        return urlsplit(self.url).netloc


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """A name that clients may ask for, and what stands behind it.

    `model` is its name at the upstream (the same one where None); without an `upstream`, the first that lists it.
    `tools` and `images` as in UpstreamSettings. `answering` names the model that writes the last answer. `thinks` says
    that the engine's chat template opens <think> itself, so that answers begin with reasoning.
    """

    id: str
    upstream: str | None = None
    model: str | None = None
    tools: str | None = None
    images: bool | None = None
    answering: str | None = None
    thinks: bool = False

    def __post_init__(self) -> None:
        """Check what the types do not say."""
        place = f'models."{self.id}"'
        if not self.id.strip():
            raise ValueError("models: a model needs a name")
        if self.tools is not None:
            _check_word(f"{place}.tools", self.tools, TOOLS)
        for name in ("model", "answering"):
            if getattr(self, name) == "":
                raise ValueError(f"{place}.{name}: it is empty; leave it out or name a model")


def check_url(url: str, place: str) -> str:
    """The URL in one form. Raises ValueError, with the `place`, for what is no base URL."""
    parts = _split(url.strip())
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{place}: {_shown(url)} is no URL of a server; write it as http://127.0.0.1:8000/v1")
    if parts.username is not None:
        raise ValueError(f"{place}: it holds a user name or password; put a key into `key` or `key_env` instead")
    if parts.fragment:
        raise ValueError(f"{place}: {_shown(url)} has a fragment; leave out what follows the #")
    try:
        _ = parts.port
    except ValueError:
        raise ValueError(f"{place}: {_shown(url)} has a port that is none; they go up to 65535") from None
    path = parts.path.rstrip("/")
    for ending in _ENDINGS:
        path = path.removesuffix(ending)
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}{path or '/v1'}{query}"


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:  # half of an IPv6 address
        return None


def _shown(url: str) -> str:
    """A URL for a message: without what may be a secret in it."""
    return repr(re.sub(r"//[^/@]*@", "//", url.partition("?")[0])[:200])


def _check_word(place: str, word: str, words: Sequence[str]) -> None:
    if word not in words:
        raise ValueError(f"{place}: {word!r} is none of {', '.join(words)}")


# --- from options and tables ------------------------------------------------------------------------------------------


def upstreams_of(urls: Iterable[str], key: str | None = None) -> list[UpstreamSettings]:
    """Upstreams that were given by their URLs alone; they are named after their hosts. One key, for all of them."""
    made: dict[str, UpstreamSettings] = {}
    for url in urls:
        base = check_url(url, "upstream")
        host = urlsplit(base).netloc.strip("[]")
        stem = re.sub(r"[^\w.:-]", "-", host) or "upstream"
        name = next(n for n in (stem, *(f"{stem}-{i}" for i in range(2, len(made) + 3))) if n not in made)
        made[name] = UpstreamSettings(name=name, url=base, key=key)
    return list(made.values())


def models_of(maps: Iterable[str]) -> list[ModelSettings]:
    """Names that were given as NAME=MODEL. Raises ValueError."""
    made = []
    for text in maps:
        name, equals, model = text.partition("=")
        if not (equals and name.strip() and model.strip()):
            raise ValueError(f"map: {text!r} is no NAME=MODEL, as my-model=Qwen/Qwen3-32B")
        made.append(ModelSettings(id=name.strip(), model=model.strip()))
    return made


def read_upstreams(tables: Any, environ: Mapping[str, str]) -> list[UpstreamSettings]:
    """The table `upstreams` of a configuration: one table for each, by name. Raises ValueError."""
    return [_read_upstream(name, table, environ) for name, table in _tables("upstreams", tables)]


def read_models(tables: Any) -> list[ModelSettings]:
    """The table `models` of a configuration: one table for each, by the name that clients use. Raises ValueError."""
    hints = get_type_hints(ModelSettings)
    made = []
    for identity, table in _tables("models", tables):
        place = f'models."{identity}"'
        values = _typed(place, table, {name: hint for name, hint in hints.items() if name != "id"})
        made.append(ModelSettings(id=identity, **values))
    return made


def _read_upstream(name: str, table: Mapping[str, Any], environ: Mapping[str, str]) -> UpstreamSettings:
    place = f"upstreams.{name}"
    hints = get_type_hints(UpstreamSettings)
    allowed = {known: hint for known, hint in hints.items() if known not in ("name", "timeouts", "origin")}
    values = _typed(place, table, {**allowed, "key_env": str, **dict.fromkeys(_SECONDS, float)})
    if "url" not in values:
        raise ValueError(f'{place}: it has no url; add url = "http://…/v1"')
    variable = values.pop("key_env", None)
    if variable is not None:
        if "key" in values:
            raise ValueError(f"{place}: it has both key and key_env; keep one of them")
        values["key"] = environ.get(variable)
        if not values["key"]:
            raise ValueError(f"{place}.key_env: the environment has no {variable}")
    seconds = {known: values.pop(known) for known in _SECONDS if known in values}
    return UpstreamSettings(name=name, timeouts=Timeouts(**seconds), **values)


def _tables(place: str, tables: Any) -> list[tuple[str, Mapping[str, Any]]]:
    if not isinstance(tables, Mapping):
        raise ValueError(f"{place}: it must hold tables, as [{place}.NAME]")
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            raise ValueError(f"{place}.{name}: it must be a table; quote names with dots or slashes")
    return list(tables.items())


def _typed(place: str, table: Mapping[str, Any], hints: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a table, each of the type that its field has. Raises ValueError."""
    values = {}
    for name, value in table.items():
        if name not in hints:
            near = difflib.get_close_matches(name, hints, n=1)
            meant = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(hints)}"
            raise ValueError(f"{place}: unknown setting {name!r}{meant}")
        values[name] = _convert(f"{place}.{name}", value, hints[name])
    return values


# The type of a field -> what a value must be, and how that is called.
_KINDS: dict[Any, tuple[type | tuple[type, ...], str]] = {
    str: (str, "a text"),
    str | None: (str, "a text"),
    bool: (bool, "true or false"),
    bool | None: (bool, "true or false"),
    int: (int, "a whole number"),
    float: ((int, float), "a number of seconds"),
}


def _convert(place: str, value: Any, hint: Any) -> Any:
    kind, called = _KINDS[hint]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{place}: it must be {called}")
    return value
