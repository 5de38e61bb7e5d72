"""An upstream's model as the loop sees it: with tools natively or prompted, with pictures or without.

Promises: where nothing is configured, what an upstream refuses before it has answered anything is asked again without
(tools become prompted, pictures a note, a system message the beginning of the user's), and remembered, so that it costs
one request in a process's life. Tools and system message of a request without `python`, or with functions of the
client's own, are never changed: the refusal is passed on.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from msgspec.structs import replace

from belljar.errors import UpstreamError, UpstreamTimeout, UpstreamUnavailable
from belljar.events import TurnEvent
from belljar.model import CallResult, Image, Request, Role
from belljar.upstream import traits
from belljar.upstream.prompted import TOOL, PromptedModel, fold_system

log = logging.getLogger(__name__)


class Server(Protocol):
    """What is asked of an upstream: client.Endpoint has it."""

    name: str

    def turn(
        self,
        model: str,
        request: Request,
        number: int,
        *,
        sees_images: bool,
        label: str | None = None,
        thinks: bool = False,
    ) -> AsyncGenerator[TurnEvent, None]:
        """One turn of a model; `label` is the name under which its events report it."""


@dataclass(kw_only=True, slots=True)
class Learned:
    """What an upstream has refused to do with a model so far."""

    tools: bool = False
    images: bool = False
    system: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Way:
    """How a model is to be asked. `id` is what it is called here, `model` at its upstream; `images` None goes by the
    name; `tools` is one of settings.TOOLS.
    """

    id: str
    model: str
    tools: str = "auto"
    images: bool | None = None
    thinks: bool = False


class UpstreamModel:
    """A language model at an upstream."""

    def __init__(self, server: Server, way: Way, learned: Learned | None = None) -> None:
        self._server = server
        self._way = way
        self._learned = learned or Learned()
        self._seems_to_see = traits.sees_images(way.model)

    @property
    def id(self) -> str:
        """The name under which usage is reported."""
        return self._way.id

    @property
    def sees_images(self) -> bool:
        """Whether it takes pictures: as configured, else by its name, until it refuses them."""
        if self._way.images is not None:
            return self._way.images
        return self._seems_to_see and not self._learned.images

    def turn(self, request: Request, number: int) -> AsyncGenerator[TurnEvent, None]:
        """One turn. Raises UpstreamError, BadRequest."""
        native = self._way.tools != "prompted" and not self._learned.tools
        if native and not request.functions and not _holds_images(request):
            return self.ask(request, number, sees=self.sees_images)  # nothing to adapt: no generator in between
        return self._adapted(request, number)

    async def _adapted(self, request: Request, number: int) -> AsyncGenerator[TurnEvent, None]:
        while True:
            inner = _Inner(self, sees=self._shows(request), folds=self._learned.system and _offers_python(request))
            prompted, begun = self._is_prompted(request), False
            events = (PromptedModel(inner) if prompted else inner).turn(request, number)
            try:
                async with aclosing(events):
                    async for event in events:
                        begun = True
                        yield event
                return
            except UpstreamError as error:
                if begun or not self._learn(error, request, inner, prompted=prompted):
                    raise

    def ask(self, request: Request, number: int, *, sees: bool) -> AsyncGenerator[TurnEvent, None]:
        """One turn as it is, natively."""
        way = self._way
        return self._server.turn(way.model, request, number, sees_images=sees, label=way.id, thinks=way.thinks)

    def _is_prompted(self, request: Request) -> bool:
        if self._way.tools == "auto":
            return self._learned.tools and _only_python(request)
        return self._way.tools == "prompted"

    def _shows(self, request: Request) -> bool:
        """Whether pictures are sent. A client that sends some knows its model better than a table of names."""
        if self._way.images is not None:
            return self._way.images
        return not self._learned.images and (self._seems_to_see or _client_sends_images(request))

    def _learn(self, error: UpstreamError, request: Request, asked: _Inner, *, prompted: bool) -> bool:
        """Whether a refusal says something new, so that asking again may do better."""
        if isinstance(error, UpstreamTimeout | UpstreamUnavailable):
            return False
        way, learned, message, python = self._way, self._learned, str(error), _offers_python(request)
        if way.images is None and asked.sees_images and _holds_images(request) and traits.refuses_images(message):
            learned.images, change = True, "pictures are left out"
        elif python and not asked.folds and traits.refuses_system(message):
            learned.system, change = True, "the system message is told as the user's"
        elif python and not prompted and way.tools == "auto" and traits.refuses_tools(message):
            learned.tools, change = True, "it is told of tools in words"
        else:
            return False
        log.warning("%s: %s; from now on %s", way.id, message, change)
        return True


class _Inner:
    """The model asked natively, as PromptedModel wants it. `folds` puts the system message into the user's."""

    def __init__(self, model: UpstreamModel, *, sees: bool, folds: bool) -> None:
        self.id = model.id
        self.sees_images = sees
        self.folds = folds
        self._model = model

    def turn(self, request: Request, number: int) -> AsyncGenerator[TurnEvent, None]:
        if self.folds:
            request = replace(request, messages=fold_system(request.messages))
        return self._model.ask(request, number, sees=self.sees_images)


def _offers_python(request: Request) -> bool:
    return bool(request.functions) and _only_python(request)


def _only_python(request: Request) -> bool:
    return all(function.name == TOOL for function in request.functions)


def _holds_images(request: Request) -> bool:
    return any(
        isinstance(part, Image) or (isinstance(part, CallResult) and bool(part.images))
        for message in request.messages
        for part in message.parts
    )


def _client_sends_images(request: Request) -> bool:
    return any(
        isinstance(part, Image)
        for message in request.messages
        if message.role is not Role.TOOL
        for part in message.parts
    )
