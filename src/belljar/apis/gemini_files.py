"""Google's Files API: files are uploaded in pieces or at once, listed, shown and deleted, and used by their URI.

Promises: names, headers and states are Google's, so that its SDKs upload as they do there; a file is ready as soon as
it is whole; an upload's URL is its key, as Google's SDKs send none with the pieces. As at Google, what was uploaded
cannot be downloaded. Not covered: what a file means in a message (server.files), processing of videos.
"""

from __future__ import annotations

import base64
import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from belljar.apis.base import Api, Endpoint, Host
from belljar.dialects.attached import BINARY, file_name
from belljar.dialects.base import Incoming, Reply, read_json, write_json
from belljar.dialects.fields import filled, mapping, maybe, refuse, text
from belljar.dialects.gemini import DIALECT as GEMINI
from belljar.dialects.google import VERSIONS
from belljar.errors import BelljarError, Forbidden, TooLarge, UnknownItem
from belljar.server.files import Upload
from belljar.store.rows import FileRow

UPLOADS = "/upload/{version}/files/resumable/{upload}"  # of one upload: Google's SDKs take whatever URL they are told
LIFETIME = 48 * 3600.0  # seconds, as Google keeps them
MOST_ABOUT = 1 << 20  # bytes of metadata
MOST_MULTIPART = 32 << 20  # bytes of a multipart/related body
PAGE, LARGEST_PAGE = 10, 100
MAX_TITLE = 512
ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
BOUNDARY = re.compile(r"""boundary=["']?([^"';,\s]{1,200})""", re.IGNORECASE)
STATUS = "x-goog-upload-status"
COMMANDS = ("upload", "finalize", "query", "cancel")


# --- uploading --------------------------------------------------------------------------------------------------------


async def start(host: Host, incoming: Incoming, pieces: AsyncIterator[bytes]) -> Reply:
    """Begin an upload, or take a whole one: by `X-Goog-Upload-Protocol`, or `uploadType` in the query."""
    headers = incoming.headers
    protocol = headers.get("x-goog-upload-protocol") or incoming.query.get("uploadType") or ""
    kind = headers.get("content-type", "")
    if protocol == "multipart" or (not protocol and kind.startswith("multipart/")):
        about, media_type, data = _read_multipart(await _all(pieces, MOST_MULTIPART), kind)
        return await _take_whole(host, incoming, about, media_type, _one(data))
    if protocol in ("raw", "media"):
        return await _take_whole(host, incoming, {}, kind, pieces)
    if protocol != "resumable" or "start" not in _commands(headers):
        refuse("X-Goog-Upload-Protocol", "must be `resumable` with the command `start`, `multipart` or `raw`")
    body = await _all(pieces, MOST_ABOUT)
    about = _read_about(read_json(body) if body.strip() else {})
    media_type = headers.get("x-goog-upload-header-content-type", "")
    size = _length(headers.get("x-goog-upload-header-content-length", ""), "X-Goog-Upload-Header-Content-Length")
    upload = await _begin(host, incoming, about, media_type, size)
    path = UPLOADS.format(version=incoming.path.split("/")[2], upload=upload.id)
    return Reply(status=200, body=b"", headers={"x-goog-upload-url": _root(incoming) + path, STATUS: "active"})


async def take(host: Host, incoming: Incoming, pieces: AsyncIterator[bytes]) -> Reply:
    """A piece of an upload, or another command. Whatever goes wrong is final: SDKs send it again if they are not told
    how the upload stands.
    """
    try:
        return await _take(host, incoming, pieces, host.files.upload(incoming.params["upload"]))
    except BelljarError as error:
        reply = GEMINI.write_error(error, None)
        return replace(reply, headers={**reply.headers, STATUS: "final"})


