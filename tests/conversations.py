"""What engines want of a conversation that they are sent: the strictest of them all together, as one check."""

from __future__ import annotations

import json
import re
from typing import Any

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
ROLES = {"system", "user", "assistant", "tool"}
MOST_IMAGES = 4


def check_body(body: dict[str, Any], *, alternating: bool = False) -> None:
    """The body of POST /chat/completions. `alternating`: users and assistants take turns, as some templates insist."""
    messages = body["messages"]
    assert messages
    assert {message["role"] for message in messages} <= ROLES
    assert "system" not in [message["role"] for message in messages[1:]]
    assert messages[-1]["role"] in ("user", "tool")
    assert ("tool_choice" in body) <= bool(body.get("tools"))
    assert not (body.get("tools") and body.get("response_format"))  # Groq takes only one of them
    check_calls(messages)
    check_pictures(messages)
    if alternating:
        spoken = [message["role"] for message in messages if message["role"] != "system"]
        assert spoken == ["user", "assistant"] * (len(spoken) // 2) + ["user"] * (len(spoken) % 2), spoken


def check_calls(messages: list[dict[str, Any]]) -> None:
    """Each call is answered once, right after the message that makes it, in order; no id is used twice."""
    waiting: list[str] = []
    seen: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            assert waiting, "the result of no call"
            assert message["tool_call_id"] == waiting.pop(0)
            assert isinstance(message["content"], str)
            continue
        assert not waiting, f"calls without a result: {waiting}"
        for call in message.get("tool_calls", ()):
            assert call["id"]
            assert call["id"] not in seen
            assert NAME.fullmatch(call["function"]["name"])
            assert isinstance(json.loads(call["function"]["arguments"]), dict)
            seen.add(call["id"])
            waiting.append(call["id"])
        assert message.get("content") is not None or waiting
    assert not waiting


def check_pictures(messages: list[dict[str, Any]]) -> None:
    """Pictures are in messages of the user's only, and no more than engines take."""
    lists = [message for message in messages if isinstance(message.get("content"), list)]
    assert {message["role"] for message in lists} <= {"user"}
    assert sum(part["type"] == "image_url" for message in lists for part in message["content"]) <= MOST_IMAGES
