"""Ready-made scripts: what a model would answer, decided from the conversation alone, so that any number of clients
may ask at the same time and ask again.

A script is a Turn (always the same), a function of the request's parsed body, a list of either (one after the other,
for one client), or a mapping of model ids to any of these.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from belljar.scripted.turns import FunctionCall, Turn

Step = Turn | Callable[[Any], Turn]
Script = Step | Sequence[Step] | Mapping[str, Step | Sequence[Step]]

ANSWER = "The quick brown fox jumps over the lazy dog, and then it does so again: a short answer."


def plain(text: str = ANSWER, **more: Any) -> Turn:
    """Always this text; `more` are a Turn's other fields."""
    return Turn(text=text, **more)


def thinks(reasoning: str, text: str, key: str = "reasoning_content", **more: Any) -> Turn:
    """Reasoning, then text. `key` is where an engine puts reasoning, or "<think>" for inside the text."""
    return Turn(reasoning=reasoning, reasoning_key=key, text=text, **more)


def fails(status: int, error: Any = "the script says so", retry_after: str | None = None) -> Turn:
    """An error of this status; `error` is its message, or a whole JSON body, or bytes."""
    return Turn(status=status, error=error, headers=(("retry-after", retry_after),) if retry_after else ())


def python(code: str, **more: Any) -> Turn:
    """A call of the tool `python`."""
    return Turn(calls=(FunctionCall(name="python", arguments=json.dumps({"code": code})),), **more)


def code_then(code: str | Sequence[str], answer: str = ANSWER, **more: Any) -> Callable[[Any], Turn]:
    """Runs the code (each piece in a turn of its own), then answers; with tool_choice none it answers at once."""
    codes = [code] if isinstance(code, str) else list(code)

    def script(body: Any) -> Turn:
        done = calls_made(body)
        if done < len(codes) and body.get("tools") and body.get("tool_choice") != "none":
            call = FunctionCall(name="python", arguments=json.dumps({"code": codes[done]}), id=f"call_{done}")
            return Turn(calls=(call,), **more)
        return Turn(text=answer, **more)

    return script


def echo(body: Any) -> Turn:
    """Answers with the text of the last user message."""
    users = [message for message in body["messages"] if message.get("role") == "user"]
    content = users[-1]["content"] if users else ""
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content)
    return Turn(text=content)


def calls_made(body: Any) -> int:
    """Turns with tool calls since the user last spoke. A user message right after a tool's is its pictures."""
    made, before = 0, ""
    for message in body["messages"]:
        role = message.get("role")
        if role == "user" and before != "tool":
            made = 0
        made += role == "assistant" and bool(message.get("tool_calls"))
        before = role
    return made
