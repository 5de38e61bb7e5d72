"""Events and their parts as bytes, and back: what is kept of an answer.

Promises: what was packed comes back equal, errors included (their class, words and attributes), but for text that is no
UTF-8 and integers of more than 64 bits (`mended`); what cannot be read raises ValueError; nothing is pickled. The form
is MessagePack, compressed; its first byte tells its version.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from belljar import errors
from belljar.errors import BelljarError, HostError
from belljar.events import Event

VERSION = b"\x01"
LEAST, MOST = -(1 << 63), (1 << 64) - 1  # integers that MessagePack can say
LARGEST = 1 << 30  # bytes of what was packed
LEVEL = 1  # of zlib: what is kept is mostly text, and is written on the way to a client


def pack(events: Sequence[Event]) -> bytes:
    """The events as bytes."""
    try:
        content = _encoder.encode(list(events))
    except (UnicodeEncodeError, OverflowError):
        content = _encoder.encode(mended(msgspec.to_builtins(list(events), builtin_types=(bytes,), enc_hook=_write)))
    return VERSION + zlib.compress(content, LEVEL)


def unpack(data: bytes) -> list[Event]:
    """The events again. Raises ValueError."""
    return _decoder.decode(_inflate(data))


def squeeze(data: bytes) -> bytes:
    """Bytes that are kept as they are, compressed."""
    return VERSION + zlib.compress(data, LEVEL)


def unsqueeze(data: bytes) -> bytes:
    """The same again. Raises ValueError."""
    return _inflate(data)


def mended(value: Any) -> Any:
    """The same JSON-like value as UTF-8 and MessagePack can say it, which a guest need not keep to: "?" for halves of
    surrogate pairs, floats for integers of more than 64 bits.
    """
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {mended(name): mended(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [mended(inner) for inner in value]
    return as_float(value) if isinstance(value, int) and not LEAST <= value <= MOST else value


def as_float(value: int) -> float:
    """The float next to it, infinity beyond all floats."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _inflate(data: bytes) -> bytes:
    if data[:1] != VERSION:
        raise ValueError("this was packed in a form that is not known here")
    reader = zlib.decompressobj()
    try:
        content = reader.decompress(data[1:], LARGEST)
    except zlib.error as error:
        raise ValueError(f"this was not packed here: {error}") from None
    if not reader.eof:
        raise ValueError("this was cut off, or is too large")
    return content


def _write(value: Any) -> Any:
    """What MessagePack has no word for: errors."""
    if isinstance(value, BelljarError):
        return {"class": type(value).__name__, "message": str(value), "attributes": vars(value)}
    raise NotImplementedError(type(value).__name__)


def _read(kind: type, value: Any) -> Any:
    if kind is not BelljarError:
        raise NotImplementedError(kind.__name__)
    cls = getattr(errors, str(value.get("class")), None)
    if not (isinstance(cls, type) and issubclass(cls, BelljarError)):
        cls = HostError
    error = cls.__new__(cls)
    Exception.__init__(error, str(value.get("message")))
    vars(error).update(value.get("attributes") or {})
    return error


_encoder = msgspec.msgpack.Encoder(enc_hook=_write)
_decoder = msgspec.msgpack.Decoder(list[Event], dec_hook=_read)
