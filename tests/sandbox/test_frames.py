"""Frames: whole whatever the pieces they come in; refused when they are too large or no frames."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.guest.frames import FrameError, FrameReader, write_frame
from belljar.sandbox.capture import Capture, read_error, read_result

CASES = [
    ({}, b""),
    ({"op": "done", "id": 1}, b""),
    ({"op": "result", "text": {"text/plain": "é€𝄞\ud800"}}, b"\x00\xff" * 10),
    ({"deep": [[[[{"a": None}]]]]}, b"x"),
]


@pytest.mark.parametrize(("head", "blob"), CASES)
def test_cut_at_every_byte(head: dict, blob: bytes) -> None:
    frame = write_frame(head, blob)
    for at in range(len(frame) + 1):
        reader = FrameReader(1 << 20)
        assert reader.feed(frame[:at]) + reader.feed(frame[at:]) == [(head, blob)]


@given(st.lists(st.sampled_from(CASES), max_size=6), st.data())
def test_cut_anywhere(cases: list, data: st.DataObject) -> None:
    stream = b"".join(write_frame(*case) for case in cases)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader = FrameReader(1 << 20)
    got = [frame for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) for frame in reader.feed(stream[a:b])]
    assert got == [(head, blob) for head, blob in cases]


BAD = [
    struct.pack(">II", 0xFFFFFFFF, 0),
    struct.pack(">II", 2, 0xFFFFFFFF) + b"{}",
    struct.pack(">II", 100, 2000) + b"{}",
    struct.pack(">II", 2, 0) + b"[]",
    struct.pack(">II", 4, 0) + b"\xff\xff\xff\xff",
    struct.pack(">II", 0, 0),
    struct.pack(">II", 800, 0) + b"[" * 800,
]


@pytest.mark.parametrize("data", BAD)
def test_no_frames(data: bytes) -> None:
    with pytest.raises(FrameError):
        FrameReader(1000).feed(data)


def test_deep_json_is_no_crash() -> None:
    text = b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(FrameError):
        FrameReader(1 << 20).feed(struct.pack(">II", len(text), 0) + text)


@given(st.binary(max_size=200))
def test_any_bytes_end_in_frames_or_a_frame_error(data: bytes) -> None:
    try:
        frames = FrameReader(150).feed(data)
    except FrameError:
        return
    assert all(json.dumps(head) for head, _ in frames)


RESULTS = [
    {"text": {}, "json": {}},
    {"text": [], "json": {}, "blobs": []},
    {"text": {"a": 1}, "json": {}, "blobs": []},
    {"text": {}, "json": {}, "blobs": [["image/png"]]},
    {"text": {}, "json": {}, "blobs": [["image/png", "1"]]},
    {"text": {}, "json": {}, "blobs": [["image/png", True]]},
    {"text": {}, "json": {}, "blobs": [["image/png", 99]]},
    {"text": {}, "json": {}, "blobs": [[["x"], 3]]},
    {"text": {str(i): "" for i in range(100)}, "json": {}, "blobs": []},
    {"text": {"image/png": "text"}, "json": {}, "blobs": [["a", 3]]},
    {"text": {}, "json": {"image/png": [1]}, "blobs": [["a", 3]]},
    {"text": {}, "json": {"text/plain": 1}, "blobs": [["a", 3]]},
    {"text": {}, "json": {}, "blobs": [["text/plain", 3]]},
]


@pytest.mark.parametrize("head", RESULTS)
def test_results_of_a_wrong_shape(head: dict) -> None:
    with pytest.raises(FrameError):
        read_result(head, b"123")


def test_a_negative_length_takes_nothing() -> None:
    with pytest.raises(FrameError):
        read_result({"text": {}, "json": {}, "blobs": [["a", -3], ["b", 6]]}, b"123")


def test_errors_of_a_wrong_shape() -> None:
    assert read_error({}) is None
    for error in ([], "x", {"name": "E"}, {"name": "E", "value": 1, "traceback": ""}):
        with pytest.raises(FrameError):
            read_error({"error": error})


@given(st.text(max_size=100), st.integers(0, 120), st.integers(1, 7))
def test_a_capture_keeps_the_head_and_counts_the_rest(text: str, limit: int, step: int) -> None:
    data = text.encode("utf-8", "replace")
    capture = Capture("stdout", limit)
    shown = [capture.feed(data[at : at + step]) for at in range(0, len(data), step)]
    assert capture.written == len(data)
    whole = data.decode("utf-8")
    if len(data) <= limit:
        assert capture.text() == whole
    else:
        assert f"[stdout cut: {len(data) - limit:,} more bytes]" in capture.text()
    assert whole.startswith("".join(output.text for output in shown if output))
