"""Server-sent events: the same events however the bytes are cut."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.sse import ServerEvent, SSEError, SSEReader, write_event

# name -> (bytes, events as (name, data))
STREAMS: dict[str, tuple[bytes, list[tuple[str, bytes]]]] = {
    "one": (b"data: a\n\n", [("", b"a")]),
    "two": (b"data: a\n\ndata: b\n\n", [("", b"a"), ("", b"b")]),
    "no space": (b"data:a\n\n", [("", b"a")]),
    "two spaces": (b"data:  a\n\n", [("", b" a")]),
    "crlf": (b"data: a\r\n\r\ndata: b\r\n\r\n", [("", b"a"), ("", b"b")]),
    "cr": (b"data: a\r\rdata: b\r\r", [("", b"a"), ("", b"b")]),
    "mixed ends": (b"data: a\r\n\ndata: b\n\r\ndata: c\r\n\r", [("", b"a"), ("", b"b"), ("", b"c")]),
    "cr, lf, lf": (b"data: a\r\n\n\ndata: b\n\n", [("", b"a"), ("", b"b")]),
    "named": (b"event: error\ndata: {}\n\ndata: x\n\n", [("error", b"{}"), ("", b"x")]),
    "name after data": (b"data: {}\nevent: late\n\n", [("late", b"{}")]),
    "name without data": (b"event: ping\n\ndata: a\n\n", [("", b"a")]),
    "lines": (b"data: a\ndata: b\n\n", [("", b"a\nb")]),
    "comment": (b": OPENROUTER PROCESSING\n\ndata: a\n\n: x\ndata: b\n\n", [("", b"a"), ("", b"b")]),
    "other fields": (b"id: 1\nretry: 5\ndata: a\n\n", [("", b"a")]),
    "data alone": (b"data\n\n", [("", b"")]),
    "byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [("", b"a")]),
    "no last empty line": (b"data: a\n\ndata: b\n", [("", b"a"), ("", b"b")]),
    "no last line end": (b"data: a\n\ndata: b", [("", b"a"), ("", b"b")]),
    "not of this kind": (b'{"error": 1}\n\n', []),
    "nothing": (b"", []),
    "utf-8": ("data: žluťoučký 🐴\n\n".encode(), [("", "žluťoučký 🐴".encode())]),
    "separators that are no line ends": (
        "data: a\u2028b\x0b\x0c\x1cc\n\n".encode(),
        [("", "a\u2028b\x0b\x0c\x1cc".encode())],
    ),
}


def read(*pieces: bytes, most: int = 1 << 20) -> list[tuple[str, bytes]]:
    reader = SSEReader(most)
    events = [event for piece in pieces for event in reader.feed(piece)]
    return [(event.name, event.data) for event in [*events, *reader.end()]]


@pytest.mark.parametrize("name", STREAMS)
def test_reads_a_stream_however_it_is_cut(name: str) -> None:
    raw, events = STREAMS[name]
    assert read(raw) == events
    assert read(*(raw[place : place + 1] for place in range(len(raw)))) == events
    for place in range(len(raw)):
        assert read(raw[:place], raw[place:]) == events, place
        assert read(raw[:place], b"", raw[place : place + 1], raw[place + 1 :]) == events, place


@given(
    st.lists(st.sampled_from([b"data: ", b"data:", b"event: e", b": c", b"a", b"b", b"\n", b"\n\n", b"\r", b"\r\n"])),
    st.data(),
)
def test_any_stream_reads_the_same_however_it_is_cut(pieces: list[bytes], data: st.DataObject) -> None:
    raw = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    parts = [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]
    assert read(*parts) == read(*(raw[place : place + 1] for place in range(len(raw)))) == read(raw)


@given(st.lists(st.tuples(st.binary().filter(lambda b: not {10, 13} & {*b}), st.sampled_from(["", "error", "x"]))))
def test_reads_what_it_writes(events: list[tuple[bytes, str]]) -> None:
    raw = b"".join(write_event(data, name) for data, name in events)
    assert read(raw) == [(name, data) for data, name in events]


def test_an_event_is_a_value() -> None:
    assert SSEReader().feed(b"data: a\n\n") == [ServerEvent(data=b"a")]


@pytest.mark.parametrize(
    "pieces",
    [
        [b"data: " + b"x" * 200 + b"\n\n"],
        [b"data: a\n\n", b"data: " + b"x" * 200 + b"\n\n"],
        [b"data: x\n"] * 200,
        [b"x"] * 200,
        [b"data: " + b"x" * 90, b"x" * 90],
    ],
    ids=["whole", "second", "lines", "no line end", "cut"],
)
def test_refuses_an_event_that_is_too_large(pieces: list[bytes]) -> None:
    with pytest.raises(SSEError, match="more than 100 bytes"):
        read(*pieces, most=100)


def test_a_long_line_takes_time_in_proportion() -> None:
    reader = SSEReader()
    began = time.process_time()
    for _ in range(16_000):
        reader.feed(b"x" * 1024)
    assert time.process_time() - began < 2
    assert reader.feed(b"\n\n") == []
