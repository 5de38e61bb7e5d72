"""What a vendor's wire format can say, as a table: each case folder has one (`says.py`), the suite holds it to it, and
docs/dialects.md is written from them.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


class Fact(enum.Enum):
    """Something that a client may learn, or ask for."""

    TEXT = "the words of the answer"
    REASONING = "what the model thought"
    CODE = "the code that ran"
    OUTPUT = "what it printed, its last value, its traceback"
    OUTCOME = "how it ended"
    IMAGE = "a plot"
    FILE_IN = "a file of the client's"
    FILE_OUT = "a file that the code left"
    BESIDE = "a function of the client's own beside code execution"
    CALL = "a call of it"
    FINISH = "why the answer ended"
    USAGE = "tokens"
    BUDGET = "the budget of executions is used up"
    EARLY = "an error before the first byte"
    LATE = "an error after the first byte of a stream"


@dataclass(frozen=True, kw_only=True)
class Said:
    """It is said; `how` names the fields. `instead` maps what other vendors say to what is said here."""

    how: str
    instead: Mapping[object, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Unsaid:
    """The vendor has no way to say it; `instead` is what is shown, or done."""

    instead: str


@dataclass(frozen=True, kw_only=True)
class Refused:
    """It cannot be asked for; the error has this status, and `part` in its message."""

    status: int
    part: str
    how: str


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """A vendor's table, with Markdown in its texts. `ask` is what turns code execution on; `judges` are the SDKs that
    the suite asks through in Python, `javascript` those of adapter.mjs, each with what it does not show of what is said
    (of LATE: the status), or cannot ask for.
    """

    title: str
    paths: Sequence[str]
    ask: str
    judges: Sequence[str]
    says: Mapping[Fact, Said | Unsaid | Refused]
    javascript: Mapping[str, frozenset[Fact]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ValueError for a table that leaves something open."""
        missing = [fact.name for fact in Fact if fact not in self.says]
        if missing:
            raise ValueError(f"{self.title}: the table says nothing of {', '.join(missing)}")
