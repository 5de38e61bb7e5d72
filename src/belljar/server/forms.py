"""Forms with a file in them (multipart/form-data, RFC 7578), read as they come: fields are held, the file is passed on.

Promises: memory does not grow with the file; fields are few and short; a body that is no such form, or ends too early,
is a BadRequest. Not covered: more than one file.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from belljar.errors import BadRequest

MOST_FIELDS = 64
FIELD_BYTES = 64 << 10
PIECE = 1 << 20  # bytes of the file that are passed on at once

Open = Callable[[str, str], Awaitable[None]]  # the name that its client gave the file, and its media type, "" for none
Take = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Head:
    """A part begins: `filename` None for a field."""

    name: str
    filename: str | None
    media_type: str


@dataclass(slots=True)
class _Parts:
    """What the parser finds, in its order: a head, bytes of the content, None at the end of a part."""

    found: list[_Head | bytes | None] = field(default_factory=list)
    whole: bool = False
    _name: bytes = b""
    _value: bytes = b""
    _headers: dict[bytes, bytes] = field(default_factory=dict)
    _fields: int = 0

    def callbacks(self) -> dict[str, Callable[..., None]]:
        """For the parser."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_name,
            "on_header_value": self._on_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._end_head,
            "on_part_data": lambda data, start, end: self.found.append(data[start:end]),
            "on_part_end": lambda: self.found.append(None),
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._headers = {}

    def _on_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]  # the parser bounds headers, in number and size

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _end_head(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if b"name" not in options:
            raise BadRequest("a part of the form has no name")
        filename = options.get(b"filename")
        self._fields += filename is None
        if self._fields > MOST_FIELDS:  # also of the same name
            raise BadRequest(f"the form has more than {MOST_FIELDS} fields")
        self.found.append(
            _Head(
                name=options[b"name"].decode("utf-8", "replace"),
                # What browsers and SDKs write for a quotation mark.
                filename=None if filename is None else filename.decode("utf-8", "replace").replace("%22", '"'),
                media_type=self._headers.get(b"content-type", b"").decode("latin-1").strip(),
            )
        )

    def _end(self) -> None:
        self.whole = True


async def read_form(
    content_type: str, pieces: AsyncIterator[bytes], file: str, open: Open, take: Take
) -> dict[str, str]:
    """The fields of a form. The file, which is the part of the name `file`, goes to `open`, then to `take`.

    Raises BadRequest, and what those raise.
    """
    parts = _Parts()
    parser = _parser(content_type, parts)
    reader = _Reader(file, open, take)
    try:
        async for piece in pieces:
            parser.write(piece)
            found, parts.found = parts.found, []
            for step in found:
                await reader.read(step)
        parser.finalize()
    except FormParserError as error:
        raise BadRequest(f"the body is not multipart/form-data, as its content-type says: {error}") from None
    if not parts.whole:
        raise BadRequest("the multipart/form-data body ends too early")
    return reader.fields


def is_form(headers: Mapping[str, str]) -> bool:
    """Whether a request says that its body is such a form."""
    return headers.get("content-type", "").strip().lower().startswith("multipart/form-data")


def _parser(content_type: str, parts: _Parts) -> MultipartParser:
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind.strip().lower() != b"multipart/form-data" or not 0 < len(boundary) <= 200:
        raise BadRequest("the body must be multipart/form-data, and its content-type must name the boundary")
    return MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]  # a TypedDict of the same shape


class _Reader:
    """Puts the parts together."""

    def __init__(self, file: str, open: Open, take: Take) -> None:
        self.fields: dict[str, str] = {}
        self._file, self._open, self._take = file, open, take
        self._head: _Head | None = None
        self._seen = False
        self._data = bytearray()

    async def read(self, step: _Head | bytes | None) -> None:
        """The next step. Raises BadRequest."""
        if isinstance(step, _Head):
            await self._begin(step)
        elif step is None:
            await self._end()
        else:
            self._data += step
            if self._is_file and len(self._data) >= PIECE:
                await self._pass_on()
            elif not self._is_file and len(self._data) > FIELD_BYTES:
                raise BadRequest(f"a field of the form is over {FIELD_BYTES:,} bytes")

    @property
    def _is_file(self) -> bool:
        return self._head is not None and self._head.filename is not None

    async def _begin(self, head: _Head) -> None:
        self._head = head
        if head.filename is None:
            return
        if head.name != self._file or self._seen:
            raise BadRequest(f"the form may hold one file, in its part `{self._file}`", param=self._file)
        self._seen = True
        await self._open(head.filename, head.media_type)

    async def _end(self) -> None:
        assert self._head is not None
        if self._is_file:
            await self._pass_on()
        else:
            self.fields[self._head.name] = self._data.decode("utf-8", "replace")
            self._data.clear()

    async def _pass_on(self) -> None:
        if self._data:
            data = bytes(self._data)
            self._data.clear()
            await self._take(data)
