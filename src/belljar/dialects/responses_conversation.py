"""Items that clients put into a conversation, and how they are shown: as OpenAI's Conversations API has them.

Promises: what is put in is what a response may be asked with, in its full form and with ids of its own; a wrong item
is a BadRequest that names its place. Unlike in a request, a function call may wait for its result: that may be put in
later.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from belljar.dialects.base import Item
from belljar.dialects.fields import listing, mapping, refuse
from belljar.dialects.responses_fields import ENCRYPTED, INCLUDES, LOGPROBS, OUTPUTS, metadata
from belljar.dialects.responses_input import REFERENCE, read_input
from belljar.dialects.responses_listed import given_items

MOST_ITEMS = 20  # at once
CALLS = {"function_call": "function_call_output", "custom_tool_call": "custom_tool_call_output"}


def conversation_items(value: Any, key: str, param: str = "items") -> list[Item]:
    """The items that a client puts into a conversation. `key` makes their ids. Raises BadRequest."""
    given = listing(value, param)
    if len(given) > MOST_ITEMS:
        refuse(param, f"must hold at most {MOST_ITEMS} items at once, not {len(given)}")
    for at, item in enumerate(given):
        place = f"{param}.{at}"
        if mapping(item, place).get("type") == REFERENCE or ("id" in item and not {"type", "role"} & item.keys()):
            refuse(f"{place}.type", f"is `{REFERENCE}`: send the item itself", code="unsupported_value")
    read_input([*given, *_answers(given)], images_as_files=False, goes_on=True, param=param)
    return [Item(id=item["id"], body=item) for item in given_items(given, key)]


def _answers(items: list[Any]) -> list[Any]:
    """Results of the calls that wait for one, so that the items can be checked as those of a request are."""
    named = [(item.get("type"), item.get("call_id")) for item in items]
    named = [(kind, call) for kind, call in named if isinstance(kind, str) and isinstance(call, str)]
    done = {call for kind, call in named if kind in CALLS.values()}
    return [
        {"type": CALLS[kind], "call_id": call, "output": ""}
        for kind, call in named
        if kind in CALLS and call not in done
    ]


def shown(item: Mapping[str, Any], include: Collection[str]) -> dict[str, Any]:
    """A kept item as it is shown, with what was asked for."""
    body = dict(item)
    kind = body.get("type")
    if kind == "code_interpreter_call" and OUTPUTS not in include:
        body["outputs"] = None
    elif kind == "reasoning" and ENCRYPTED not in include:
        body.pop("encrypted_content", None)
    elif kind == "message" and LOGPROBS not in include:
        body["content"] = [part | {"logprobs": []} if "logprobs" in part else part for part in body["content"]]
    return body


def read_include(query: Mapping[str, str]) -> frozenset[str]:
    """What else is to be shown. Raises BadRequest."""
    asked = ",".join(query.get(name, "") for name in ("include", "include[]"))
    names = frozenset(filter(None, (name.strip() for name in asked.split(","))))
    for name in names - set(INCLUDES):
        refuse("include", f"must be of {', '.join(INCLUDES)}, not {name[:80]!r}", code="invalid_value")
    return names


def read_metadata(value: Any, param: str = "metadata") -> dict[str, str]:
    """Up to 16 pairs of words. Raises BadRequest."""
    return {} if value is None else metadata(value, param)
