"""What only the dialect "gemini" knows of a request. Tables and frozen values; no function here fails."""

from __future__ import annotations

from dataclasses import dataclass

from belljar.model import Request

KEY = "gemini"  # of Request.extra
PYTHON = "python"  # the built-in tool


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How the answer is to be written.

    `thoughts` says whether reasoning is shown, `sse` whether a stream is one of events (else it is one JSON array),
    `vertex` whether the request came by one of Vertex AI's paths, `pictures` whether its prompt is more than text.
    """

    thoughts: bool = False
    sse: bool = True
    vertex: bool = False
    pictures: bool = False


DEFAULT = Settings()


def settings_of(request: Request | None) -> Settings:
    """The settings of a request that this dialect has read; the default ones of any other."""
    found = request.extra.get(KEY) if request is not None else None
    return found if isinstance(found, Settings) else DEFAULT
