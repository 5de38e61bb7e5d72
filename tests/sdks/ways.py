"""Every official way from Python to ask for a chat completion, and what each of them saw, in one form.

The SDKs are unchanged and read as their users read them: attributes where they have types, dicts where they have none.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import groq
import openai

KEY = "any-key"
Request = Mapping[str, Any]


@dataclass
class Seen:
    """What a client has seen of an answer."""

    content: str = ""
    reasoning: str = ""
    tools: dict[int, dict[str, Any]] = field(default_factory=dict)
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    finish: str | None = None
    usage: Any = None
    breakdown: Any = None
    x_groq: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    ids: set[str] = field(default_factory=set)
    deltas: int = 0

    def take(self, answer: Mapping[str, Any], part: str) -> None:
        """Take in a completion (`part` is message) or one of its chunks (delta)."""
        self.ids.add(answer["id"])
        self.model = answer["model"]
        self.x_groq |= answer.get("x_groq") or {}
        self.usage = answer.get("usage") or self.x_groq.get("usage")  # streams have it there alone, as at Groq
        self.breakdown = answer.get("usage_breakdown") or self.x_groq.get("usage_breakdown") or self.breakdown
        for choice in answer["choices"]:
            self.finish = choice["finish_reason"] or self.finish
            self._take_message(choice[part])

    def _take_message(self, message: Mapping[str, Any]) -> None:
        self.deltas += 1
        self.content += message.get("content") or ""
        self.reasoning += message.get("reasoning") or ""
        for tool in message.get("executed_tools") or ():
            self.tools[tool["index"]] = tool  # sent again with more: the later one wins
        for place, call in enumerate(message.get("tool_calls") or ()):
            known = self.calls.setdefault(call.get("index") or place, {"name": "", "arguments": "", "id": None})
            function = call.get("function") or {}
            known["id"] = call.get("id") or known["id"]
            known["name"] += function.get("name") or ""
            known["arguments"] += function.get("arguments") or ""


def whole(completion: Any) -> Seen:
    """Of an SDK's completion object, or of parsed JSON."""
    seen = Seen()
    seen.take(completion if isinstance(completion, dict) else completion.to_dict(), "message")
    return seen


def gathered(chunks: Iterable[Any]) -> Seen:
    """Of a stream."""
    seen = Seen()
    for chunk in chunks:
        seen.take(chunk if isinstance(chunk, dict) else chunk.to_dict(), "delta")
    return seen


async def _gathered(chunks: AsyncIterator[Any]) -> Seen:
    return gathered([chunk async for chunk in chunks])


# --- clients ----------------------------------------------------------------------------------------------------------


CERTIFICATES = ssl.create_default_context()  # read once, as that takes longer than most tests; nothing here uses them


def groq_client(url: str, **more: Any) -> groq.Groq:
    """The Groq SDK: its base is the host alone."""
    own = {"api_key": KEY, "base_url": url, "max_retries": 0}
    return groq.Groq(**{"http_client": groq.DefaultHttpxClient(verify=CERTIFICATES)} | own | more)


def groq_async(url: str, **more: Any) -> groq.AsyncGroq:
    """The same for coroutines."""
    own = {"api_key": KEY, "base_url": url, "max_retries": 0}
    return groq.AsyncGroq(**{"http_client": groq.DefaultAsyncHttpxClient(verify=CERTIFICATES)} | own | more)


def openai_client(url: str, **more: Any) -> openai.OpenAI:
    """The OpenAI SDK, with the base that Groq's guide names for it."""
    own = {"api_key": KEY, "base_url": f"{url}/openai/v1", "max_retries": 0}
    return openai.OpenAI(**{"http_client": openai.DefaultHttpxClient(verify=CERTIFICATES)} | own | more)


def openai_async(url: str, **more: Any) -> openai.AsyncOpenAI:
    """The same for coroutines."""
    own = {"api_key": KEY, "base_url": f"{url}/openai/v1", "max_retries": 0}
    return openai.AsyncOpenAI(**{"http_client": openai.DefaultAsyncHttpxClient(verify=CERTIFICATES)} | own | more)


# --- ways -------------------------------------------------------------------------------------------------------------

EXTRA = ("compound_custom", "reasoning_format", "include_reasoning", "search_settings", "documents", "citation_options")


