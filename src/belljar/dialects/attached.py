"""Files inside JSON: data URLs, base64, documents; and the names under which they reach the sandbox.

Promises: a name holds no folder, no control character and at most 120 bytes, and is the only one of its request; bytes
are what the client encoded, or BadRequest. Not covered: what is inside a file; limits of size, which are the server's.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any
from urllib.parse import unquote_to_bytes

import msgspec

from belljar.dialects.fields import kind_of, refuse
from belljar.model import Extra, File, Image, Part

MAX_NAME = 120  # bytes
SNIFFED = 4096  # bytes or characters of a file that are looked at
LONG = 256  # characters from which base64 of an unknown kind is believed to be base64

BINARY = "application/octet-stream"
ENDINGS = {  # media type -> ending of a name; the first of a type is the one that is given
    "text/plain": (".txt", ".text", ".log"),
    "text/csv": (".csv",),
    "text/tab-separated-values": (".tsv",),
    "text/markdown": (".md",),
    "text/html": (".html", ".htm"),
    "text/xml": (".xml",),
    "text/x-python": (".py",),
    "text/x-c++": (".cpp", ".cc", ".cxx", ".hpp"),
    "text/x-java": (".java",),
    "text/javascript": (".js", ".mjs"),
    "text/x-typescript": (".ts", ".tsx"),
    "application/json": (".json",),
    "application/x-ndjson": (".jsonl", ".ndjson"),
    "application/xml": (".xml",),
    "application/yaml": (".yaml", ".yml"),
    "application/pdf": (".pdf",),
    "application/zip": (".zip",),
    "application/gzip": (".gz",),
    "application/vnd.apache.parquet": (".parquet",),
    "application/vnd.ms-excel": (".xls",),
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": (".xlsx",),
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": (".docx",),
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": (".pptx",),
    "application/vnd.sqlite3": (".sqlite", ".db"),
    "application/x-hdf5": (".h5", ".hdf5"),
    "application/x-npy": (".npy",),
    "image/png": (".png",),
    "image/jpeg": (".jpg", ".jpeg"),
    "image/gif": (".gif",),
    "image/webp": (".webp",),
    "image/svg+xml": (".svg",),
    "image/bmp": (".bmp",),
    "image/tiff": (".tif", ".tiff"),
    BINARY: (".bin",),
}
TYPES = {ending: kind for kind, endings in reversed(ENDINGS.items()) for ending in endings}
SPELLINGS = {
    "image/jpg": "image/jpeg",
    "application/x-gzip": "application/gzip",
    "application/csv": "text/csv",
    "application/javascript": "text/javascript",
    "application/x-javascript": "text/javascript",
    "application/typescript": "text/x-typescript",
    "application/x-typescript": "text/x-typescript",
    "text/typescript": "text/x-typescript",
    "application/x-python-code": "text/x-python",
    "text/x-c++src": "text/x-c++",
    "text/x-cpp": "text/x-c++",
    "text/x-java-source": "text/x-java",
}
VAGUE = ("", BINARY, "text/plain")  # types that looking at the bytes may improve on

MAGIC = {  # the first bytes of a file -> what it is
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"%PDF-": "application/pdf",
    b"PK\x03\x04": "application/zip",
    b"\x1f\x8b": "application/gzip",
    b"PAR1": "application/vnd.apache.parquet",
    b"SQLite format 3\0": "application/vnd.sqlite3",
    b"\x89HDF\r\n\x1a\n": "application/x-hdf5",
    b"\x93NUMPY": "application/x-npy",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "application/vnd.ms-excel",
}
_UNSAFE = re.compile(r"[^\w.()+-]+")
_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+", re.ASCII)


def read_data_url(url: str, param: str) -> tuple[str, bytes]:
    """The media type, in lower case, "" where none is given, and the bytes of a data URL (RFC 2397)."""
    head, comma, data = url.partition(",")
    if not comma:
        refuse(param, "must be a data URL of the form data:TYPE;base64,DATA")
    kind, *attributes = head[len("data:") :].lower().split(";")
    content = read_base64(data, param) if "base64" in [name.strip() for name in attributes] else _unquote(data, param)
    kind = kind.strip() if _TYPE.fullmatch(kind.strip()) else ""
    return SPELLINGS.get(kind, kind), content


def is_data_url(value: str) -> bool:
    """Whether it begins as one."""
    return value[:5].lower() == "data:"


def read_base64(data: str, param: str) -> bytes:
    """Decoded base64; white space in it is passed over."""
    content = _decoded(data)
    if content is None:
        content = _decoded("".join(data.split()))
    if content is None:
        refuse(param, "holds no valid base64")
    return content


def _decoded(data: str) -> bytes | None:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return None


def _unquote(data: str, param: str) -> bytes:
    try:
        return unquote_to_bytes(data)
    except ValueError:
        refuse(param, "holds no valid percent-encoding")


def read_document(data: Any, param: str) -> tuple[str, bytes]:
    """The media type ("" where it must be guessed) and bytes of a document: an object, text, base64 or a data URL."""
    if isinstance(data, dict | list):
        return "application/json", msgspec.json.encode(data)
    if not isinstance(data, str):
        refuse(param, f"must be a string or an object, not {kind_of(data)}")
    if is_data_url(data):
        return read_data_url(data, param)
    return "", _maybe_base64(data) or data.encode()


def _maybe_base64(data: str) -> bytes | None:
    """The bytes, where a text is base64 beyond reasonable doubt.

    That is: it decodes, and to a known kind of file or to text; or it is long and looks like nothing else.
    """
    if not data or len(data) % 4:
        return None
    content = _decoded(data)
    if content is None:
        return None
    mixed = all(re.search(kind, data) for kind in ("[a-z]", "[A-Z]", "[0-9]"))
    return content if _magic(content) or _is_text(content) or (len(data) >= LONG and mixed) else None


def _magic(data: bytes) -> str:
    return next((kind for start, kind in MAGIC.items() if data.startswith(start)), "")


def _is_text(data: bytes) -> bool:
    try:
        return all(char.isprintable() or char.isspace() for char in data.decode()[:SNIFFED])
    except UnicodeDecodeError:
        return False


def sniff(data: bytes) -> str:
    """The media type that the bytes suggest."""
    if not _is_text(data):
        return _magic(data) or BINARY
    if data[:1] in (b"{", b"[") and _is_json(data):
        return "application/json"
    commas = [line.count(b",") for line in data[:SNIFFED].split(b"\n")[:3] if line.strip()]
    return "text/csv" if len(commas) > 1 and len(set(commas)) == 1 and commas[0] else "text/plain"


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


class Attachments:
    """The files of one request: each gets a name of its own."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}  # a name that is taken -> the number that its last namesake got
        self._counts: dict[str, int] = {}

    def add(self, kind: str, data: bytes, media_type: str = "", name: str = "") -> File:
        """A file; without a name it is called after its `kind`: document-1.txt."""
        self._counts[kind] = count = self._counts.get(kind, 0) + 1
        stem, ending = _split(safe_name(name))
        if media_type in VAGUE:
            media_type = TYPES.get(ending.lower()) or sniff(data)
        other = "text/plain" if media_type.startswith("text/") else BINARY
        ending = ending or ENDINGS.get(media_type, ENDINGS[other])[0]
        return File(name=self._free(stem or f"{kind}-{count}", ending), media_type=media_type, data=data)

    def picture(self, url: str, param: str, *, as_file: bool, extra: Extra | None = None) -> list[Part]:
        """A picture for a model: a web address, or a data URL, which becomes a file as well (`as_file`).

        Raises BadRequest.
        """
        extra = extra or {}
        if url[:8].lower().startswith(("http://", "https://")):
            return [Image(media_type="image/*", url=url, extra=extra)]
        if not is_data_url(url):
            refuse(param, "must be an http(s) URL, or a data URL of the form data:image/png;base64,DATA")
        kind, data = read_data_url(url, param)
        if not kind.startswith("image/") or not data:
            refuse(param, "must be a data URL of an image, as data:image/png;base64,DATA")
        files = [self.add("image", data, kind)] if as_file else []
        return [Image(media_type=kind, data=data, extra=extra), *files]

    def _free(self, stem: str, ending: str) -> str:
        wanted = name = stem + ending
        while name in self._numbers:
            self._numbers[wanted] += 1
            name = f"{stem}-{self._numbers[wanted]}{ending}"
        self._numbers[name] = 1
        return name

    def __len__(self) -> int:
        return len(self._numbers)


