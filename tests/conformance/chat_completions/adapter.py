"""Chat completions through the SDKs of Groq and OpenAI."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import groq
import openai

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
from sdks import ways

FUNCTION = {"name": FUNCTION_NAME, "description": FUNCTION_TEXT, "parameters": FUNCTION_PARAMETERS}
FINISHES = {"stop": "stop", "length": "length", "tool_calls": "calls"}
Client = Callable[..., Any]


def write(question: Question) -> dict[str, Any]:
    """The request."""
    tools: list[dict[str, Any]] = [{"type": "code_interpreter"}] if question.code else []
    tools += [{"type": "function", "function": FUNCTION}] if question.own else []
    content: Any = question.text
    if question.file is not None:
        data = base64.b64encode(question.file.text.encode()).decode()
        file = {"filename": question.file.name, "file_data": f"data:{question.file.media_type};base64,{data}"}
        content = [{"type": "text", "text": question.text}, {"type": "file", "file": file}]
    request = {"model": question.model, "messages": [{"role": "user", "content": content}]}
    return request | ({"tools": tools} if tools else {})


def read(state: ways.Seen, failure: Failure | None = None) -> Seen:
    """What came."""
    tools = [state.tools[index] for index in sorted(state.tools)]
    results = [tool.get("code_results") or [] for tool in tools]
    usage = state.usage and Tokens(
        prompt=state.usage["prompt_tokens"],
        completion=state.usage["completion_tokens"],
        total=state.usage["total_tokens"],
    )
    return Seen(
        text=state.content,
        reasoning=state.reasoning,
        codes=[tool["arguments"] for tool in tools],
        outputs=["".join(result.get("text") or "" for result in of_one) for of_one in results],
        images=[base64.b64decode(result["png"]) for of_one in results for result in of_one if result.get("png")],
        calls=[(call["name"], json.loads(call["arguments"])) for call in state.calls.values()],
        finish=FINISHES.get(state.finish or "", state.finish or ""),
        usage=usage or None,
        failure=failure,
    )


def read_error(error: groq.APIError | openai.APIError) -> Failure:
    """An error: of a status, or in the middle of a stream."""
    status = getattr(error, "status_code", None)
    if status is not None:
        is_server = isinstance(error, groq.InternalServerError | openai.InternalServerError)
        return Failure(status=status, message=error.message, fault="server" if is_server else "client")
    status = error.body["status_code"] if isinstance(error.body, dict) else None
    return Failure(status=status, message=error.message, fault=fault_of(status))


def way(client: Client, *, streams: bool) -> Way:
    """Of one SDK."""

    def ask(url: str, question: Question) -> Seen:
        state = ways.Seen()
        try:
            with client(url) as sdk:
                answer = sdk.chat.completions.create(**write(question), stream=streams)
                for part in answer if streams else [answer]:
                    state.take(part.to_dict(), "delta" if streams else "message")
        except (groq.APIError, openai.APIError) as error:
            return read(state, read_error(error))
        return read(state)

    def leave(url: str, question: Question) -> None:
        with client(url, **({} if streams else {"timeout": PATIENCE})) as sdk:
            try:
                answer = sdk.chat.completions.create(**write(question), stream=streams)
            except (groq.APITimeoutError, openai.APITimeoutError):
                return
            assert streams, "it should have taken longer"
            next(chunk for chunk in answer if chunk.choices[0].delta.content)
            answer.close()

    return Way(streams=streams, ask=ask, leave=leave)


WAYS = {
    "groq": way(ways.groq_client, streams=False),
    "groq, streaming": way(ways.groq_client, streams=True),
    "openai": way(ways.openai_client, streams=False),
    "openai, streaming": way(ways.openai_client, streams=True),
}
