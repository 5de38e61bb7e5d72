"""OpenAI's Containers and Container Files APIs: sandboxes with a name, which the Responses API runs code in.

Promises: names, fields and errors are OpenAI's; what was answered is in the store. Whatever is done with a container
counts as use. Unlike at OpenAI, a container may wait for up to a day before it expires, and a file that its client puts
there keeps the name that it has. There is no network in a container, and there are no skills.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from belljar.apis.base import Api, Download, Host
from belljar.apis.openai_shared import ROOTS, disposition, endpoint, read_page, refuse, reply, reply_page
from belljar.dialects.attached import own_name
from belljar.dialects.base import Incoming, Reply, read_json
from belljar.dialects.fields import filled, listing, mapping, maybe, member, one_of, text, whole
from belljar.dialects.responses_settings import CONTAINER_PREFIX
from belljar.dialects.responses_tools import MEMORY, check_network, file_id, read_file_ids
from belljar.errors import TooLarge, UnknownItem
from belljar.execution import WORK_FOLDER
from belljar.sandbox.files import guess_type
from belljar.server.containers import IDLE
from belljar.server.forms import is_form, read_form
from belljar.store.rows import ContainerFileRow, ContainerRow

FILE_PREFIX = "cfile_"
MAX_NAME = 256  # characters
MAX_MINUTES = 24 * 60
MAX_JSON = 64 << 10  # bytes of a body that names a file
FIELDS = ("name", "expires_after", "file_ids", "memory_limit", "network_policy", "skills")
WORDS = {size: word for word, size in MEMORY.items()}  # bytes -> memory_limit


# --- containers -------------------------------------------------------------------------------------------------------


async def create(host: Host, incoming: Incoming) -> Reply:
    """Make a container; nothing runs in it yet."""
    body = mapping(read_json(incoming.body), "body")
    for name in body:
        if name not in FIELDS:
            refuse(name, f"Unknown parameter: '{name[:80]}'.", "unknown_parameter")
    if body.get("name") is None:
        refuse("name", "Missing required parameter: 'name'.", "missing_required_parameter")
    name = text(body["name"], "name")
    if len(name) > MAX_NAME:
        refuse("name", f"Invalid 'name': it may have {MAX_NAME} characters at most.", "string_above_max_length")
    if maybe(body, "skills", listing, ""):
        refuse("skills", "There are no skills on this server.", "unsupported_value")
    check_network(body, "")
    memory = maybe(body, "memory_limit", one_of(*MEMORY), "")
    row = await host.containers.create(
        incoming.owner,
        name,
        idle=_read_idle(maybe(body, "expires_after", mapping, "")),
        memory=MEMORY[memory] if memory is not None else None,
        files=read_file_ids(body, ""),
    )
    return reply(_container(host, row))


def _read_idle(given: Mapping[str, Any] | None) -> float:
    """Seconds of idleness after which a container expires. Raises BadRequest."""
    if given is None:
        return IDLE
    member(given, "anchor", one_of("last_active_at"), "expires_after")
    return float(member(given, "minutes", whole(1, MAX_MINUTES), "expires_after") * 60)


async def list_all(host: Host, incoming: Incoming) -> Reply:
    """The owner's containers, in pages."""
    after, limit, ascending = read_page(incoming.query, CONTAINER_PREFIX)
    name = incoming.query.get("name")
    try:
        rows, more = await host.containers.page(incoming.owner, after, limit, ascending=ascending, name=name)
    except UnknownItem:
        refuse("after", f"No container found with id {incoming.query['after'][:80]!r}.")
    return reply_page([_container(host, row) for row in rows], more=more)


async def show(host: Host, incoming: Incoming) -> Reply:
    """One container, also where it has expired."""
    return reply(_container(host, await host.containers.get(incoming.owner, _container_id(incoming))))


async def delete(host: Host, incoming: Incoming) -> Reply:
    """End a container, whatever runs in it, and forget its files."""
    await host.containers.delete(incoming.owner, _container_id(incoming))
    return reply({"id": incoming.params["id"], "object": "container.deleted", "deleted": True})


# --- files ------------------------------------------------------------------------------------------------------------


async def add_file(host: Host, incoming: Incoming, pieces: AsyncIterator[bytes]) -> Reply:
    """Put a file into a container: from a form, or a copy of an uploaded one by its id."""
    row = await _find(host, incoming)
    if not is_form(incoming.headers):
        body = mapping(read_json(await _read(pieces, MAX_JSON)), "body")
        upload = file_id(member(body, "file_id", filled, ""), "file_id")
        return reply(_file(row, await host.containers.add_upload(row, upload)))
    names: list[str] = []
    data = bytearray()
    most = host.containers.most_bytes

    async def open(given: str, media_type: str) -> None:
        names.append(own_name(given))

    async def take(piece: bytes) -> None:
        data.extend(piece)
        if len(data) > most:
            raise TooLarge(f"a container takes {most:,} bytes of files")

    fields = await read_form(incoming.headers.get("content-type", ""), pieces, "file", open, take)
    if names:
        return reply(_file(row, await host.containers.add_file(row, names[0], bytes(data))))
    if "file_id" not in fields:
        refuse("file", "Missing required parameter: 'file'.", "missing_required_parameter")
    return reply(_file(row, await host.containers.add_upload(row, file_id(fields["file_id"], "file_id"))))


