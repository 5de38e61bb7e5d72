"""The Interactions API through google-genai. What a stream says is merged here, delta by delta."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from google import genai
from google.genai import types
from google.genai._gaos.lib import compat_errors as errors  # the SDK has no public name for them

from conformance.says import Fact
from conformance.seen import (
    FUNCTION_NAME,
    FUNCTION_PARAMETERS,
    FUNCTION_TEXT,
    KEY,
    PATIENCE,
    Failure,
    Question,
    Seen,
    Tokens,
    Way,
)
from sdks.ways import CERTIFICATES

FINISHES = {"completed": "stop", "incomplete": "length", "requires_action": "calls"}
Step = dict[str, Any]


def connect(url: str) -> genai.Client:
    """A client that does not ask again."""
    once = types.HttpRetryOptions(attempts=1)
    own = {"verify": CERTIFICATES}
    options = types.HttpOptions(base_url=url, api_version="v1beta", retry_options=once, client_args=own)
    return genai.Client(api_key=KEY, http_options=options)


def write(question: Question) -> dict[str, Any]:
    """The arguments of a request."""
    function = {
        "type": "function",
        "name": FUNCTION_NAME,
        "description": FUNCTION_TEXT,
        "parameters": FUNCTION_PARAMETERS,
    }
    tools = [{"type": "code_execution"}] * question.code + [function] * question.own
    asked: Any = question.text
    if question.file is not None:
        data = base64.b64encode(question.file.text.encode()).decode()
        document = {"type": "document", "mime_type": question.file.media_type, "data": data}
        asked = [{"type": "text", "text": question.text}, document]
    request = {"model": question.model, "input": asked}
    request |= {"tools": tools} if tools else {}
    return request | ({"generation_config": {"thinking_summaries": "auto"}} if question.thoughts else {})


# --- steps ------------------------------------------------------------------------------------------------------------


def on_words(step: Step, delta: Mapping[str, Any]) -> None:
    step.setdefault("content", []).append(delta)


def on_thought(step: Step, delta: Mapping[str, Any]) -> None:
    step.setdefault("summary", []).append(delta["content"])


def on_code(step: Step, delta: Mapping[str, Any]) -> None:
    step["arguments"] = delta["arguments"]


def on_result(step: Step, delta: Mapping[str, Any]) -> None:
    step["result"] = [{"type": "text", "text": delta["result"]}]
    step["is_error"] = delta["is_error"]


def on_picture(step: Step, delta: Mapping[str, Any]) -> None:
    step["result"].append(delta)


def on_arguments(step: Step, delta: Mapping[str, Any]) -> None:
    step["written"] = step.get("written", "") + delta["arguments"]


DELTAS: Mapping[str, Callable[[Step, Mapping[str, Any]], None]] = {
    "text": on_words,
    "thought_summary": on_thought,
    "code_execution_call": on_code,
    "code_execution_result": on_result,
    "image": on_picture,
    "arguments_delta": on_arguments,
}


def words(contents: Iterable[Mapping[str, Any]] | str | None) -> str:
    """The texts among contents."""
    if isinstance(contents, str) or contents is None:
        return contents or ""
    return "".join(content["text"] for content in contents if content["type"] == "text")


def take(seen: Seen, step: Step) -> None:
    """Take in a whole step."""
    kind = step["type"]
    if kind == "model_output":
        seen.text += words(step.get("content"))
    elif kind == "thought":
        seen.reasoning += words(step.get("summary"))
    elif kind == "code_execution_call":
        seen.codes.append(step["arguments"]["code"])
    elif kind == "code_execution_result":
        result = step["result"]
        seen.outputs.append(words(result))
        seen.outcomes.append("error" if step.get("is_error") else "ok")
        pictures = [] if isinstance(result, str) else [one["data"] for one in result if one["type"] == "image"]
        seen.images += [base64.b64decode(picture) for picture in pictures]
    elif kind == "function_call":
        seen.calls.append((step["name"], json.loads(step["written"]) if "written" in step else step["arguments"]))


def end(seen: Seen, interaction: Mapping[str, Any]) -> None:
    """Take in how it ended, and what it cost."""
    seen.finish = FINISHES.get(interaction["status"], interaction["status"])
    usage = interaction.get("usage")
    if usage:
        seen.usage = Tokens(
            prompt=usage["total_input_tokens"] + usage.get("total_tool_use_tokens", 0),
            completion=usage["total_output_tokens"] + usage.get("total_thought_tokens", 0),
            total=usage["total_tokens"],
        )


def gather(seen: Seen, events: Iterable[Any]) -> None:
    """Take in a stream."""
    steps: dict[int, Step] = {}
    try:
        for event in events:
            told = event.model_dump(mode="json")
            kind = told["event_type"]
            if kind == "step.start":
                steps[told["index"]] = dict(told["step"])
            elif kind == "step.delta":
                DELTAS[told["delta"]["type"]](steps[told["index"]], told["delta"])
            elif kind == "interaction.completed":
                end(seen, told["interaction"])
            elif kind == "error":
                seen.failure = Failure(status=None, message=told["error"]["message"], fault=None)
    finally:
        for index in sorted(steps):
            take(seen, steps[index])


# --- ways -------------------------------------------------------------------------------------------------------------


def way(*, streams: bool) -> Way:
    """Of the SDK; it keeps no status of an error in mid-stream."""

    def ask(url: str, question: Question) -> Seen:
        seen = Seen()
        try:
            with connect(url) as client:
                answer: Any = client.interactions.create(**write(question), stream=streams)
                if streams:
                    gather(seen, answer)
                else:
                    told = answer.model_dump(mode="json")
                    for step in told.get("steps") or ():
                        take(seen, step)
                    end(seen, told)
        except errors.APIError as error:
            fault = "server" if isinstance(error, errors.InternalServerError) else "client"
            seen.failure = Failure(status=error.status_code, message=error.message, fault=fault)
        return seen

    def leave(url: str, question: Question) -> None:
        with connect(url) as client:
            try:
                patience: dict[str, Any] = {} if streams else {"timeout": PATIENCE}
                answer: Any = client.interactions.create(**write(question), stream=streams, **patience)
            except errors.APITimeoutError:
                return
            assert streams, "it should have taken longer"
            next(event for event in answer if getattr(getattr(event, "delta", None), "type", "") == "text")
            answer.close()

    return Way(streams=streams, ask=ask, leave=leave, drops=frozenset({Fact.LATE}))


WAYS = {"google-genai": way(streams=False), "google-genai, streaming": way(streams=True)}
