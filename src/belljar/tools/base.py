"""What a tool is. Each module of this package that has one offers its class as `TOOL`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

from belljar.execution import Event, Execution
from belljar.model import File, Function
from belljar.sandbox.base import Source


class Tool(Protocol):
    """A built-in tool for the length of one request."""

    name: str
    aliases: Sequence[str]  # other names under which models call it
    function: Function  # as a model is told of it

    @property
    def queue_seconds(self) -> float:
        """Seconds spent waiting for a sandbox so far."""

    def instructions(self, model: str) -> str:
        """What the system message says of it to this model."""

    def read(self, arguments: str) -> str:
        """The code in what the model wrote as arguments; never raises, as models write anything."""

    def run(self, code: str, seconds: float) -> AsyncGenerator[Event, None]:
        """Run it: outputs and results as they come, the Execution last. `seconds` is the most it may take.

        Raises AtCapacity, SandboxFailed; what goes wrong inside the sandbox is an outcome.
        """

    def describe(self, execution: Execution, limit: int) -> str:
        """What the model is told of an execution, in about `limit` characters at most."""

    async def close(self) -> None:
        """Give back what it holds. Never raises."""


class ToolFactory(Protocol):
    """Makes a tool for one request."""

    def __call__(self, source: Source, files: Sequence[File]) -> Tool:
        """A tool that takes its sandbox from `source` when it is first used, with the files that the client sent."""
