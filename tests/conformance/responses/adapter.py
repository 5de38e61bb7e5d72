"""Responses through the SDK of OpenAI."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
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
from sdks.responses import INTERPRETER, OUTPUTS, connect

FUNCTION = {"type": "function", "name": FUNCTION_NAME, "description": FUNCTION_TEXT, "parameters": FUNCTION_PARAMETERS}
FINISHES = {"completed": "stop", "incomplete": "length"}
OUTCOMES = {"completed": "ok"}  # of a call
ENDS = ("response.completed", "response.incomplete", "response.failed")
Json = Mapping[str, Any]


def write(question: Question) -> dict[str, Any]:
    """The request."""
    tools = [INTERPRETER] * question.code + [FUNCTION] * question.own
    asked: Any = question.text
    if question.file is not None:
        data = base64.b64encode(question.file.text.encode()).decode()
        url = f"data:{question.file.media_type};base64,{data}"
        file = {"type": "input_file", "filename": question.file.name, "file_data": url}
        asked = [{"role": "user", "content": [{"type": "input_text", "text": question.text}, file]}]
    request = {"model": question.model, "input": asked, "include": [OUTPUTS]}
    request |= {"tools": tools} if tools else {}
    return request | ({"reasoning": {"summary": "auto"}} if question.thoughts else {})


# --- items ------------------------------------------------------------------------------------------------------------


def take_message(seen: Seen, item: Json) -> None:
    for part in item["content"]:
        seen.text += part["text"]
        cited = [one for one in part["annotations"] if one["type"] == "container_file_citation"]
        seen.files += [one["filename"] for one in cited if one["end_index"]]  # others are of pictures


def take_reasoning(seen: Seen, item: Json) -> None:
    seen.reasoning += "".join(part["text"] for part in item["summary"] or item.get("content") or ())


def take_code(seen: Seen, item: Json) -> None:
    outputs = item["outputs"] or []
    seen.codes.append(item["code"])
    seen.outputs.append("".join(output["logs"] for output in outputs if output["type"] == "logs"))
    seen.outcomes.append(OUTCOMES.get(item["status"], item["status"]))
    pictures = [output["url"].partition(",")[2] for output in outputs if output["type"] == "image"]
    seen.images += [base64.b64decode(picture) for picture in pictures]


def take_call(seen: Seen, item: Json) -> None:
    seen.calls.append((item["name"], json.loads(item["arguments"])))


ITEMS: Mapping[str, Callable[[Seen, Json], None]] = {
    "message": take_message,
    "reasoning": take_reasoning,
    "code_interpreter_call": take_code,
    "function_call": take_call,
}


def end(seen: Seen, response: Json) -> None:
    """Take in how it ended, and what it cost."""
    seen.finish = FINISHES.get(response["status"], response["status"])
    if response.get("error"):
        seen.failure = Failure(status=None, message=response["error"]["message"], fault=None)
    if usage := response.get("usage"):
        seen.usage = Tokens(
            prompt=usage["input_tokens"], completion=usage["output_tokens"], total=usage["total_tokens"]
        )


def take_event(seen: Seen, event: Json) -> None:
    """Take in an event: items when they are done, and how it ends."""
    if event["type"] == "response.output_item.done":
        ITEMS[event["item"]["type"]](seen, event["item"])
    elif event["type"] in ENDS:
        end(seen, event["response"])


def read_error(error: openai.APIError) -> Failure:
    """An error of a status."""
    status = getattr(error, "status_code", None)
    is_server = isinstance(error, openai.InternalServerError)
    return Failure(status=status, message=error.message, fault="server" if is_server else fault_of(status))


# --- ways -------------------------------------------------------------------------------------------------------------


def way(*, streams: bool) -> Way:
    """Of the SDK; an error in mid-stream has no status."""

    def ask(url: str, question: Question) -> Seen:
        seen = Seen()
        try:
            with connect(url) as client:
                answer = client.responses.create(**write(question), stream=streams)
                if streams:
                    for event in answer:
                        take_event(seen, event.to_dict())
                else:
                    whole = answer.to_dict()
                    for item in whole["output"]:
                        ITEMS[item["type"]](seen, item)
                    end(seen, whole)
        except openai.APIError as error:
            seen.failure = read_error(error)
        return seen

    def leave(url: str, question: Question) -> None:
        with connect(url, **({} if streams else {"timeout": PATIENCE})) as client:
            try:
                answer = client.responses.create(**write(question), stream=streams)
            except openai.APITimeoutError:
                return
            assert streams, "it should have taken longer"
            next(event for event in answer if event.type == "response.output_text.delta")
            answer.close()

    return Way(streams=streams, ask=ask, leave=leave, drops=frozenset({Fact.LATE}))


WAYS = {"openai": way(streams=False), "openai, streaming": way(streams=True)}
