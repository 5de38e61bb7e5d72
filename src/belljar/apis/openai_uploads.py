"""OpenAI's Uploads API: a large file is announced, comes in parts in any order, and becomes a file when completed.

Promises: shapes and errors are OpenAI's; a file that is completed is as any other of apis.openai_files. An upload that
is neither completed nor cancelled is forgotten after an hour without a further part, and when the server stops.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any, NoReturn

from belljar.apis.base import Api, Host
from belljar.apis.openai_files import begin, read_expiry, read_purpose, write_file
from belljar.apis.openai_shared import ROOTS, endpoint, refuse, reply
from belljar.dialects.base import Incoming, Reply, read_json
from belljar.dialects.fields import filled, mapping, maybe, member, text, texts, whole
from belljar.errors import UnknownItem
from belljar.server.files import PATIENCE, Upload
from belljar.server.forms import read_form

PREFIX, PART_PREFIX = "upload_", "part_"


async def create(host: Host, incoming: Incoming) -> Reply:
    """Announce a file."""
    body = mapping(read_json(incoming.body), "body")
    size = member(body, "bytes", whole(0), "")
    name, kind = member(body, "filename", filled, ""), member(body, "mime_type", text, "")
    purpose = read_purpose(body.get("purpose"))
    expiry = maybe(body, "expires_after", mapping, "") or {}
    lifetime = read_expiry(expiry.get("anchor"), expiry.get("seconds"))
    upload = await begin(host, incoming.owner, name, kind, size=size, purpose=purpose, lifetime=lifetime)
    return reply(_write(upload, "pending"))


async def add(host: Host, incoming: Incoming, pieces: AsyncIterator[bytes]) -> Reply:
    """Take a part."""
    upload = _find(host, incoming)
    part: Upload | None = None

    async def open(given: str, media_type: str) -> None:
        nonlocal part
        part = await host.files.begin_part(upload)

    async def take(data: bytes) -> None:
        assert part is not None
        await host.files.append_part(upload, part, data)

    try:
        await read_form(incoming.headers.get("content-type", ""), pieces, "data", open, take)
        if part is None:
            refuse("data", "Missing required parameter: 'data'.", "missing_required_parameter")
    except BaseException:
        if part is not None:
            host.files.drop_part(upload, part)
        raise
    told = {"id": PART_PREFIX + part.id, "object": "upload.part", "created_at": int(time.time())}
    return reply(told | {"upload_id": PREFIX + upload.id})


async def complete(host: Host, incoming: Incoming) -> Reply:
    """Make a file of the parts."""
    upload = _find(host, incoming)
    body = mapping(read_json(incoming.body), "body")
    parts = [name.removeprefix(PART_PREFIX) for name in member(body, "part_ids", texts, "")]
    told = maybe(body, "md5", text, "")
    digest = await host.files.join(upload, parts)
    if told is not None and told.lower() != digest:
        host.files.give_up(upload)
        refuse("md5", "The file that was uploaded does not have this MD5 checksum.")
    file = await host.files.finish(upload)
    return reply(_write(upload, "completed") | {"file": write_file(file)})


async def cancel(host: Host, incoming: Incoming) -> Reply:
    """Forget an upload."""
    upload = _find(host, incoming)
    host.files.give_up(upload)
    return reply(_write(upload, "cancelled"))


def _find(host: Host, incoming: Incoming) -> Upload:
    """The owner's upload. Raises UnknownItem."""
    given = incoming.params["id"]
    if not given.startswith(PREFIX):
        _unknown(given)
    try:
        upload = host.files.upload(given.removeprefix(PREFIX))
    except UnknownItem:
        _unknown(given)
    if upload.owner != incoming.owner or upload.size is None:
        _unknown(given)
    return upload


def _unknown(given: str) -> NoReturn:
    raise UnknownItem(f"No such Upload object: {given[:80]}", param="upload_id")


def _write(upload: Upload, status: str) -> dict[str, Any]:
    """An upload as OpenAI writes it."""
    return {
        "id": PREFIX + upload.id,
        "object": "upload",
        "bytes": upload.size,
        "created_at": int(upload.created),
        "expires_at": int(upload.touched + PATIENCE),
        "filename": upload.title or upload.name,
        "purpose": upload.purpose,
        "status": status,
        "file": None,
    }


API = Api(
    name="openai_uploads",
    endpoints=tuple(
        each
        for root in ROOTS
        for each in (
            endpoint("POST", f"{root}/uploads", handle=create),
            endpoint("POST", f"{root}/uploads/{{id}}/parts", take=add),
            endpoint("POST", f"{root}/uploads/{{id}}/complete", handle=complete),
            endpoint("POST", f"{root}/uploads/{{id}}/cancel", handle=cancel),
        )
    ),
)