async def _take(host: Host, incoming: Incoming, pieces: AsyncIterator[bytes], upload: Upload) -> Reply:
    commands = _commands(incoming.headers)
    if not commands or any(command not in COMMANDS for command in commands):
        refuse("X-Goog-Upload-Command", "must be `upload`, `finalize`, `upload, finalize`, `query` or `cancel`")
    if "cancel" in commands:
        host.files.give_up(upload)
        return Reply(status=200, body=b"", headers={STATUS: "cancelled"})
    if "upload" in commands:
        offset = _length(incoming.headers.get("x-goog-upload-offset", "0"), "X-Goog-Upload-Offset")
        await host.files.take(upload, offset or 0, pieces)
    if "finalize" in commands:
        return _done(await host.files.finish(upload), incoming)
    received = {"x-goog-upload-size-received": str(upload.received)}
    return Reply(status=200, body=b"", headers={STATUS: "active"} | received)


async def _take_whole(
    host: Host, incoming: Incoming, about: Mapping[str, Any], media_type: str, pieces: AsyncIterator[bytes]
) -> Reply:
    upload = await _begin(host, incoming, about, media_type, None)
    try:
        await host.files.take(upload, 0, pieces)
        return _done(await host.files.finish(upload), incoming)
    except BaseException:
        host.files.give_up(upload)
        raise


async def _begin(host: Host, incoming: Incoming, about: Mapping[str, Any], media_type: str, size: int | None) -> Upload:
    """What is told of a file before it comes. Raises BadRequest, TooLarge."""
    media_type = (media_type or about.get("mimeType") or BINARY).partition(";")[0].strip().lower() or BINARY
    title = about.get("displayName")
    name = file_name(incoming.headers.get("x-goog-upload-file-name") or title or "", media_type)
    return await host.files.begin(
        incoming.owner, name, media_type, size=size, title=title, lifetime=LIFETIME, file_id=about.get("id")
    )


async def _all(pieces: AsyncIterator[bytes], most: int) -> bytes:
    """A body that is read at once. Raises TooLarge."""
    body = bytearray()
    async for piece in pieces:
        body += piece
        if len(body) > most:
            raise TooLarge(f"this kind of body may have {most:,} bytes; upload large files in pieces (resumable)")
    return bytes(body)


