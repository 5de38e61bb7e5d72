"""OpenAI's Files API: files are uploaded as forms, listed, shown, deleted and downloaded, and used by their id.

Promises: names, fields and errors are OpenAI's; a file goes to the disk as it comes, and is durable when it is
answered; files that came through another vendor's API are here as well. Unlike at OpenAI, whatever was uploaded can be
downloaded, whatever its purpose, and files expire: after `expires_after`, and after the time for which this server
keeps files at the latest. Purposes are checked, kept and shown, and mean nothing else here. Large files may come in
parts: apis.openai_uploads.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

from belljar.apis.base import Api, Download, Host
from belljar.apis.openai_shared import ROOTS, disposition, endpoint, read_page, refuse, reply, reply_page
from belljar.dialects.attached import BINARY, file_name, type_of
from belljar.dialects.base import Incoming, Reply
from belljar.errors import UnknownItem
from belljar.server.files import PURPOSE, Upload
from belljar.server.forms import read_form
from belljar.store.rows import FileRow

PREFIX = "file-"
PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")  # those that clients may give
KNOWN = (*PURPOSES, "assistants_output", "batch_output", "fine-tune-results")  # those that lists may be asked for
LARGEST_PAGE = 10_000
EXPIRY = range(3600, 2592001)  # seconds
MAX_NAME = 512  # characters
_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)
_NUMBER = re.compile(r"\d{1,9}", re.ASCII)


# --- uploading --------------------------------------------------------------------------------------------------------


async def create(host: Host, incoming: Incoming, pieces: AsyncIterator[bytes]) -> Reply:
    """Take a file."""
    upload: Upload | None = None

    async def open(given: str, media_type: str) -> None:
        nonlocal upload
        upload = await begin(host, incoming.owner, given, media_type)

    async def take(data: bytes) -> None:
        assert upload is not None
        await host.files.append(upload, upload.received, data)

    try:
        fields = await read_form(incoming.headers.get("content-type", ""), pieces, "file", open, take)
        if upload is None:
            refuse("file", "Missing required parameter: 'file'.", "missing_required_parameter")
        upload.purpose = read_purpose(fields.get("purpose"))
        upload.lifetime = read_expiry(fields.get("expires_after[anchor]"), fields.get("expires_after[seconds]"))
        return reply(write_file(await host.files.finish(upload)))
    except BaseException:
        if upload is not None:
            host.files.give_up(upload)
        raise


async def begin(host: Host, owner: str, given: str, media_type: str, **more: Any) -> Upload:
    """An upload of a file that its client calls `given`. Raises BadRequest, TooLarge."""
    if not 0 < len(given) <= MAX_NAME:
        refuse("file", f"The name of the file must have 1 to {MAX_NAME} characters.")
    kind = type_of(given, media_type)
    return await host.files.begin(owner, file_name(given, kind), kind, title=given, **more)


def read_purpose(purpose: Any) -> str:
    """A purpose that a client may give. Raises BadRequest."""
    if purpose is None:
        refuse("purpose", "Missing required parameter: 'purpose'.", "missing_required_parameter")
    if not isinstance(purpose, str) or purpose not in PURPOSES:
        refuse("purpose", f"{str(purpose)[:40]!r} is not one of {list(PURPOSES)} - 'purpose'")
    return purpose


def read_expiry(anchor: Any, seconds: Any) -> float | None:
    """Seconds after which a file expires, None where nothing is said. Raises BadRequest."""
    if anchor is None and seconds is None:
        return None
    if anchor != "created_at":
        refuse("expires_after.anchor", "`expires_after.anchor` must be 'created_at'.")
    if not (_NUMBER.fullmatch(str(seconds)) and int(seconds) in EXPIRY):
        refuse(
            "expires_after.seconds",
            f"`expires_after.seconds` must be an integer from {EXPIRY.start} to {EXPIRY.stop - 1}.",
        )
    return float(seconds)


# --- what there is ----------------------------------------------------------------------------------------------------


async def listing(host: Host, incoming: Incoming) -> Reply:
    """The owner's files, in pages."""
    query = incoming.query
    purpose = query.get("purpose")
    if purpose is not None and purpose not in KNOWN:
        refuse("purpose", f"{purpose[:40]!r} is not one of {list(KNOWN)} - 'purpose'")
    after, limit, ascending = read_page(query, PREFIX, limit=LARGEST_PAGE, largest=LARGEST_PAGE)
    try:
        files, more = await host.files.page(incoming.owner, after, limit, ascending=ascending, purpose=purpose)
    except UnknownItem:
        refuse("after", f"No file found with id {query['after'][:80]!r}.")
    return reply_page([write_file(file) for file in files], more=more)


async def show(host: Host, incoming: Incoming) -> Reply:
    """One file's metadata."""
    return reply(write_file(await _find(host, incoming)))


async def delete(host: Host, incoming: Incoming) -> Reply:
    """Forget a file."""
    file = await _find(host, incoming)
    await host.files.delete(file.owner, file.id)
    return reply({"id": PREFIX + file.id, "object": "file", "deleted": True})


async def content(host: Host, incoming: Incoming) -> Download:
    """A file itself."""
    file = await _find(host, incoming)
    return download(host, file)


def download(host: Host, file: FileRow) -> Download:
    """A file as what a browser saves, and never shows as a page of this server."""
    headers = {"content-disposition": disposition(file.title or file.name), "x-content-type-options": "nosniff"}
    kind = file.media_type if _TYPE.fullmatch(file.media_type) else BINARY
    return Download(path=host.files.path(file), media_type=kind, headers=headers)


async def _find(host: Host, incoming: Incoming) -> FileRow:
    """The owner's file. Raises UnknownItem."""
    given = incoming.params["id"]
    file = await host.files.get(incoming.owner, given.removeprefix(PREFIX)) if given.startswith(PREFIX) else None
    if file is None:
        raise UnknownItem(f"No such File object: {given[:80]}", param="id")
    return file


def write_file(file: FileRow) -> dict[str, Any]:
    """A file as OpenAI writes it."""
    return {
        "id": PREFIX + file.id,
        "object": "file",
        "bytes": file.size,
        "created_at": int(file.created),
        "expires_at": int(file.expires),
        "filename": file.title or file.name,
        "purpose": file.purpose or PURPOSE,
        "status": "processed",
        "status_details": None,
    }


# --- paths ------------------------------------------------------------------------------------------------------------


API = Api(
    name="openai_files",
    endpoints=tuple(
        each
        for root in ROOTS
        for each in (
            endpoint("POST", f"{root}/files", take=create),
            endpoint("GET", f"{root}/files", handle=listing),
            endpoint("GET", f"{root}/files/{{id}}", handle=show),
            endpoint("DELETE", f"{root}/files/{{id}}", handle=delete),
            endpoint("GET", f"{root}/files/{{id}}/content", handle=content),
        )
    ),
)
