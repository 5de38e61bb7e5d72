"""Answers in this process: models from the settings or from what is found, and a sandbox of our own.

Promises: the session in which code runs can be read until the answer is over; nothing is started or looked for that the
question does not need.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from belljar.cli.fields import usage_error
from belljar.cli.options import PROFILE_WARNINGS
from belljar.cli.sources import Sources, read_sources, systems
from belljar.errors import UpstreamUnavailable
from belljar.events import Event
from belljar.loop import Budget
from belljar.model import Request
from belljar.sandbox.base import Limits
from belljar.sandbox.pool import Pool
from belljar.sandbox.session import GuestSession
from belljar.server.answerer import Answerer
from belljar.upstream.catalog import Catalog
from belljar.upstream.discover import describe, find_upstreams
from belljar.upstream.settings import ModelSettings, UpstreamSettings
from belljar.verbatim import ID as VERBATIM

NO_MODEL = (
    f"no model was found, so {VERBATIM} answers: it is no language model, and only runs the code that it is sent. "
    "For a real one start a local engine (Ollama, vLLM ...), set a provider's key, or give --upstream URL"
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is used: where models are (looked for where nothing is said of it), what a sandbox may use."""

    sources: Sources
    limits: Limits
    profile: str
    image: str
    max_calls: int | None

    @classmethod
    def read(cls, tables: Mapping[str, Any], limits: Limits, options: Mapping[str, Any]) -> Settings:
        """From the configuration's shared tables and the command's options. Raises ValueError."""
        urls = [options["upstream"]] if options["upstream"] else []
        return cls(
            sources=read_sources(urls, options["upstream_key"], (), tables, os.environ),
            limits=limits,
            **{name: options[name] for name in ("profile", "image", "max_calls")},
        )


class OwnPool(Pool):
    """A pool for one request: it tells which session it handed out last, so that the files in it can be read."""

    last: GuestSession | None = None

    async def acquire(self, memory: int | None = None) -> GuestSession:
        """A fresh session. Raises AtCapacity, SandboxFailed, BadRequest."""
        self.last = await super().acquire(memory)
        return self.last


class Here:
    """This process as the place where a question is answered."""

    def __init__(self, settings: Settings, *, code: bool) -> None:
        """`code` says whether there is a sandbox at all."""
        self._settings = settings
        self._code = code
        self._pool = OwnPool(
            settings.image, limits=settings.limits, profile=settings.profile, ready=0, zygotes=1, preload=()
        )
        self._answerer: Answerer | None = None

    @property
    def session(self) -> GuestSession | None:
        """The session in which code ran last."""
        return self._pool.last

    async def start(self, model: str | None) -> tuple[str, list[str]]:
        """Start the sandbox, find models. Raises what Pool.start raises, and UpstreamUnavailable."""
        settings, notes = self._settings, []
        if self._code:
            notes += [f"warning: {text}" for name, text in PROFILE_WARNINGS.items() if name == settings.profile]
            await self._pool.start()
        upstreams = settings.sources.upstreams
        if not upstreams and model != VERBATIM:
            upstreams = await find_upstreams(os.environ)
            notes += [f"found {describe(upstream)}" for upstream in upstreams]
        catalog = _catalog(upstreams, settings.sources.models)
        self._answerer = Answerer(catalog, self._pool, Budget(calls=settings.max_calls) if settings.max_calls else None)
        await catalog.start()
        if model is None:
            model = _default(catalog)
            notes.append(NO_MODEL if model == VERBATIM else f"asking {model}")
        return model, notes

    async def answer(self, request: Request) -> AsyncGenerator[Event, None]:
        """The answer, as it comes. Ends in one Finished or Failed."""
        assert self._answerer is not None
        async with aclosing(self._answerer.answer(request)) as events:
            async for event in events:
                yield event

    async def close(self) -> None:
        """End the sandbox and every connection."""
        if self._answerer is not None:
            await self._answerer.close()
        else:
            await self._pool.close()


def _catalog(upstreams: Sequence[UpstreamSettings], models: Sequence[ModelSettings]) -> Catalog:
    """Raises UsageError: names that do not go together."""
    try:
        return Catalog(upstreams, models, systems=systems())
    except ValueError as error:
        raise usage_error(error) from None


def _default(catalog: Catalog) -> str:
    """The model to ask where none is named. Raises UpstreamUnavailable where there are upstreams, but no list."""
    states = catalog.states
    if catalog.default == VERBATIM and states:
        reasons = "; ".join(state.error or f"{state.name} lists no models" for state in states)
        raise UpstreamUnavailable(f"{reasons}. Name a model with --model")
    return catalog.default
