"""What a conformance case asks, and what a client has seen of the answer: one form for every vendor's SDK.

An adapter (a case folder's `adapter.py` or `adapter.mjs`) turns a Question into its vendor's request, and what the SDK
gives into a Seen. Whatever a vendor cannot say stays empty there; the folder's `says.py` tells what is shown instead.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from conformance.says import Fact

KEY = "any-key"
PATIENCE = 1.0  # seconds after which a client that leaves without a stream gives up

# The client's own function, for the questions that offer it.
FUNCTION_NAME = "get_weather"
FUNCTION_TEXT = "The weather in a city"
FUNCTION_PARAMETERS: Mapping[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}


@dataclass(frozen=True, kw_only=True)
class Attached:
    """A file that goes with a question."""

    name: str
    media_type: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked. `code`: with the built-in interpreter; `own`: with the client's function beside it; `thoughts`:
    the client wants to see the model's reasoning.
    """

    model: str
    text: str
    code: bool = True
    own: bool = False
    thoughts: bool = False
    file: Attached | None = None

    def to_json(self) -> dict[str, Any]:
        """For an adapter in JavaScript."""
        function = {"name": FUNCTION_NAME, "description": FUNCTION_TEXT, "parameters": FUNCTION_PARAMETERS}
        return asdict(self) | {"function": function}


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What all turns cost: `prompt` and `completion` hold all that there is, also what a vendor counts apart."""

    prompt: int
    completion: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Failure:
    """An error as the SDK tells it. `fault` is whose: "client" or "server", by the SDK's class where it has several;
    None where the SDK does not say.
    """

    status: int | None
    message: str
    fault: str | None


@dataclass(kw_only=True)
class Seen:
    """What came. `outputs` and `outcomes` ("ok", "error", "timeout") go with `codes`, one for each execution; `finish`
    is "stop", "length" or "calls".
    """

    text: str = ""
    reasoning: str = ""
    codes: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    calls: list[tuple[str, Any]] = field(default_factory=list)
    finish: str = ""
    usage: Tokens | None = None
    failure: Failure | None = None


def read_seen(text: str) -> Seen:
    """What an adapter in JavaScript wrote: the same fields, pictures in base64, calls as [name, arguments]."""
    value = json.loads(text)
    usage, failure = value.pop("usage", None), value.pop("failure", None)
    images = [base64.b64decode(image) for image in value.pop("images", ())]
    calls = [(name, arguments) for name, arguments in value.pop("calls", ())]
    return Seen(
        images=images,
        calls=calls,
        usage=Tokens(**usage) if usage else None,
        failure=Failure(**failure) if failure else None,
        **value,
    )


class Ask(Protocol):
    """Asks a question of the server at this URL (the host alone). An error is in Seen.failure, beside what came."""

    def __call__(self, url: str, question: Question) -> Seen: ...


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way from Python to ask: an SDK, streaming or not. `leave` goes away in the middle of the answer: after the
    first words of a stream, after PATIENCE without one. `drops` is what the SDK does not show of what is
    said (of LATE: the status), or cannot ask for.
    """

    streams: bool
    ask: Ask
    leave: Callable[[str, Question], None]
    drops: frozenset[Fact] = frozenset()


def fault_of(status: int | None) -> str | None:
    """Whose fault a status tells of."""
    if status is None:
        return None
    return "client" if 400 <= status < 500 else "server"
