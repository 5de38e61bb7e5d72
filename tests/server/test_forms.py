"""Forms with a file in them: read alike wherever they are cut, and refused where they are none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

import pytest

from belljar.errors import BadRequest
from belljar.server import forms
from belljar.server.forms import read_form

KIND = "multipart/form-data; boundary=xy"
FILE = b"\r\n--x not the end --xy\r\n\r\n"
FORM = (
    b'--xy\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
    b'--xy\r\nContent-Disposition: form-data; name="file"; filename="a %22b%22.csv"\r\nContent-Type: text/csv\r\n\r\n'
    + FILE
    + b'\r\n--xy\r\ncontent-disposition: form-data; name="expires_after[seconds]"\r\n\r\n\xc3\xbc\r\n--xy--\r\n'
)


@dataclass
class Sink:
    """What came of the file."""

    opened: list[tuple[str, str]] = field(default_factory=list)
    taken: list[bytes] = field(default_factory=list)

    async def open(self, name: str, media_type: str) -> None:
        self.opened.append((name, media_type))

    async def take(self, data: bytes) -> None:
        self.taken.append(data)


async def cut(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def read(body: bytes, at: int = 0, kind: str = KIND, name: str = "file") -> tuple[dict[str, str], Sink]:
    sink = Sink()
    return await read_form(kind, cut((body[:at], body[at:])), name, sink.open, sink.take), sink


async def test_cut_anywhere() -> None:
    for at in range(len(FORM)):
        fields, sink = await read(FORM, at)
        assert fields == {"purpose": "user_data", "expires_after[seconds]": "ü"}
        assert sink.opened == [('a "b".csv', "text/csv")]
        assert b"".join(sink.taken) == FILE


async def test_fields_of_the_same_name_are_counted() -> None:
    part = b'--xy\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n'
    assert (await read(part * forms.MOST_FIELDS + b"--xy--\r\n"))[0] == {"a": ""}
    with pytest.raises(BadRequest, match="more than"):
        await read(part * (forms.MOST_FIELDS + 1) + b"--xy--\r\n")


async def test_byte_by_byte() -> None:
    sink = Sink()
    await read_form(KIND, cut(bytes([byte]) for byte in FORM), "file", sink.open, sink.take)
    assert b"".join(sink.taken) == FILE


async def test_a_form_that_ends_too_early() -> None:
    for at in range(len(FORM) - len(b"--\r\n")):
        with pytest.raises(BadRequest):
            await read(FORM[:at])


async def test_a_large_file_is_passed_on_in_pieces() -> None:
    head, _, tail = FORM.partition(FILE)
    large = bytes(5) * forms.PIECE
    fields, sink = {}, Sink()
    pieces = [head, *(large[at : at + 65536] for at in range(0, len(large), 65536)), tail]
    fields = await read_form(KIND, cut(pieces), "file", sink.open, sink.take)
    assert fields["purpose"] == "user_data"
    assert b"".join(sink.taken) == large
    assert max(map(len, sink.taken)) <= forms.PIECE + 65536


def part(disposition: bytes, content: bytes = b"x", more: bytes = b"") -> bytes:
    return b"--xy\r\nContent-Disposition: form-data; " + disposition + b"\r\n" + more + b"\r\n" + content + b"\r\n"


END = b"--xy--\r\n"
ONE = part(b'name="file"; filename="a"')
BROKEN: list[tuple[str, bytes, str]] = [
    ("application/json", b"{}", "must be multipart/form-data"),
    ("", FORM, "must be multipart/form-data"),
    ("multipart/form-data", FORM, "boundary"),
    ("multipart/form-data; boundary=" + "x" * 300, FORM, "boundary"),
    (KIND, b"", "ends too early"),
    (KIND, b"hello", "is not multipart/form-data"),
    (KIND, FORM.replace(b"--xy", b"--zz"), "is not multipart/form-data"),
    (KIND, b"--xy\r\nno colon\r\n\r\nx\r\n--xy--\r\n", "is not multipart/form-data"),
    (KIND, b"--xy\r\nContent-Type: text/plain\r\n\r\nx\r\n--xy--\r\n", "has no name"),
    (KIND, part(b'filename="a"') + END, "has no name"),
    (KIND, ONE + ONE + END, "one file"),
    (KIND, part(b'name="data"; filename="a"') + END, "one file"),
    (KIND, part(b'name="a"', b"x" * (forms.FIELD_BYTES + 1)) + END, "a field of the form is over"),
    (KIND, b"".join(part(b'name="f%d"' % n) for n in range(forms.MOST_FIELDS + 1)) + END, "fields"),
    (KIND, part(b'name="a"', more=b"X-Long: " + b"x" * 10_000 + b"\r\n") + END, "is not multipart/form-data"),
    (KIND, part(b'name="a"', more=b"X: y\r\n" * 100) + END, "is not multipart/form-data"),
]


@pytest.mark.parametrize(("kind", "body", "said"), BROKEN)
async def test_refusals(kind: str, body: bytes, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        await read(body, kind=kind)


async def test_fields_alone() -> None:
    fields, sink = await read(part(b'name="file"', b"no file") + END)
    assert (fields, sink.opened) == ({"file": "no file"}, [])
