"""What a response was asked with, and what a conversation holds, as items with ids, and pages of them.

Promises: every item that `responses_input` reads has one form here, the full one, with an id that is the same whenever
it is written; the order is that of the conversation, turned round where a page asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from belljar.dialects.base import write_json
from belljar.dialects.fields import refuse
from belljar.dialects.responses_input import REFERENCE
from belljar.errors import UnknownItem

Json = dict[str, Any]
MAX_LIMIT, DEFAULT_LIMIT = 100, 20
ORDERS = ("asc", "desc")
PREFIXES = {  # type of an item -> how its id begins
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
    "code_interpreter_call": "ci",
    REFERENCE: "ref",
}
FORMS: Mapping[str, Json] = {  # what an item of a type has in any case
    "message": {"status": "completed"},
    "reasoning": {"summary": []},
    "function_call": {"status": "completed"},
    "function_call_output": {"status": "completed"},
    "code_interpreter_call": {"status": "completed", "code": None, "outputs": None},
}
PART_FORMS: Mapping[str, Json] = {
    "input_image": {"detail": "auto", "file_id": None, "image_url": None},
    "output_text": {"annotations": [], "logprobs": []},
}


def given_items(value: Any, key: str) -> list[Json]:
    """The items of an input that `responses_input` has read, in their full form. `key` makes their ids."""
    if value is None:
        return []
    if isinstance(value, str):
        value = [{"role": "user", "content": value}]
    return [_full(item, key, at) for at, item in enumerate(value)]


def _full(item: Mapping[str, Any], key: str, at: int) -> Json:
    kind = item.get("type") or ("message" if "role" in item or "id" not in item else REFERENCE)
    if kind == REFERENCE:
        return {"id": item["id"], "type": REFERENCE}
    given = {name: value for name, value in item.items() if value is not None}
    whole = {"id": f"{PREFIXES[kind]}_{key}i{at:04x}", "type": kind} | FORMS.get(kind, {}) | given
    whole["id"] = f"{PREFIXES[kind]}_{key}i{at:04x}"
    if kind == "message":
        whole["content"] = _content(item["content"], item["role"])
    return whole


def _content(content: str | Sequence[Mapping[str, Any]], role: str) -> list[Json]:
    if isinstance(content, str):
        content = [{"type": "output_text" if role == "assistant" else "input_text", "text": content}]
    return [
        {"type": part["type"]}
        | PART_FORMS.get(part["type"], {})
        | {name: value for name, value in part.items() if value is not None}
        for part in content
    ]


# --- pages ------------------------------------------------------------------------------------------------------------


def write_page(items: Sequence[Mapping[str, Any]], query: Mapping[str, str]) -> bytes:
    """A page of items, which come in their order: `limit`, `order`, `after`. Raises BadRequest, UnknownItem."""
    limit, ascending = read_page(query)
    ordered = list(items) if ascending else list(reversed(items))
    after, at = query.get("after"), 0
    if after:
        ids = [item["id"] for item in ordered]
        if after not in ids:
            raise UnknownItem(f"there is no item {after[:80]!r} here", item=after, param="after")
        at = ids.index(after) + 1
    return write_list(ordered[at : at + limit], has_more=at + limit < len(ordered))


def read_page(query: Mapping[str, str], most: int = MAX_LIMIT) -> tuple[int, bool]:
    """How many are wanted, and whether the oldest come first. Raises BadRequest."""
    given, order = query.get("limit", str(DEFAULT_LIMIT)), query.get("order", "desc")
    if not (given.isascii() and given.isdigit() and len(given) < 6 and 1 <= int(given) <= most):
        refuse("limit", f"must be an integer from 1 to {most}, not {given[:40]!r}", code="invalid_value")
    if order not in ORDERS:
        refuse("order", f"must be one of `asc`, `desc`, not {order[:40]!r}", code="invalid_value")
    return int(given), order == "asc"


def write_list(data: Sequence[Mapping[str, Any]], *, has_more: bool) -> bytes:
    """A list as this API has them."""
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return write_json({"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more})
