"""The service: a neutral request in, neutral events out. What every dialect, the command line and tests share.

Promises: `answer` raises nothing but cancellation, what goes wrong is a Failed; a request that would need a sandbox
when none can be had is refused before a model is asked; closing the stream gives everything back. Not covered: HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from belljar import registry
from belljar.conversation import attach
from belljar.errors import AtCapacity, BadRequest, BelljarError, UnknownModel, UpstreamError
from belljar.events import Event, Failed, Housed, TurnEnded
from belljar.loop import Budget, Job, Models, run_job
from belljar.model import FileRef, Message, ModelInfo, Request, Usage
from belljar.sandbox.base import Source
from belljar.sandbox.image import home as data_home
from belljar.sandbox.pool import Pool
from belljar.server.containers import Containers, ContainerSource
from belljar.server.files import FileStore
from belljar.server.memory import Asked, Memory, Record
from belljar.server.settings import Keep
from belljar.store.store import Room, Store
from belljar.tools.base import Tool, ToolFactory
from belljar.upstream.catalog import Catalog

HOUR = 3600.0
OWNERS = 4  # how many may use all of their room for files at once


def room_of(keep: Keep) -> Room:
    """The bounds of a store, by the settings."""
    return Room(
        answers_bytes=keep.keep_answers,
        owner_files_bytes=keep.keep_files,
        files_bytes=keep.keep_files * OWNERS,
    )


def open_store(keep: Keep) -> Store:
    """The store of the settings; it is opened when it is first used. Raises ImageError: there is no folder for it."""
    return Store(Path(keep.data) if keep.data else data_home() / "store", keep.store, room=room_of(keep))


class Service:
    """Models, sandboxes and tools under one roof."""

    def __init__(
        self,
        catalog: Catalog,
        pool: Pool,
        budget: Budget | None = None,
        keep: Keep | None = None,
        store: Store | None = None,
    ) -> None:
        """`store` None: what is kept lies in a temporary folder, and is gone when the service closes."""
        keep = keep or Keep()
        self.catalog = catalog
        self.pool = pool
        self.store = store or Store(None, room=room_of(keep))
        self.files = FileStore(self.store, keep)
        self.containers = Containers(self.store, pool, self.files, keep)
        dialects = registry.find("belljar.dialects", "DIALECT").values()
        self.memory = Memory(self.store, {each.name: each.lenient() for each in dialects}, keep.keep_hours * HOUR)
        self._budget = budget or Budget()
        self._factories: dict[str, ToolFactory] = registry.find("belljar.tools", "TOOL")

    async def start(self) -> None:
        """Open the store, start the sandboxes, look for models. Raises HostError, as the three do."""
        await self.store.open()
        await self.pool.start()
        await self.catalog.start()

    async def close(self) -> None:
        """End every sandbox and connection. Never raises."""
        await self.memory.close()
        await self.catalog.close()
        await self.containers.close()
        await self.pool.close()
        await self.files.close()
        await self.store.close()

    def answer(self, request: Request, asked: Asked | None = None) -> AsyncGenerator[Event, None]:
        """The answer, as it comes. Ends in one Finished or Failed. What is `asked` may go on from what was kept."""
        return run_job(lambda: self._prepare(request, asked), self._budget)

    async def keep(self, request: Request, asked: Asked) -> AsyncGenerator[Event, None]:
        """The answer as it comes, which is kept meanwhile. Ends in one Finished or Failed."""
        try:
            whole = await self.memory.extend(request, asked.dialect)
        except BelljarError as error:
            yield Failed(error=error)
            return
        record = self.memory.open(asked, request)
        async with aclosing(self.memory.tape(record, self.answer(whole))) as events:
            async for event in events:
                yield event

    async def begin(self, request: Request, asked: Asked) -> Record:
        """Have an answer written while nobody waits. Raises UnknownModel, UnknownItem, BadRequest, AtCapacity.

        The model is asked for a stream, so that who looks on sees what there is.
        """
        whole = replace(await self.memory.extend(request, asked.dialect), stream=True)
        await self._models(whole)
        record = self.memory.open(asked, request)
        await self.memory.play(record, self.answer(whole))
        return record

    async def count(self, request: Request, dialect: str) -> int:
        """The tokens of the prompt with all that it goes on from, as the upstream counts them: it is asked for one
        token of an answer.

        Raises UnknownModel, UnknownItem, BadRequest, UpstreamError (also where it counts nothing).
        """
        request = await self.memory.extend(request, dialect)
        model = await self.catalog.resolve(request.planning or request.model)
        request, _, _ = await self._equip(replace(request, builtin=()))
        request = replace(request, options={**request.options, "max_completion_tokens": 1}, stream=False)
        usage: Usage | None = None
        async with aclosing(model.turn(request, 0)) as events:
            async for event in events:
                if isinstance(event, TurnEnded):
                    usage = event.usage
        if usage is None:
            raise UpstreamError(f"the upstream of {request.model} does not count tokens")
        return usage.prompt_tokens

    async def models(self) -> Sequence[ModelInfo]:
        """Every model that can be asked for."""
        return await self.catalog.list()

    async def model(self, identity: str) -> ModelInfo:
        """One of them. Raises UnknownModel."""
        for info in await self.catalog.list():
            if info.id == identity:
                return info
        raise UnknownModel(f"there is no model {identity!r}; GET /v1/models lists those that there are", model=identity)

    def facts(self) -> Mapping[str, Any]:
        """What the sandboxes are doing now, for health checks and metrics. `idle` ones are of containers."""
        pool, idle = self.pool.facts, self.containers.facts["idle"]
        return pool | {"in_use": int(pool["in_use"]) - idle, "idle": idle}

    async def _prepare(self, request: Request, asked: Asked | None) -> Job:
        """Who answers, and with what. Raises UnknownModel, UnknownItem, AtCapacity, BadRequest."""
        if asked is not None:
            request = await self.memory.extend(request, asked.dialect)
        models = await self._models(request)
        request, source, tools = await self._equip(request)
        housed = Housed(container=source.id, files=tuple(source.files)) if isinstance(source, ContainerSource) else None
        return Job(request=request, models=models, tools=tools, housed=housed)

    async def _models(self, request: Request) -> Models:
        """Who plans and who answers. Raises UnknownModel."""
        planner = await self.catalog.resolve(request.planning or request.model)
        answering = request.answering or self.catalog.answering_for(request.model)
        return Models(planner=planner, answerer=await self.catalog.resolve(answering) if answering else planner)

    async def _equip(self, request: Request) -> tuple[Request, Source, list[Tool]]:
        """The request with its files taken out, where its sandbox comes from, and the tools that hold the files.

        Raises AtCapacity, BadRequest, UnknownItem.
        """
        source: Source = self.pool
        if request.builtin and request.container is not None:
            source = await self.containers.source(request.owner, request.container)
        housed = isinstance(source, ContainerSource) and self.containers.has_session(source.id)
        if request.builtin and self.pool.is_full and not housed:
            raise AtCapacity("at capacity: all sandboxes are in use, and the queue is full")
        messages, files = attach(await self._fetch(request), to_sandbox=bool(request.builtin))
        if files:
            self._check_size(sum(len(file.data) for file in files))
        tools = [self._factories[name](source, files) for name in request.builtin]
        return replace(request, messages=messages) if messages is not request.messages else request, source, tools

    async def _fetch(self, request: Request) -> tuple[Message, ...]:
        """The messages with uploaded files in the place of their names. Raises BadRequest."""
        refs = [part for message in request.messages for part in message.parts if isinstance(part, FileRef)]
        if not refs:
            return request.messages
        self._check_size(sum([(await self.files.find(request, ref)).size for ref in refs]))
        found = {ref: await self.files.parts(request, ref) for ref in refs}
        return tuple(
            replace(
                message,
                parts=tuple(
                    new for part in message.parts for new in (found[part] if isinstance(part, FileRef) else (part,))
                ),
            )
            for message in request.messages
        )

    def _check_size(self, size: int) -> None:
        room = self.pool.limits.files_bytes
        if size > room:
            raise BadRequest(f"the attached files have {size:,} bytes; a sandbox takes {room:,}")