async def _read(pieces: AsyncIterator[bytes], most: int) -> bytes:
    """A whole body. Raises TooLarge."""
    body = bytearray()
    async for piece in pieces:
        body += piece
        if len(body) > most:
            raise TooLarge(f"the body of the request is over {most:,} bytes; files are sent as multipart/form-data")
    return bytes(body)


async def list_files(host: Host, incoming: Incoming) -> Reply:
    """A container's files, in pages."""
    row = await _find(host, incoming)
    after, limit, ascending = read_page(incoming.query, FILE_PREFIX)
    try:
        files, more = await host.containers.page_files(row, after, limit, ascending=ascending)
    except UnknownItem:
        refuse("after", f"No file found with id {incoming.query['after'][:80]!r}.")
    return reply_page([_file(row, file) for file in files], more=more)


async def show_file(host: Host, incoming: Incoming) -> Reply:
    """One file's metadata."""
    row = await _find(host, incoming)
    return reply(_file(row, await host.containers.file(row, _file_id(incoming))))


async def content(host: Host, incoming: Incoming) -> Download:
    """A file itself, as what a browser saves and never shows as a page of this server."""
    row = await _find(host, incoming)
    file = await host.containers.file(row, _file_id(incoming))
    name = file.path.rpartition("/")[2]
    headers = {"content-disposition": disposition(name), "x-content-type-options": "nosniff"}
    return Download(path=host.containers.path(file), media_type=guess_type(name), headers=headers)


async def delete_file(host: Host, incoming: Incoming) -> Reply:
    """Forget a file; code finds it no more."""
    row = await _find(host, incoming)
    await host.containers.delete_file(row, _file_id(incoming))
    return reply({"id": incoming.params["file"], "object": "container.file.deleted", "deleted": True})


# --- on the wire ------------------------------------------------------------------------------------------------------


async def _find(host: Host, incoming: Incoming) -> ContainerRow:
    """The container that the path names. Raises UnknownItem, Expired."""
    return await host.containers.find(incoming.owner, _container_id(incoming))


def _container_id(incoming: Incoming) -> str:
    given = incoming.params["id"]
    return given.removeprefix(CONTAINER_PREFIX) if given.startswith(CONTAINER_PREFIX) else ""


def _file_id(incoming: Incoming) -> str:
    given = incoming.params["file"]
    return given.removeprefix(FILE_PREFIX) if given.startswith(FILE_PREFIX) else ""


def _container(host: Host, row: ContainerRow) -> dict[str, Any]:
    return {
        "id": CONTAINER_PREFIX + row.id,
        "object": "container",
        "created_at": int(row.created),
        "status": "expired" if row.expired else "running",
        "expires_after": {"anchor": "last_active_at", "minutes": round(row.idle / 60)},
        "last_active_at": int(row.active),
        "memory_limit": WORDS.get(host.containers.limits_of(row).memory),
        "name": row.name,
        "network_policy": {"type": "disabled"},
    }


def _file(row: ContainerRow, file: ContainerFileRow) -> dict[str, Any]:
    return {
        "id": FILE_PREFIX + file.id,
        "object": "container.file",
        "created_at": int(file.created),
        "bytes": file.size,
        "container_id": CONTAINER_PREFIX + row.id,
        "path": f"{WORK_FOLDER}/{file.path}",
        "source": file.source,
    }


API = Api(
    name="openai_containers",
    endpoints=tuple(
        each
        for root in ROOTS
        for each in (
            endpoint("POST", f"{root}/containers", handle=create),
            endpoint("GET", f"{root}/containers", handle=list_all),
            endpoint("GET", f"{root}/containers/{{id}}", handle=show),
            endpoint("DELETE", f"{root}/containers/{{id}}", handle=delete),
            endpoint("POST", f"{root}/containers/{{id}}/files", take=add_file),
            endpoint("GET", f"{root}/containers/{{id}}/files", handle=list_files),
            endpoint("GET", f"{root}/containers/{{id}}/files/{{file}}", handle=show_file),
            endpoint("GET", f"{root}/containers/{{id}}/files/{{file}}/content", handle=content),
            endpoint("DELETE", f"{root}/containers/{{id}}/files/{{file}}", handle=delete_file),
        )
    ),
)
