"""The service: a neutral request in, neutral events out. What every dialect, the command line and tests share.

Promises: `answer` raises nothing but cancellation, what goes wrong is a Failed; a request that would need a sandbox
when none can be had is refused before a model is asked; closing the stream gives everything back. Not covered: HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from msgspec.structs import replace

from belljar import registry
from belljar.conversation import attach
from belljar.dialects.base import Start
from belljar.errors import AtCapacity, BadRequest, BelljarError, UnknownModel, UpstreamError
from belljar.events import Event, Failed, TurnEnded
from belljar.loop import Budget, Job, Models, run_job
from belljar.model import FileRef, Message, ModelInfo, Request, Usage
from belljar.sandbox.pool import Pool
from belljar.server.files import FileStore
from belljar.server.memory import Memory, Record
from belljar.server.settings import Keep
from belljar.tools.base import Tool, ToolFactory
from belljar.upstream.catalog import Catalog

HOUR = 3600.0
OWNERS = 4  # how many may use all of their room for files at once


class Service:
    """Models, sandboxes and tools under one roof."""

    def __init__(self, catalog: Catalog, pool: Pool, budget: Budget | None = None, keep: Keep | None = None) -> None:
        keep = keep or Keep()
        self.catalog = catalog
        self.pool = pool
        self.files = FileStore(
            keep.keep_hours * HOUR,
            max_file=keep.keep_file,
            max_owned=keep.keep_files,
            max_all=keep.keep_files * OWNERS,
        )
        self.memory = Memory(keep.keep_hours * HOUR, keep.keep_answers)
        self._budget = budget or Budget()
        self._factories: dict[str, ToolFactory] = registry.find("belljar.tools", "TOOL")

    async def start(self) -> None:
        """Start the sandboxes and look for models. Raises IsolationUnavailable, ImageError, SandboxFailed."""
        await self.pool.start()
        await self.catalog.start()

    async def close(self) -> None:
        """End every sandbox and connection. Never raises."""
        await self.memory.close()
        await self.catalog.close()
        await self.pool.close()
        self.files.close()

    def answer(self, request: Request) -> AsyncGenerator[Event, None]:
        """The answer, as it comes. Ends in one Finished or Failed."""
        return run_job(lambda: self._prepare(request), self._budget)

    async def keep(self, request: Request, dialect: str, start: Start) -> AsyncGenerator[Event, None]:
        """The answer as it comes, which is kept meanwhile. Ends in one Finished or Failed."""
        try:
            whole = self.memory.extend(request)
        except BelljarError as error:
            yield Failed(error=error)
            return
        record = self.memory.open(dialect, request, whole, start)
        async with aclosing(self.memory.tape(record, self.answer(whole))) as events:
            async for event in events:
                yield event

    async def begin(self, request: Request, dialect: str, start: Start) -> Record:
        """Have an answer written while nobody waits. Raises UnknownModel, UnknownItem, BadRequest, AtCapacity."""
        whole = self.memory.extend(request)
        await self._models(whole)
        record = self.memory.open(dialect, request, whole, start)
        self.memory.play(record, self.answer(whole))
        return record

    async def count(self, request: Request) -> int:
        """The tokens of the prompt, as the upstream counts them: it is asked for one token of an answer.

        Raises UnknownModel, UpstreamError (also where it counts nothing).
        """
        model = await self.catalog.resolve(request.planning or request.model)
        request, _ = await self._equip(replace(request, builtin=()))
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
        """What the sandboxes are doing now, for health checks and metrics."""
        return self.pool.facts

    async def _prepare(self, request: Request) -> Job:
        """Who answers, and with what. Raises UnknownModel, UnknownItem, AtCapacity, BadRequest."""
        request = self.memory.extend(request)
        models = await self._models(request)
        request, tools = await self._equip(request)
        return Job(request=request, models=models, tools=tools)

    async def _models(self, request: Request) -> Models:
        """Who plans and who answers. Raises UnknownModel."""
        planner = await self.catalog.resolve(request.planning or request.model)
        answering = request.answering or self.catalog.answering_for(request.model)
        return Models(planner=planner, answerer=await self.catalog.resolve(answering) if answering else planner)

    async def _equip(self, request: Request) -> tuple[Request, list[Tool]]:
        """The request with its files taken out, and the tools that hold them. Raises AtCapacity, BadRequest."""
        if request.builtin and self.pool.is_full:
            raise AtCapacity("at capacity: all sandboxes are in use, and the queue is full")
        messages, files = attach(await self._fetch(request), to_sandbox=bool(request.builtin))
        if files:
            self._check_size(sum(len(file.data) for file in files))
        tools = [self._factories[name](self.pool, files) for name in request.builtin]
        return replace(request, messages=messages) if messages is not request.messages else request, tools

    async def _fetch(self, request: Request) -> tuple[Message, ...]:
        """The messages with uploaded files in the place of their names. Raises BadRequest."""
        refs = [part for message in request.messages for part in message.parts if isinstance(part, FileRef)]
        if not refs:
            return request.messages
        self._check_size(sum(self.files.find(request, ref).size for ref in refs))
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
