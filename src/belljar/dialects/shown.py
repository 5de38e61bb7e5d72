"""What code has shown, as vendors' formats hold it: words, and pictures. Pure tables and values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from belljar.dialects.base import write_json
from belljar.execution import Execution, Result

PICTURES = ("image/png", "image/jpeg", "image/svg+xml")  # types of pictures, the best first
# What stands for a displayed value in words, the best first.
WORDS = ("text/plain", "text/markdown", "text/latex", "text/html", "application/json")


def output_of(execution: Execution) -> str:
    """What a person would see of it in words: stdout, stderr, values displayed, the traceback."""
    values = [words_of(result) for result in execution.results]
    pieces = [execution.stdout, execution.stderr, *values]
    if execution.error is not None:
        error = execution.error
        pieces.append(error.traceback or f"{error.name}: {error.value}")
    return "".join(piece if piece.endswith("\n") else f"{piece}\n" for piece in pieces if piece)


def words_of(result: Result) -> str:
    """A displayed value in words; "" for a picture, which shows itself."""
    if any(kind in result.data for kind in PICTURES):
        return ""
    value = next((result.data[kind] for kind in WORDS if kind in result.data), "")
    return value if isinstance(value, str) else write_json(value).decode()


def picture_of(result: Result) -> tuple[str, Any] | None:
    """Type and content (bytes; a str of SVG) of a picture, in the best of its types; None where it is none."""
    kind = next((kind for kind in PICTURES if kind in result.data), None)
    return (kind, result.data[kind]) if kind is not None else None


def pictures_of(execution: Execution) -> Iterator[tuple[str, Any]]:
    """Type and content of each picture."""
    return filter(None, map(picture_of, execution.results))
