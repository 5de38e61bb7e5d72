"""The service: the answerer with all that is kept: answers to be gone on from, uploaded files, containers.

Promises: those of the answerer; what a request names of what was kept is put into it before the loop sees it. Not
covered: HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from belljar import registry
from belljar.errors import BelljarError, UpstreamError
from belljar.events import Event, Failed, Housed, TurnEnded
from belljar.loop import Budget, Job, run_job
from belljar.model import FileRef, Message, Request, Usage
from belljar.sandbox.image import home as data_home
from belljar.sandbox.pool import Pool
from belljar.server.answerer import Answerer
from belljar.server.containers import Containers
from belljar.server.files import FileStore
from belljar.server.memory import Asked, Memory, Record
from belljar.server.settings import Keep
from belljar.store.store import Room, Store
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


class Service(Answerer):
    """Models, sandboxes, tools and what is kept under one roof."""

    def __init__(
        self,
        catalog: Catalog,
        pool: Pool,
        budget: Budget | None = None,
        keep: Keep | None = None,
        store: Store | None = None,
    ) -> None:
        """`store` None: what is kept lies in a temporary folder, and is gone when the service closes."""
        super().__init__(catalog, pool, budget)
        keep = keep or Keep()
        self.store = store or Store(None, room=room_of(keep))
        self.files = FileStore(self.store, keep)
        self.containers = Containers(self.store, pool, self.files, keep)
        dialects = registry.find("belljar.dialects", "DIALECT").values()
        self.memory = Memory(self.store, {each.name: each.lenient() for each in dialects}, keep.keep_hours * HOUR)

    async def start(self) -> None:
        """Open the store, start the sandboxes, look for models. Raises HostError, as the three do."""
        await self.store.open()
        await self.pool.start()
        await self.catalog.start()

    async def close(self) -> None:
        """End every sandbox and connection. Never raises."""
        await self.memory.close()
        await self.containers.close()
        await super().close()
        await self.files.close()
        await self.store.close()

    def answer(self, request: Request, asked: Asked | None = None) -> AsyncGenerator[Event, None]:
        """The answer, as it comes. Ends in one Finished or Failed. What is `asked` may go on from what was kept."""
        return run_job(lambda: self._prepare_asked(request, asked), self._budget)

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
        request, _ = self._equip(replace(request, builtin=()), await self._fetch(request), self.pool)
        request = replace(request, options={**request.options, "max_completion_tokens": 1}, stream=False)
        usage: Usage | None = None
        async with aclosing(model.turn(request, 0)) as events:
            async for event in events:
                if isinstance(event, TurnEnded):
                    usage = event.usage
        if usage is None:
            raise UpstreamError(f"the upstream of {request.model} does not count tokens")
        return usage.prompt_tokens

    def facts(self) -> Mapping[str, Any]:
        """What the sandboxes are doing now, for health checks and metrics. `idle` ones are of containers."""
        pool, idle = self.pool.facts, self.containers.facts["idle"]
        return pool | {"in_use": int(pool["in_use"]) - idle, "idle": idle}

    async def _prepare_asked(self, request: Request, asked: Asked | None) -> Job:
        """Who answers, and with what. Raises UnknownModel, UnknownItem, AtCapacity, BadRequest."""
        if asked is not None:
            request = await self.memory.extend(request, asked.dialect)
        models = await self._models(request)
        messages = await self._fetch(request)
        if not request.builtin or request.container is None:
            request, tools = self._equip(request, messages, self.pool)
            return Job(request=request, models=models, tools=tools)
        source = await self.containers.source(request.owner, request.container)
        request, tools = self._equip(request, messages, source, warm=self.containers.has_session(source.id))
        housed = Housed(container=source.id, files=tuple(source.files))
        return Job(request=request, models=models, tools=tools, housed=housed)

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
