"""Google's Files API: files are uploaded in pieces or at once, listed, shown and deleted, and used by their URI.

Promises: names, headers and states are Google's, so that its SDKs upload as they do there; a file is ready as soon as
it is whole; an upload's URL is its key, as Google's SDKs send none with the pieces. As at Google, what was uploaded
cannot be downloaded. Not covered: what a file means in a message (server.files), processing of videos.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from msgspec.structs import replace

from belljar.apis.base import Api, Endpoint, Host
from belljar.dialects.attached import BINARY, ENDINGS, MAX_NAME, safe_name
from belljar.dialects.base import Incoming, Reply, read_json, write_json
from belljar.dialects.fields import filled, mapping, maybe, refuse, text
from belljar.dialects.gemini import DIALECT as GEMINI
from belljar.dialects.google import VERSIONS
from belljar.errors import BelljarError, Forbidden
from belljar.server.files import Stored, Upload

UPLOADS = "/upload/{version}/files/resumable/{upload}"  # of one upload: Google's SDKs take whatever URL they are told
PAGE, LARGEST_PAGE = 10, 100
MAX_TITLE = 512
ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
BOUNDARY = re.compile(r"""boundary=["']?([^"';,\s]{1,200})""", re.IGNORECASE)
STATUS = "x-goog-upload-status"
COMMANDS = ("upload", "finalize", "query", "cancel")


# --- uploading --------------------------------------------------------------------------------------------------------


async def start(host: Host, incoming: Incoming) -> Reply:
    """Begin an upload, or take a whole one: by `X-Goog-Upload-Protocol`, or `uploadType` in the query."""
    headers = incoming.headers
    protocol = headers.get("x-goog-upload-protocol") or incoming.query.get("uploadType") or ""
    kind = headers.get("content-type", "")
    if protocol == "multipart" or (not protocol and kind.startswith("multipart/")):
        about, media_type, data = _read_multipart(incoming.body, kind)
        return await _take_whole(host, incoming, about, media_type, data)
    if protocol in ("raw", "media"):
        return await _take_whole(host, incoming, {}, kind, incoming.body)
    if protocol != "resumable" or "start" not in _commands(headers):
        refuse("X-Goog-Upload-Protocol", "must be `resumable` with the command `start`, `multipart` or `raw`")
    about = _read_about(read_json(incoming.body) if incoming.body.strip() else {})
    media_type = headers.get("x-goog-upload-header-content-type", "")
    size = _length(headers.get("x-goog-upload-header-content-length", ""), "X-Goog-Upload-Header-Content-Length")
    upload = _begin(host, incoming, about, media_type, size)
    path = UPLOADS.format(version=incoming.path.split("/")[2], upload=upload.id)
    return Reply(status=200, body=b"", headers={"x-goog-upload-url": _root(incoming) + path, STATUS: "active"})


async def take(host: Host, incoming: Incoming) -> Reply:
    """A piece of an upload, or another command. Whatever goes wrong is final: SDKs send it again if they are not told
    how the upload stands.
    """
    try:
        return await _take(host, incoming, host.files.upload(incoming.params["upload"]))
    except BelljarError as error:
        reply = GEMINI.write_error(error, None)
        return replace(reply, headers={**reply.headers, STATUS: "final"})


async def _take(host: Host, incoming: Incoming, upload: Upload) -> Reply:
    commands = _commands(incoming.headers)
    if not commands or any(command not in COMMANDS for command in commands):
        refuse("X-Goog-Upload-Command", "must be `upload`, `finalize`, `upload, finalize`, `query` or `cancel`")
    if "cancel" in commands:
        host.files.give_up(upload)
        return Reply(status=200, body=b"", headers={STATUS: "cancelled"})
    if "upload" in commands:
        offset = _length(incoming.headers.get("x-goog-upload-offset", "0"), "X-Goog-Upload-Offset")
        await host.files.append(upload, offset or 0, incoming.body)
    if "finalize" in commands:
        return _done(host.files.finish(upload), incoming)
    received = {"x-goog-upload-size-received": str(upload.received)}
    return Reply(status=200, body=b"", headers={STATUS: "active"} | received)


async def _take_whole(host: Host, incoming: Incoming, about: Mapping[str, Any], media_type: str, data: bytes) -> Reply:
    upload = _begin(host, incoming, about, media_type, len(data))
    try:
        await host.files.append(upload, 0, data)
        return _done(host.files.finish(upload), incoming)
    except BelljarError:
        host.files.give_up(upload)
        raise


def _begin(host: Host, incoming: Incoming, about: Mapping[str, Any], media_type: str, size: int | None) -> Upload:
    """What is told of a file before it comes. Raises BadRequest, TooLarge."""
    media_type = (media_type or about.get("mimeType") or BINARY).partition(";")[0].strip().lower() or BINARY
    title = about.get("displayName")
    given = incoming.headers.get("x-goog-upload-file-name") or title or ""
    name = safe_name(given).encode()[-MAX_NAME:].decode("utf-8", "ignore").strip("._-") or "file"
    if "." not in name:
        other = "text/plain" if media_type.startswith("text/") else BINARY
        name += ENDINGS.get(media_type, ENDINGS[other])[0]
    return host.files.begin(incoming.owner, name, media_type, size=size, title=title, file_id=about.get("id"))


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
    token = query.get("pageToken") or query.get("page_token") or ""
    files = list(host.files.list(incoming.owner))
    if token:
        place = next((at for at, file in enumerate(files) if file.id == token), None)
        if place is None:
            refuse("pageToken", "is none that was given here, or its file is gone")
        files = files[place + 1 :]
    page = files[: min(size, LARGEST_PAGE)]
    body: dict[str, Any] = {"files": [_file(file, incoming) for file in page]} if page else {}
    if len(files) > len(page):
        body["nextPageToken"] = page[-1].id
    return Reply(status=200, body=write_json(body))


async def show(host: Host, incoming: Incoming) -> Reply:
    """One file's metadata."""
    return Reply(status=200, body=write_json(_file(_find(host, incoming), incoming)))


async def download(host: Host, incoming: Incoming) -> Reply:
    """Refused: only generated files can be downloaded, and none are."""
    _find(host, incoming)
    refuse("name", "is the name of an uploaded file: only generated files can be downloaded")


async def delete(host: Host, incoming: Incoming) -> Reply:
    """Forget a file."""
    file = _find(host, incoming)
    host.files.delete(file.owner, file.id)
    return Reply(status=200, body=b"{}")


def _find(host: Host, incoming: Incoming) -> Stored:
    """The owner's file. Raises Forbidden, as Google does, which does not tell whether there is one."""
    identity = incoming.params["id"]
    file = host.files.get(incoming.owner, identity)
    if file is None:
        raise Forbidden(f"You do not have permission to access the File {identity[:80]} or it may not exist.")
    return file


def _done(file: Stored, incoming: Incoming) -> Reply:
    return Reply(status=200, body=write_json({"file": _file(file, incoming)}), headers={STATUS: "final"})


def _file(file: Stored, incoming: Incoming) -> dict[str, Any]:
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


def _endpoint(method: str, path: str, handle: Any, *, open: bool = False) -> Endpoint:
    return Endpoint(method=method, path=path, handle=handle, open=open, dialect=GEMINI.name, claims=GEMINI.claims)


API = Api(
    name="gemini_files",
    endpoints=tuple(
        endpoint
        for version in VERSIONS
        for endpoint in (
            _endpoint("POST", f"/upload/{version}/files", start),
            _endpoint("POST", UPLOADS.format(version=version, upload="{upload}"), take, open=True),
            _endpoint("PUT", UPLOADS.format(version=version, upload="{upload}"), take, open=True),
            _endpoint("GET", f"/{version}/files", listing),
            _endpoint("GET", f"/{version}/files/{{id}}:download", download),
            _endpoint("GET", f"/{version}/files/{{id}}", show),
            _endpoint("DELETE", f"/{version}/files/{{id}}", delete),
        )
    ),
)