def safe_name(name: str) -> str:
    """The last part of a path, of letters, digits and a few signs only; "" where nothing is left of it."""
    last = re.split(r"[/\\]", name)[-1]
    return _UNSAFE.sub("_", last).strip("._-")


def own_name(given: str) -> str:
    """The last part of a path as a client wrote it, without what no text shows; "file" where nothing is left."""
    last = "".join(c for c in re.split(r"[/\\]", given)[-1] if c.isprintable())
    name = "".join(_split(last.strip()))
    return name if name.strip(".") else "file"


def file_name(given: str, media_type: str) -> str:
    """A name for the sandbox, after the one that a client gave to its file, with an ending."""
    stem, ending = _split(safe_name(given))
    if ending and stem:
        return stem + ending
    other = "text/plain" if media_type.startswith("text/") else BINARY
    return "".join(_split((stem or "file") + ENDINGS.get(media_type, ENDINGS[other])[0]))


def type_of(name: str, told: str) -> str:
    """The media type of a file: what its client told, or what the ending of its name says where that says nothing."""
    kind = told.partition(";")[0].strip().lower()
    kind = SPELLINGS.get(kind, kind)
    if kind in VAGUE or not _TYPE.fullmatch(kind):
        return TYPES.get(_split(name)[1].lower()) or (kind if kind in VAGUE and kind else BINARY)
    return kind


def _split(name: str) -> tuple[str, str]:
    """Stem and ending of a name, shortened to MAX_NAME bytes together."""
    stem, dot, ending = name.rpartition(".")
    if not dot or not stem or len(ending.encode()) > 16:
        stem, dot, ending = name, "", ""
    room = MAX_NAME - len((dot + ending).encode())
    return stem.encode()[:room].decode("utf-8", "ignore"), dot + ending
