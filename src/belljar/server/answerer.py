"""The answerer: a neutral request in, neutral events out, nothing is kept. What server and command line share.

Promises: `answer` raises nothing but cancellation, what goes wrong is a Failed; a request that would need a sandbox
when none can be had is refused before a model is asked; closing the stream gives everything back. Not covered: HTTP;
what is kept (server.service).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from belljar import registry
from belljar.conversation import attach
from belljar.errors import AtCapacity, BadRequest, UnknownModel
from belljar.events import Event
from belljar.loop import Budget, Job, Models, run_job
from belljar.model import Message, ModelInfo, Request
from belljar.sandbox.base import Source
from belljar.sandbox.pool import Pool
from belljar.tools.base import Tool, ToolFactory
from belljar.upstream.catalog import Catalog


class Answerer:
    """Models, sandboxes and tools under one roof."""

    def __init__(self, catalog: Catalog, pool: Pool, budget: Budget | None = None) -> None:
        self.catalog = catalog
        self.pool = pool
        self._budget = budget or Budget()
        self._factories: dict[str, ToolFactory] = registry.find("belljar.tools", "TOOL")

    async def close(self) -> None:
        """End every sandbox and connection. Never raises."""
        await self.catalog.close()
        await self.pool.close()

    def answer(self, request: Request) -> AsyncGenerator[Event, None]:
        """The answer, as it comes. Ends in one Finished or Failed."""
        return run_job(lambda: self._prepare(request), self._budget)

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
        """What the sandboxes are doing now."""
        return self.pool.facts

    async def _prepare(self, request: Request) -> Job:
        """Who answers, and with what. Raises UnknownModel, AtCapacity, BadRequest."""
        models = await self._models(request)
        request, tools = self._equip(request, request.messages, self.pool)
        return Job(request=request, models=models, tools=tools)

    async def _models(self, request: Request) -> Models:
        """Who plans and who answers. Raises UnknownModel."""
        planner = await self.catalog.resolve(request.planning or request.model)
        answering = request.answering or self.catalog.answering_for(request.model)
        return Models(planner=planner, answerer=await self.catalog.resolve(answering) if answering else planner)

    def _equip(
        self, request: Request, messages: tuple[Message, ...], source: Source, *, warm: bool = False
    ) -> tuple[Request, list[Tool]]:
        """The request with these messages and their files taken out, and the tools that hold the files. `warm` says
        that the source needs no further sandbox. Raises AtCapacity, BadRequest.
        """
        if request.builtin and self.pool.is_full and not warm:
            raise AtCapacity("at capacity: all sandboxes are in use, and the queue is full")
        messages, files = attach(messages, to_sandbox=bool(request.builtin))
        if files:
            self._check_size(sum(len(file.data) for file in files))
        tools = [self._factories[name](source, files) for name in request.builtin]
        return replace(request, messages=messages) if messages is not request.messages else request, tools

    def _check_size(self, size: int) -> None:
        room = self.pool.limits.files_bytes
        if size > room:
            raise BadRequest(f"the attached files have {size:,} bytes; a sandbox takes {room:,}")
