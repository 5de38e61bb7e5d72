"""Alibaba's compatible mode through the SDK of OpenAI."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import openai

from conformance.says import Fact
from conformance.seen import (
    FUNCTION_NAME,
    FUNCTION_PARAMETERS,
    FUNCTION_TEXT,
    PATIENCE,
    Failure,
    Question,
    Seen,
    Tokens,
    Way,
    fault_of,
)
from sdks.ways import openai_client

FUNCTION = {"name": FUNCTION_NAME, "description": FUNCTION_TEXT, "parameters": FUNCTION_PARAMETERS}
FINISHES = {"stop": "stop", "length": "length", "tool_calls": "calls"}


def client(url: str, **more: Any) -> openai.OpenAI:
    """OpenAI's, with Alibaba's path."""
    return openai_client(url, base_url=f"{url}/compatible-mode/v1", **more)


def write(question: Question) -> dict[str, Any]:
    """The request."""
    content: Any = question.text
    if question.file is not None:
        data = base64.b64encode(question.file.text.encode()).decode()
        file = {"filename": question.file.name, "file_data": f"data:{question.file.media_type};base64,{data}"}
        content = [{"type": "text", "text": question.text}, {"type": "file", "file": file}]
    request: dict[str, Any] = {"model": question.model, "messages": [{"role": "user", "content": content}]}
    if question.own:
        request["tools"] = [{"type": "function", "function": FUNCTION}]
    extra = {"enable_code_interpreter": question.code, "enable_thinking": question.thoughts}
    return request | {"extra_body": {name: True for name, wanted in extra.items() if wanted}}


def take(seen: Seen, calls: dict[int, list[str]], answer: Mapping[str, Any], part: str) -> None:
    """Take in a completion (`part` is message) or one of its chunks (delta)."""
    if usage := answer.get("usage"):
        seen.usage = Tokens(
            prompt=usage["prompt_tokens"], completion=usage["completion_tokens"], total=usage["total_tokens"]
        )
    for choice in answer["choices"]:
        message, finish = choice[part], choice["finish_reason"]
        seen.finish = FINISHES.get(finish, finish) if finish else seen.finish
        seen.text += message.get("content") or ""
        seen.reasoning += message.get("reasoning_content") or ""
        for place, call in enumerate(message.get("tool_calls") or ()):
            known = calls.setdefault(call.get("index") or place, ["", ""])
            known[0] += call["function"].get("name") or ""
            known[1] += call["function"].get("arguments") or ""


def read_error(error: openai.APIError) -> Failure:
    """An error: of a status, or in the middle of a stream, where there is none."""
    status = getattr(error, "status_code", None)
    is_server = isinstance(error, openai.InternalServerError)
    fault = fault_of(status) if status is None or not is_server else "server"
    return Failure(status=status, message=error.message, fault=fault)


def way(*, streams: bool) -> Way:
    """Of the SDK; it keeps no status of an error in mid-stream."""
    more: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if streams else {}

    def ask(url: str, question: Question) -> Seen:
        seen, calls = Seen(), dict[int, list[str]]()
        try:
            with client(url) as sdk:
                answer = sdk.chat.completions.create(**write(question), **more)
                for part in answer if streams else [answer]:
                    take(seen, calls, part.to_dict(), "delta" if streams else "message")
        except openai.APIError as error:
            seen.failure = read_error(error)
        seen.calls = [(name, json.loads(arguments)) for name, arguments in calls.values()]
        return seen

    def leave(url: str, question: Question) -> None:
        with client(url, **({} if streams else {"timeout": PATIENCE})) as sdk:
            try:
                answer = sdk.chat.completions.create(**write(question), **more)
            except openai.APITimeoutError:
                return
            assert streams, "it should have taken longer"
            next(chunk for chunk in answer if chunk.choices and chunk.choices[0].delta.content)
            answer.close()

    return Way(streams=streams, ask=ask, leave=leave, drops=frozenset({Fact.LATE}))


WAYS = {"openai": way(streams=False), "openai, streaming": way(streams=True)}
