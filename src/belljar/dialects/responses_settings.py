"""What only the dialect "responses" knows of a request: how its answer is to be written. Tables and names only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from belljar.dialects.base import Start
from belljar.model import Request

KEY = "responses"  # of Request.extra
PYTHON = "python"  # the built-in tool
CODE_INTERPRETER = "code_interpreter"  # its name on the wire
CONTAINER_PREFIX, FILE_PREFIX, CONVERSATION_PREFIX = "cntr_", "file-", "conv_"  # of ids, on the wire alone


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How the answer is to be written.

    `outputs` says whether a call shows what its code gave, `logprobs` and `encrypted` whether those are shown;
    `echo` holds the fields of the request that the response repeats (tools, tool_choice, instructions, metadata ...),
    as they are written there. `custom` are the names of custom tools, whose calls are written as such. `after` is the
    sequence number of the last event that the client has of a stream, -1 for none. `qwen`: as Alibaba's compatible
    path writes it.
    """

    outputs: bool = False
    logprobs: bool = False
    encrypted: bool = False
    echo: Mapping[str, Any] = field(default_factory=dict)
    custom: frozenset[str] = frozenset()
    after: int = -1
    qwen: bool = False


DEFAULT = Settings()


def settings_of(request: Request | None) -> Settings:
    """The settings of a request that this dialect has read; the default ones of any other."""
    found = request.extra.get(KEY) if request is not None else None
    return found if isinstance(found, Settings) else DEFAULT


def id_of(start: Start) -> str:
    """The response's id."""
    return "resp_" + key_of(start)


def item_id(prefix: str, start: Start, place: int) -> str:
    """The id of an output item ("msg", "rs", "ci", "fc", "ctc"), by its place among the items that are written, which
    stands in hexadecimal behind the answer's key (`server.memory` reads it).
    """
    return f"{prefix}_{key_of(start)}{place:04x}"


def key_of(start: Start) -> str:
    """What ids of a response's items are made of."""
    return start.request_id.rpartition("_")[2]