async def _one(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _read_about(body: Any) -> dict[str, Any]:
    """The metadata of a file, in either spelling. Raises BadRequest."""
    value = maybe(mapping(body, "body"), "file", mapping, "") or {}
    about: dict[str, Any] = {}
    for name, other in (("displayName", "display_name"), ("mimeType", "mime_type")):
        given = maybe(value, name, text, "file") or maybe(value, other, text, "file")
        if given:
            about[name] = given
    if len(about.get("displayName", "")) > MAX_TITLE:
        refuse("file.displayName", f"must have at most {MAX_TITLE} characters")
    name = maybe(value, "name", filled, "file")
    if name is not None:
        about["id"] = name.removeprefix("files/")
        if not ID.fullmatch(about["id"]):
            refuse("file.name", "must be `files/` and up to 40 lower-case letters, digits and dashes")
    return about


def _read_multipart(body: bytes, kind: str) -> tuple[dict[str, Any], str, bytes]:
    """Metadata, media type and content of a multipart/related body (RFC 2387). Raises BadRequest."""
    found = BOUNDARY.search(kind)
    if found is None:
        refuse("content-type", "must name the boundary of the body's parts")
    line = b"\r\n" if b"\r\n" in body[:1000] else b"\n"
    pieces = (line + body).split(line + b"--" + found[1].encode("latin-1"))
    if len(pieces) != 4 or not pieces[3].startswith(b"--"):
        refuse("body", "must be a multipart/related of two parts: metadata in JSON, and the file")
    parts = [piece.lstrip(b" \t")[len(line) :].partition(line + line) for piece in pieces[1:3]]
    type_line = re.search(rb"(?im)^content-type:[ \t]*([^\r\n;]+)", parts[1][0])
    return _read_about(read_json(parts[0][2])), type_line[1].decode("latin-1") if type_line else "", parts[1][2]


def _commands(headers: Mapping[str, str]) -> list[str]:
    return [word.strip().lower() for word in headers.get("x-goog-upload-command", "").split(",") if word.strip()]


def _length(value: str, param: str) -> int | None:
    value = value.strip()
    if not value:
        return None
    if not (value.isascii() and value.isdigit() and len(value) < 16):
        refuse(param, f"must be a number of bytes, not {value[:40]!r}")
    return int(value)


# --- what there is ----------------------------------------------------------------------------------------------------


async def listing(host: Host, incoming: Incoming) -> Reply:
    """The owner's files, the newest first, in pages."""
    query = incoming.query
    size = _length(query.get("pageSize") or query.get("page_size") or "", "pageSize") or PAGE
    token = query.get("pageToken") or query.get("page_token") or None
    try:
        files, more = await host.files.page(incoming.owner, token, min(size, LARGEST_PAGE))
    except UnknownItem:
        refuse("pageToken", "is none that was given here, or its file is gone")
    body: dict[str, Any] = {"files": [_file(file, incoming) for file in files]} if files else {}
    if more:
        body["nextPageToken"] = files[-1].id
    return Reply(status=200, body=write_json(body))


async def show(host: Host, incoming: Incoming) -> Reply:
    """One file's metadata."""
    return Reply(status=200, body=write_json(_file(await _find(host, incoming), incoming)))


async def download(host: Host, incoming: Incoming) -> Reply:
    """Refused: only generated files can be downloaded, and none are."""
    await _find(host, incoming)
    refuse("name", "is the name of an uploaded file: only generated files can be downloaded")


async def delete(host: Host, incoming: Incoming) -> Reply:
    """Forget a file."""
    file = await _find(host, incoming)
    await host.files.delete(file.owner, file.id)
    return Reply(status=200, body=b"{}")


async def _find(host: Host, incoming: Incoming) -> FileRow:
    """The owner's file. Raises Forbidden, as Google does, which does not tell whether there is one."""
    identity = incoming.params["id"]
    file = await host.files.get(incoming.owner, identity)
    if file is None:
        raise Forbidden(f"You do not have permission to access the File {identity[:80]} or it may not exist.")
    return file


def _done(file: FileRow, incoming: Incoming) -> Reply:
    return Reply(status=200, body=write_json({"file": _file(file, incoming)}), headers={STATUS: "final"})


def _file(file: FileRow, incoming: Incoming) -> dict[str, Any]:
    """A file as Google writes it. `sha256Hash` is base64 of the digits of the digest, as there."""
    version = next((part for part in incoming.path.split("/")[1:3] if part in VERSIONS), "v1beta")
    body = {
        "name": f"files/{file.id}",
        "mimeType": file.media_type,
        "sizeBytes": str(file.size),
        "createTime": _time(file.created),
        "updateTime": _time(file.created),
        "expirationTime": _time(file.expires),
        "sha256Hash": base64.b64encode(file.digest.hex().encode()).decode(),
        "uri": f"{_root(incoming)}/{version}/files/{file.id}",
        "state": "ACTIVE",
        "source": "UPLOADED",
    }
    return body if file.title is None else body | {"displayName": file.title}


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _root(incoming: Incoming) -> str:
    """The URL of this server, as its client knows it."""
    scheme = incoming.headers.get("x-forwarded-proto", "http")
    return f"{scheme if scheme in ('http', 'https') else 'http'}://{incoming.headers.get('host', 'localhost')}"


# --- paths ------------------------------------------------------------------------------------------------------------


def _endpoint(method: str, path: str, **more: Any) -> Endpoint:
    return Endpoint(method=method, path=path, dialect=GEMINI.name, claims=GEMINI.claims, **more)


API = Api(
    name="gemini_files",
    endpoints=tuple(
        endpoint
        for version in VERSIONS
        for endpoint in (
            _endpoint("POST", f"/upload/{version}/files", take=start),
            _endpoint("POST", UPLOADS.format(version=version, upload="{upload}"), take=take, open=True),
            _endpoint("PUT", UPLOADS.format(version=version, upload="{upload}"), take=take, open=True),
            _endpoint("GET", f"/{version}/files", handle=listing),
            _endpoint("GET", f"/{version}/files/{{id}}:download", handle=download),
            _endpoint("GET", f"/{version}/files/{{id}}", handle=show),
            _endpoint("DELETE", f"/{version}/files/{{id}}", handle=delete),
        )
    ),
)
