"""OpenAI's Conversations API: conversations are made, shown, changed and deleted, and so are their items.

Promises: shapes and errors are OpenAI's; a conversation is its owner's alone, keeps the order of its items, and stays
until it has not been added to for as long as this server keeps things. What a response adds to a conversation is
not done here, but where it is kept (server.memory).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from belljar.apis.base import Api, Endpoint, Host
from belljar.apis.openai_shared import ROOTS, endpoint, read_page, reply, reply_page
from belljar.dialects.base import Incoming, Item, Reply, read_json, write_json
from belljar.dialects.fields import mapping, refuse
from belljar.dialects.responses_conversation import conversation_items, read_include, read_metadata, shown
from belljar.errors import BadRequest, UnknownItem
from belljar.model import new_id
from belljar.store.rows import ConversationRow, ItemRow

PREFIX = "conv_"
PAGE, LARGEST_PAGE = 20, 100
CREATE, UPDATE, ADD = ("items", "metadata"), ("metadata",), ("items",)  # the fields of bodies


# --- conversations ----------------------------------------------------------------------------------------------------


async def create(host: Host, incoming: Incoming) -> Reply:
    """Make a conversation, perhaps with its first items."""
    body = _body(incoming, CREATE)
    metadata = read_metadata(body.get("metadata"))
    items = conversation_items(body["items"], new_id("")) if body.get("items") is not None else []
    now = time.time()
    row = ConversationRow(
        id=new_id(""), owner=incoming.owner, created=now, expires=_expiry(host), metadata=write_json(metadata)
    )
    await host.store.conversations.add(row)
    if items:
        await host.store.conversations.append(row.owner, row.id, _pairs(items))
    return reply(_write(row))


async def show(host: Host, incoming: Incoming) -> Reply:
    """One conversation."""
    return reply(_write(await _find(host, incoming)))


async def update(host: Host, incoming: Incoming) -> Reply:
    """Change its metadata: all of it."""
    body = _body(incoming, UPDATE)
    if "metadata" not in body:
        raise BadRequest("Missing required parameter: 'metadata'.", param="metadata", code="missing_required_parameter")
    row = await _find(host, incoming)
    row = msgspec.structs.replace(row, metadata=write_json(read_metadata(body["metadata"])))
    if not await host.store.conversations.update(row):
        _unknown(incoming)
    return reply(_write(row))


async def delete(host: Host, incoming: Incoming) -> Reply:
    """Delete a conversation, and its items with it."""
    if not await host.store.conversations.delete(incoming.owner, _identity(incoming)):
        _unknown(incoming)
    return reply({"id": incoming.params["id"], "object": "conversation.deleted", "deleted": True})


# --- items ------------------------------------------------------------------------------------------------------------


async def add(host: Host, incoming: Incoming) -> Reply:
    """Add items at the end."""
    include = read_include(incoming.query)
    body = _body(incoming, ADD)
    if body.get("items") is None:
        raise BadRequest("Missing required parameter: 'items'.", param="items", code="missing_required_parameter")
    items = conversation_items(body["items"], new_id(""))
    if not items:
        refuse("items", "must hold an item at least")
    try:
        await host.store.conversations.append(incoming.owner, _identity(incoming), _pairs(items), expires=_expiry(host))
    except UnknownItem:
        _unknown(incoming)
    return reply_page([shown(item.body, include) for item in items], more=False)


async def listing(host: Host, incoming: Incoming) -> Reply:
    """Items, the newest first unless the other order is asked for."""
    include = read_include(incoming.query)
    after, limit, ascending = read_page(incoming.query, limit=PAGE, largest=LARGEST_PAGE)
    row = await _find(host, incoming)
    try:
        rows, more = await host.store.conversations.page(row.owner, row.id, after, limit, ascending)
    except UnknownItem:
        refuse("after", f"names no item of this conversation: {(after or '')[:80]!r}")
    return reply_page([_item(each, include) for each in rows], more=more)


async def show_item(host: Host, incoming: Incoming) -> Reply:
    """One item."""
    include = read_include(incoming.query)
    try:
        found = await host.store.conversations.item(incoming.owner, _identity(incoming), incoming.params["item"])
    except UnknownItem:
        _unknown(incoming)
    if found is None:
        _unknown_item(incoming)
    return reply(_item(found, include))


async def delete_item(host: Host, incoming: Incoming) -> Reply:
    """Delete an item; the answer is the conversation."""
    row = await _find(host, incoming)
    try:
        gone = await host.store.conversations.remove(row.owner, row.id, incoming.params["item"])
    except UnknownItem:
        _unknown(incoming)
    if not gone:
        _unknown_item(incoming)
    return reply(_write(row))


# --- reading and writing ----------------------------------------------------------------------------------------------


def _body(incoming: Incoming, known: tuple[str, ...]) -> Mapping[str, Any]:
    """Raises BadRequest."""
    body: Mapping[str, Any] = mapping(read_json(incoming.body) if incoming.body.strip() else {}, "body")
    for name in body:
        if name not in known:
            raise BadRequest(f"Unknown parameter: {name[:80]!r}.", param=name[:80], code="unknown_parameter")
    return body


def _identity(incoming: Incoming) -> str:
    """The conversation's id in the store. Raises UnknownItem."""
    given = incoming.params["id"]
    if not given.startswith(PREFIX):
        _unknown(incoming)
    return given.removeprefix(PREFIX)


async def _find(host: Host, incoming: Incoming) -> ConversationRow:
    """Raises UnknownItem."""
    row = await host.store.conversations.get(incoming.owner, _identity(incoming))
    if row is None:
        _unknown(incoming)
    return row


def _unknown(incoming: Incoming) -> NoReturn:
    raise UnknownItem(f"Conversation with id '{incoming.params['id'][:80]}' not found.")


def _unknown_item(incoming: Incoming) -> NoReturn:
    item, conversation = incoming.params["item"][:80], incoming.params["id"][:80]
    raise UnknownItem(f"Item with id '{item}' not found in conversation '{conversation}'.")


def _expiry(host: Host) -> float:
    """Until when a conversation is kept that is used now, in seconds since 1970."""
    return time.time() + host.files.lifetime()


def _pairs(items: list[Item]) -> list[tuple[str, bytes]]:
    return [(item.id, write_json(item.body)) for item in items]


def _item(row: ItemRow, include: frozenset[str]) -> dict[str, Any]:
    return shown(read_json(row.body), include)


def _write(row: ConversationRow) -> dict[str, Any]:
    """A conversation as OpenAI writes it."""
    metadata = read_json(row.metadata)
    return {"id": PREFIX + row.id, "object": "conversation", "created_at": int(row.created), "metadata": metadata}


# --- paths ------------------------------------------------------------------------------------------------------------


def _endpoints(root: str) -> tuple[Endpoint, ...]:
    one, items = f"{root}/conversations/{{id}}", f"{root}/conversations/{{id}}/items"
    return (
        endpoint("POST", f"{root}/conversations", handle=create),
        endpoint("GET", one, handle=show),
        endpoint("POST", one, handle=update),
        endpoint("DELETE", one, handle=delete),
        endpoint("POST", items, handle=add),
        endpoint("GET", items, handle=listing),
        endpoint("GET", f"{items}/{{item}}", handle=show_item),
        endpoint("DELETE", f"{items}/{{item}}", handle=delete_item),
    )


API = Api(name="openai_conversations", endpoints=tuple(each for root in ROOTS for each in _endpoints(root)))
