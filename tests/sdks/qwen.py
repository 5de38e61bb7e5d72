"""Every official way from Python to ask a Qwen model, and what each of them saw, in one form.

The vendor's SDK has two clients: the older one (classes with `call`), which raises nothing and gives errors as values,
and `dashscope.Client`, which raises. The compatible mode is asked by OpenAI's SDK and by `dashscope.Client` as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dashscope
import openai
from dashscope.api_entities.aio_session import close_shared_aio_session
from dashscope.v2.errors import DashScopeError

from belljar.scripted import Counts, FunctionCall, Turn, fails, plain
from belljar.scripted.scripts import Script, calls_made
from sdks.script import CUT, calls_weather, run_python, says_what_it_was_told, tool_outputs
from sdks.ways import CERTIFICATES
from servers import Belljar, start_belljar

KEY = "any-key"
MAX, PLUS = "qwen3-max-2026-01-23", "qwen3.5-plus"  # of the guide: the first runs code while thinking only
CODE = "print(12**3)"
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}


def computes(body: Any) -> Turn:
    """Thinks, runs code as often as the question says, and answers with what it printed."""
    question = next(message["content"] for message in body["messages"] if message["role"] == "user")
    codes = [CODE, "print(21)"] if "twice" in str(question) else [CODE]
    made = calls_made(body)
    if body.get("tools") and made < len(codes):
        return Turn(reasoning="Let me compute.", calls=(run_python(codes[made], made),), usage=Counts(reasoning=2))
    answer = f"It is {tool_outputs(body)[-1]}." if made else "I guess 1728."
    return Turn(reasoning="So.", text=answer, usage=Counts(prompt=20, reasoning=1))


QWEN_MODELS: Script = {
    MAX: computes,
    PLUS: computes,
    "qwen-weather": calls_weather,
    "qwen-echo": says_what_it_was_told,
    "qwen-json": plain('{"answer": 42}'),
    "qwen-cut": CUT,
    "qwen-slow": plain("At last.", delay=0.15),
    "qwen-long": Turn(text="word " * 6, pause=0.07),
    "qwen-refused": fails(429, {"error": {"message": "too fast", "type": "x", "code": "y", "param": None}}),
    "qwen-stranger": Turn(calls=(FunctionCall(name="launch_rocket", arguments="{}"),)),
}


@contextmanager
def qwen_server() -> Iterator[Belljar]:
    """A server over these models."""
    with start_belljar(QWEN_MODELS, upstream={"retries": 0}) as running:
        yield running


@dataclass
class Seen:
    """What a client has seen. `codes` is None where this client does not show them; `error` (status, code, message)."""

    content: str = ""
    reasoning: str = ""
    codes: list[str] | None = None
    runs: int = 0
    finish: str | None = None
    tokens: tuple[int, int, int] = (0, 0, 0)
    calls: dict[int, dict[str, str]] = field(default_factory=dict)
    ids: set[str] = field(default_factory=set)
    frames: int = 0
    error: tuple[int, str | None, str] | None = None


Request = Mapping[str, Any]
Way = Callable[[str, Request], Seen]


def calls_back(seen: Seen, result: str) -> list[dict[str, Any]]:
    """The messages that send an answer's calls back, each with this result."""
    calls = [
        {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
        for call in seen.calls.values()
    ]
    results = [{"role": "tool", "content": result, "tool_call_id": call["id"]} for call in calls]
    return [{"role": "assistant", "content": seen.content, "tool_calls": calls}, *results]


def user(text: str) -> list[dict[str, Any]]:
    """A conversation of one message."""
    return [{"role": "user", "content": text}]


# --- the older client -------------------------------------------------------------------------------------------------


def _take(seen: Seen, response: Any, *, cumulative: bool) -> None:
    """One response of the older client, as its users read it."""
    if response.status_code != 200:
        seen.error = (response.status_code, response.code, response.message)
        return
    seen.frames += 1
    seen.ids.add(response.request_id)
    choice = response.output.choices[0]
    content = choice.message.content
    if isinstance(content, list):
        content = "".join(part["text"] for part in content)
    reasoning = choice.message.get("reasoning_content") or ""
    seen.content = content if cumulative else seen.content + content
    seen.reasoning = reasoning if cumulative else seen.reasoning + reasoning
    seen.codes = [entry["code_interpreter"]["code"] for entry in response.output.get("tool_info") or ()]
    usage = response.usage
    seen.runs = (usage.get("plugins") or {}).get("code_interpreter", {}).get("count", 0)
    seen.tokens = (usage.input_tokens, usage.output_tokens, usage.total_tokens)
    if cumulative:
        seen.calls.clear()
    _take_calls(seen, choice.message.get("tool_calls"))
    seen.finish = choice.finish_reason


def _take_calls(seen: Seen, calls: Sequence[Mapping[str, Any]] | None) -> None:
    """Calls of the client's functions, or more of them."""
    for place, call in enumerate(calls or ()):
        index = call.get("index")
        known = seen.calls.setdefault(place if index is None else index, {"id": "", "name": "", "arguments": ""})
        known["id"] = known["id"] or call.get("id") or ""
        for name in ("name", "arguments"):
            known[name] += call["function"].get(name) or ""


def _older(listed: bool, **more: Any) -> Way:
    """`call`; a stream where `stream` is in `more`, which the SDK merges where `incremental_output` is False."""
    cumulative = not more.get("incremental_output", False)

    def ask(url: str, request: Request) -> Seen:
        seen = Seen()
        kind = dashscope.MultiModalConversation if listed else dashscope.Generation
        answer = kind.call(**_arguments(url, request, listed) | more)
        for response in answer if more.get("stream") else [answer]:
            _take(seen, response, cumulative=cumulative)
        return seen

    return ask


def _older_async(listed: bool, **more: Any) -> Way:
    cumulative = not more.get("incremental_output", False)

    async def work(url: str, request: Request) -> Seen:
        seen = Seen()
        kind = dashscope.AioMultiModalConversation if listed else dashscope.AioGeneration
        try:
            answer = await kind.call(**_arguments(url, request, listed) | more)
            if not more.get("stream"):
                _take(seen, answer, cumulative=True)
                return seen
            async for response in answer:
                _take(seen, response, cumulative=cumulative)
            return seen
        finally:
            await close_shared_aio_session()

    return lambda url, request: asyncio.run(work(url, request))


def _arguments(url: str, request: Request, listed: bool) -> dict[str, Any]:
    """A request as keyword arguments of `call`."""
    arguments = {"api_key": KEY, "base_address": f"{url}/api/v1", **request}
    if listed:
        messages = [{**message, "content": _listed(message.get("content"))} for message in request["messages"]]
        return arguments | {"messages": messages}
    return arguments | {"result_format": "message"}


def _listed(content: Any) -> Any:
    return [{"text": content}] if isinstance(content, str) else content or []


# --- the newer client -------------------------------------------------------------------------------------------------

PATHS = {"native": "/api/v1", "openai": "/compatible-mode/v1"}
TYPED = ("model", "messages", "enable_thinking", "tools", "tool_choice", "response_format", "max_tokens", "temperature")


def _newer(protocol: str, *, stream: bool, listed: bool = False) -> Way:
    """`dashscope.Client`: it has no place for the code, and keeps the plug-ins' counts."""

    def ask(url: str, request: Request) -> Seen:
        typed = {name: value for name, value in request.items() if name in TYPED}
        extra = {name: value for name, value in request.items() if name not in TYPED}
        client = dashscope.Client(api_key=KEY, base_url=url + PATHS[protocol], protocol=protocol, max_retries=0)
        chat = client.multimodal.chat if listed else client.chat.completions
        seen = Seen()
        try:
            answer = chat.create(**typed, stream=stream, parameters=extra)
            for part in answer if stream else [answer]:
                _take_newer(seen, part)
        except DashScopeError as error:
            seen.error = (error.status_code or 0, error.code, error.message)
        finally:
            client.close()
        return seen

    return ask


def _newer_async(url: str, request: Request) -> Seen:
    """`dashscope.AsyncClient`, native, as a stream."""

    async def work() -> Seen:
        seen = Seen()
        fields = {name: value for name, value in request.items() if name in TYPED}
        extra = {name: value for name, value in request.items() if name not in TYPED}
        base = url + PATHS["native"]
        async with dashscope.AsyncClient(api_key=KEY, base_url=base, protocol="native", max_retries=0) as client:
            try:
                async for part in await client.chat.completions.create(**fields, stream=True, parameters=extra):
                    _take_newer(seen, part)
            except DashScopeError as error:
                seen.error = (error.status_code or 0, error.code, error.message)
        return seen

    return asyncio.run(work())


def _take_newer(seen: Seen, part: Any) -> None:
    seen.frames += 1
    seen.ids.add(part.request_id)
    if part.usage is not None:
        seen.tokens = (part.usage.input_tokens, part.usage.output_tokens, part.usage.total_tokens)
        seen.runs = (getattr(part.usage, "plugins", None) or {}).get("code_interpreter", {}).get("count", 0)
    for choice in part.choices:
        said = choice.delta if hasattr(choice, "delta") else choice.message
        content = said.content or ""
        if isinstance(content, list):
            content = "".join(piece["text"] for piece in content)
        seen.content += content
        seen.reasoning += said.reasoning_content or ""
        _take_calls(seen, [call if isinstance(call, dict) else call.model_dump() for call in said.tool_calls or ()])
        seen.finish = choice.finish_reason or seen.finish


# --- OpenAI's client --------------------------------------------------------------------------------------------------

EXTRA = ("enable_thinking", "enable_code_interpreter", "thinking_budget", "enable_search", "top_k")


def openai_client(url: str) -> openai.OpenAI:
    """The SDK, with the base that the vendor names for it."""
    http = openai.DefaultHttpxClient(verify=CERTIFICATES)
    return openai.OpenAI(api_key=KEY, base_url=url + PATHS["openai"], max_retries=0, http_client=http)


def _fields(request: Request) -> dict[str, Any]:
    extra = {name: value for name, value in request.items() if name in EXTRA}
    return {name: value for name, value in request.items() if name not in EXTRA} | {"extra_body": extra}


def _openai_whole(url: str, request: Request) -> Seen:
    seen = Seen()
    with openai_client(url) as client:
        try:
            _take_openai(seen, client.chat.completions.create(**_fields(request)), "message")
        except openai.APIError as error:
            _fail_openai(seen, error)
    return seen


def _openai_stream(url: str, request: Request) -> Seen:
    seen = Seen()
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    with openai_client(url) as client:
        try:
            for chunk in client.chat.completions.create(**_fields(request), **usage):
                _take_openai(seen, chunk, "delta")
        except openai.APIError as error:
            _fail_openai(seen, error)
    return seen


def _openai_async(url: str, request: Request) -> Seen:
    async def work() -> Seen:
        seen = Seen()
        http = openai.DefaultAsyncHttpxClient(verify=CERTIFICATES)
        base = url + PATHS["openai"]
        async with openai.AsyncOpenAI(api_key=KEY, base_url=base, max_retries=0, http_client=http) as client:
            try:
                usage = {"stream": True, "stream_options": {"include_usage": True}}
                async for chunk in await client.chat.completions.create(**_fields(request), **usage):
                    _take_openai(seen, chunk, "delta")
            except openai.APIError as error:
                _fail_openai(seen, error)
        return seen

    return asyncio.run(work())


def _take_openai(seen: Seen, part: Any, field_name: str) -> None:
    seen.frames += 1
    seen.ids.add(part.id)
    if part.usage is not None:
        seen.tokens = (part.usage.prompt_tokens, part.usage.completion_tokens, part.usage.total_tokens)
        seen.runs = (getattr(part.usage, "plugins", None) or {}).get("code_interpreter", {}).get("count", 0)
    for choice in part.choices:
        said = getattr(choice, field_name)
        seen.content += said.content or ""
        seen.reasoning += getattr(said, "reasoning_content", None) or ""
        _take_calls(seen, [call.to_dict() for call in said.tool_calls or ()])
        seen.finish = choice.finish_reason or seen.finish


def _fail_openai(seen: Seen, error: openai.APIError) -> None:
    status = error.status_code if isinstance(error, openai.APIStatusError) else 0
    seen.error = (status, error.code, error.message)


# --- all of them ------------------------------------------------------------------------------------------------------

FULL = {"stream": True, "incremental_output": False}
STEPS = {"stream": True, "incremental_output": True}

NATIVE: dict[str, Way] = {
    "Generation": _older(False),
    "Generation, streaming": _older(False, **STEPS),
    "Generation, streaming, merged": _older(False, **FULL),
    "AioGeneration": _older_async(False),
    "AioGeneration, streaming": _older_async(False, **STEPS),
    "AioGeneration, streaming, merged": _older_async(False, **FULL),
    "MultiModalConversation": _older(True),
    "MultiModalConversation, streaming": _older(True, **STEPS),
    "MultiModalConversation, streaming, merged": _older(True, **FULL),
    "AioMultiModalConversation": _older_async(True),
    "AioMultiModalConversation, streaming": _older_async(True, **STEPS),
    "Client": _newer("native", stream=False),
    "Client, async, streaming": _newer_async,
    "Client, streaming": _newer("native", stream=True),
    "Client, multimodal": _newer("native", stream=False, listed=True),
    "Client, multimodal, streaming": _newer("native", stream=True, listed=True),
}
COMPATIBLE: dict[str, Way] = {
    "openai": _openai_whole,
    "openai, streaming": _openai_stream,
    "async openai, streaming": _openai_async,
    "Client, compatible": _newer("openai", stream=False),
    "Client, compatible, streaming": _newer("openai", stream=True),
}
WAYS = NATIVE | COMPATIBLE
STREAMS = [name for name in WAYS if "streaming" in name]