def _options(request: Request, headers: Mapping[str, str], *, typed: bool) -> dict[str, Any]:
    """A request as keyword arguments; what an SDK has no parameter for goes into `extra_body`."""
    extra = {} if typed else {name: value for name, value in request.items() if name in EXTRA}
    known = {name: value for name, value in request.items() if name not in extra}
    return {**known, "extra_headers": dict(headers), "extra_body": extra or None}


def _whole_way(client: Callable[..., Any], *, typed: bool) -> Callable[..., Seen]:
    def ask(url: str, request: Request, headers: Mapping[str, str]) -> Seen:
        with client(url) as sdk:
            return whole(sdk.chat.completions.create(**_options(request, headers, typed=typed)))

    return ask


def _stream_way(client: Callable[..., Any], *, typed: bool) -> Callable[..., Seen]:
    def ask(url: str, request: Request, headers: Mapping[str, str]) -> Seen:
        with client(url) as sdk:
            return gathered(sdk.chat.completions.create(stream=True, **_options(request, headers, typed=typed)))

    return ask


def _async_whole_way(client: Callable[..., Any], *, typed: bool) -> Callable[..., Seen]:
    async def ask(url: str, request: Request, headers: Mapping[str, str]) -> Seen:
        async with client(url) as sdk:
            return whole(await sdk.chat.completions.create(**_options(request, headers, typed=typed)))

    return lambda *given: asyncio.run(ask(*given))


def _async_stream_way(client: Callable[..., Any], *, typed: bool) -> Callable[..., Seen]:
    async def ask(url: str, request: Request, headers: Mapping[str, str]) -> Seen:
        async with client(url) as sdk:
            options = _options(request, headers, typed=typed)
            return await _gathered(await sdk.chat.completions.create(stream=True, **options))

    return lambda *given: asyncio.run(ask(*given))


def curl(url: str, request: Request, headers: Mapping[str, str]) -> str:
    """What curl prints, called as in the guides."""
    own = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    command = [
        *("curl", "-sS", "--max-time", "30", "-X", "POST", f"{url}/openai/v1/chat/completions"),
        *(
            "-H",
            f"Authorization: Bearer {KEY}",
            "-H",
            "Content-Type: application/json",
            *own,
            "-d",
            json.dumps(request),
        ),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _curl_whole(url: str, request: Request, headers: Mapping[str, str]) -> Seen:
    return whole(json.loads(curl(url, request, headers)))


def _curl_stream(url: str, request: Request, headers: Mapping[str, str]) -> Seen:
    frames = curl(url, {**request, "stream": True}, headers).split("\n\n")
    data = [frame.removeprefix("data: ") for frame in frames if frame.startswith("data: ")]
    assert data[-1] == "[DONE]"
    return gathered(json.loads(text) for text in data[:-1])


WAYS: dict[str, Callable[[str, Request, Mapping[str, str]], Seen]] = {
    "groq": _whole_way(groq_client, typed=True),
    "groq, streaming": _stream_way(groq_client, typed=True),
    "async groq": _async_whole_way(groq_async, typed=True),
    "async groq, streaming": _async_stream_way(groq_async, typed=True),
    "openai": _whole_way(openai_client, typed=False),
    "openai, streaming": _stream_way(openai_client, typed=False),
    "async openai": _async_whole_way(openai_async, typed=False),
    "async openai, streaming": _async_stream_way(openai_async, typed=False),
    "curl": _curl_whole,
    "curl, streaming": _curl_stream,
}


# --- what most tests ask for ------------------------------------------------------------------------------------------

VERBATIM = "belljar/verbatim"
INTERPRETER = {"type": "code_interpreter"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
SDK_WAYS = [way for way in WAYS if not way.startswith("curl")]
GROQ_WAYS = [way for way in WAYS if "groq" in way]


def user(content: Any) -> list[dict[str, Any]]:
    """A conversation of one message."""
    return [{"role": "user", "content": content}]


def ask(url: str, way: str, model: str, content: Any = "Go on.", **more: Any) -> Seen:
    """Ask one question in one of WAYS."""
    return WAYS[way](url, {"model": model, "messages": user(content), **more}, {})


def run(url: str, way: str, code: str) -> Seen:
    """Run code, by the model that does nothing else."""
    return ask(url, way, VERBATIM, f"```python\n{code}\n```", tools=[INTERPRETER])


def texts(tool: Mapping[str, Any]) -> str:
    """All words that an execution in GPT-OSS's shape shows."""
    return "".join(result.get("text") or "" for result in tool["code_results"])
