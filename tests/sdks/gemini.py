"""Google's SDK for Python, unchanged, in its modes; what is seen of an answer, streaming or not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import google.oauth2.credentials
from google import genai
from google.genai import types

from sdks.ways import CERTIFICATES, KEY

# What the SDK does to aiohttp, which it uses for coroutines where it is installed.
AIOHTTP = "ignore:Inheritance class AiohttpClientSession:DeprecationWarning"
TOOL = types.Tool(code_execution=types.ToolCodeExecution())
MODES: dict[str, dict[str, Any]] = {
    "gemini": {"api_key": KEY},
    "express": {"vertexai": True, "api_key": KEY},
    "project": {
        "vertexai": True,
        "project": "some-project",
        "location": "us-central1",
        "credentials": google.oauth2.credentials.Credentials("token"),
    },
}


@dataclass
class Seen:
    """What a client saw. `parts` are joined as the chunks of a stream are."""

    parts: list[types.Part] = field(default_factory=list)
    finish: str | None = None
    usage: types.GenerateContentResponseUsageMetadata | None = None
    chunks: int = 0

    def take(self, answer: types.GenerateContentResponse) -> None:
        """A response, or a chunk of one."""
        self.chunks += 1
        self.usage = answer.usage_metadata or self.usage
        [candidate] = answer.candidates or []
        assert candidate.content is not None
        assert candidate.content.role == "model"
        for part in candidate.content.parts or []:
            self.parts.append(part)
        if candidate.finish_reason is not None:
            assert self.finish is None
            self.finish = candidate.finish_reason.name

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if part.text and not part.thought)

    @property
    def thoughts(self) -> str:
        return "".join(part.text for part in self.parts if part.text and part.thought)

    @property
    def codes(self) -> list[str | None]:
        return [part.executable_code.code for part in self.parts if part.executable_code]

    @property
    def results(self) -> list[types.CodeExecutionResult]:
        return [part.code_execution_result for part in self.parts if part.code_execution_result]

    @property
    def calls(self) -> list[types.FunctionCall]:
        return [part.function_call for part in self.parts if part.function_call]

    @property
    def pictures(self) -> list[types.Blob]:
        return [part.inline_data for part in self.parts if part.inline_data]


def client(url: str, mode: str = "gemini", **more: Any) -> genai.Client:
    """A client. It must be kept: one that is thrown away ends its own streams."""
    options = types.HttpOptions(
        base_url=url, client_args={"verify": CERTIFICATES}, async_client_args={"verify": CERTIFICATES}, **more
    )
    return genai.Client(**MODES[mode], http_options=options)


def gathered(answers: Iterable[types.GenerateContentResponse]) -> Seen:
    """A stream, or a response in a list."""
    seen = Seen()
    for answer in answers:
        seen.take(answer)
    return seen


def _whole(url: str, mode: str, request: dict[str, Any]) -> Seen:
    with client(url, mode) as sdk:
        return gathered([sdk.models.generate_content(**request)])


def _stream(url: str, mode: str, request: dict[str, Any]) -> Seen:
    with client(url, mode) as sdk:
        return gathered(sdk.models.generate_content_stream(**request))


async def _async_whole(url: str, mode: str, request: dict[str, Any]) -> Seen:
    async with client(url, mode).aio as sdk:
        return gathered([await sdk.models.generate_content(**request)])


async def _async_stream(url: str, mode: str, request: dict[str, Any]) -> Seen:
    async with client(url, mode).aio as sdk:
        return gathered([chunk async for chunk in await sdk.models.generate_content_stream(**request)])


WAYS: dict[str, Callable[[str, str, dict[str, Any]], Seen]] = {
    "whole": _whole,
    "stream": _stream,
    "async": lambda *given: asyncio.run(_async_whole(*given)),
    "async stream": lambda *given: asyncio.run(_async_stream(*given)),
}


def ask(url: str, way: str, model: str, contents: Any = "Go on.", mode: str = "gemini", **config: Any) -> Seen:
    """Ask, in one of WAYS; `config` are fields of GenerateContentConfig."""
    settings = types.GenerateContentConfig(**config)
    return WAYS[way](url, mode, {"model": model, "contents": contents, "config": settings})


def run(url: str, way: str, code: str, *files: types.Part) -> Seen:
    """Run code, by the model that does nothing else."""
    return ask(url, way, "belljar/verbatim", [*files, f"```python\n{code}\n```"], tools=[TOOL])
