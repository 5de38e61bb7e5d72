"""What interactions are made of: steps, contents, and what they cost. Pure; shared by streams and bodies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from belljar.dialects.shown import output_of, pictures_of
from belljar.events import TurnEnded
from belljar.execution import Execution
from belljar.model import Call, CallResult, File, FileRef, Image, Message, Part, Role, Text, Usage
from belljar.partial import read_code

Json = dict[str, Any]


# --- steps ------------------------------------------------------------------------------------------------------------


def thought(text: str) -> Json:
    """What the model thought."""
    return {"type": "thought", "summary": [text_content(text)]}


def output(text: str) -> Json:
    """What it said."""
    return {"type": "model_output", "content": [text_content(text)]}


def code_call(call: str, code: str) -> Json:
    """Code that runs."""
    return {"type": "code_execution_call", "id": call, "arguments": {"language": "python", "code": code}}


def code_result(call: str, execution: Execution) -> Json:
    """What it gave: words, or a list of contents where there are pictures."""
    told, shown = words_of_result(execution), pictures(execution)
    result = [*([text_content(told)] if told else []), *shown] if shown else told
    return {"type": "code_execution_result", "call_id": call, "result": result, "is_error": not execution.ok}


def words_of_result(execution: Execution) -> str:
    """What an execution gave, in words; where it failed without any, how it ended."""
    told = output_of(execution)
    return told or ("" if execution.ok else f"The execution ended: {execution.outcome.replace('_', ' ')}.\n")


def function_call(call: str, name: str, arguments: str) -> Json:
    """A call of the client's function."""
    return {"type": "function_call", "id": call, "name": name, "arguments": _object(arguments)}


def text_content(text: str) -> Json:
    """Words as a content."""
    return {"type": "text", "text": text}


def pictures(execution: Execution) -> list[Json]:
    """What it displayed, as contents; bytes are base64 once written."""
    return [
        {"type": "image", "mime_type": kind, "data": data.encode() if isinstance(data, str) else data}
        for kind, data in pictures_of(execution)
    ]


def _object(arguments: str) -> Json:
    """The arguments of a call; nothing where they are still being written."""
    try:
        value = msgspec.json.decode(arguments or "{}")
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return {}
    return value if isinstance(value, dict) else {}


# --- what it cost -----------------------------------------------------------------------------------------------------


def usage_of(turns: Sequence[TurnEnded]) -> Json | None:
    """Tokens of all turns: the first prompt is the input, those of later turns are the tools'. None: not counted."""
    known = [(place, turn.usage) for place, turn in enumerate(turns) if turn.usage is not None]
    if not known:
        return None
    total = sum((usage for _, usage in known), Usage())
    first = sum(usage.prompt_tokens for place, usage in known if place == 0)
    thoughts = min(total.reasoning_tokens, total.completion_tokens)
    tools = total.prompt_tokens - first
    told: Json = {
        "total_tokens": total.total_tokens,
        "total_input_tokens": first,
        "input_tokens_by_modality": [{"modality": "text", "tokens": first}],
        "total_cached_tokens": total.cached_tokens,
        "total_output_tokens": total.completion_tokens - thoughts,
        "total_tool_use_tokens": tools,
        "total_thought_tokens": thoughts,
    }
    if tools:
        told["tool_use_tokens_by_modality"] = [{"modality": "text", "tokens": tools}]
    return told


# --- the input, where it is asked for ---------------------------------------------------------------------------------


def input_of(messages: Sequence[Message]) -> list[Json]:
    """The input as steps."""
    steps: list[Json] = []
    for message in messages:
        contents = [content for part in message.parts if (content := _maybe_content(part)) is not None]
        if contents and message.role is not Role.SYSTEM:
            kind = "user_input" if message.role is Role.USER else "model_output"
            steps.append({"type": kind, "content": contents})
        steps += [step for part in message.parts if (step := _maybe_step(part)) is not None]
    return steps


def _maybe_content(part: Part) -> Json | None:
    if isinstance(part, Text):
        return text_content(part.text)
    if isinstance(part, Image):
        return {"type": "image", "mime_type": part.media_type} | (
            {"uri": part.url} if part.url else {"data": part.data}
        )
    if isinstance(part, File) and not part.media_type.startswith("image/"):
        return {"type": "document", "mime_type": part.media_type, "data": part.data}
    return {"type": "document", "uri": part.uri} if isinstance(part, FileRef) else None


def _maybe_step(part: Part) -> Json | None:
    if isinstance(part, Call):
        if part.builtin:
            return code_call(part.id, read_code(part.arguments))
        return function_call(part.id, part.name, part.arguments)
    if isinstance(part, CallResult):
        kind = "code_execution_result" if part.builtin else "function_result"
        return {"type": kind, "call_id": part.call, "result": part.text}
    return None
