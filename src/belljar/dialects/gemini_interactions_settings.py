"""What only the dialect "gemini_interactions" knows of a request: how its answer is to be written. Tables only."""

from __future__ import annotations

from dataclasses import dataclass

from belljar.dialects.base import Start
from belljar.model import Request

KEY = "gemini_interactions"  # of Request.extra
PYTHON = "python"  # the built-in tool
CODE_EXECUTION = "code_execution"  # its name on the wire
# Tools of Google's that Belljar does not have.
UNAVAILABLE = (
    "computer_use",
    "file_search",
    "google_maps",
    "google_search",
    "mcp_server",
    "retrieval",
    "tool_search",
    "url_context",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How the answer is to be written.

    `thoughts` says whether reasoning is shown; `include_input`, whether the input comes with the answer; `after`, how
    many events of the stream the client has already.
    """

    thoughts: bool = False
    include_input: bool = False
    after: int = 0


DEFAULT = Settings()


def settings_of(request: Request | None) -> Settings:
    """The settings of a request that this dialect has read; the default ones of any other."""
    found = request.extra.get(KEY) if request is not None else None
    return found if isinstance(found, Settings) else DEFAULT


def id_of(start: Start) -> str:
    """The interaction's id."""
    return "v1_" + start.request_id.rpartition("_")[2]
