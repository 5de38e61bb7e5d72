"""The vocabulary of answers: what happens, in the order in which it happens.

A model's turn is a stream of `TurnEvent`s; the loop's answer to a request is a stream of `Event`s, which adds what
tools did. Only a dialect's writer decides what a vendor calls them. Not streaming is `collect`: the same events,
folded.

Order that every stream keeps:
    Accepted? Housed? (TurnStarted (ReasoningDelta | TextDelta | CallOpened | ArgumentsDelta | CallReady)* TurnEnded
        (CallStarted (CallOutput | CallShown)* CallClosed)*)*  then exactly one of Finished, Failed.
A call's events name it by `call`, its id; deltas of calls may be interleaved, executions are not.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from typing import Any, Protocol

import msgspec

from belljar.errors import BelljarError
from belljar.execution import Execution, FileInfo, Output, Result
from belljar.model import Extra, Request, Usage


class Finish(enum.StrEnum):
    """Why an answer ended."""

    STOP = "stop"
    LENGTH = "length"  # of the tokens allowed
    CALLS = "calls"  # the client's own functions are to be called
    FILTERED = "filtered"  # by the upstream's content filter


class Accepted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The answer will be written while its client does not wait. So that who looks on has its id at once."""


class Housed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The code of this answer runs in a container that lives on; `container` is its id, `files` are those in it."""

    container: str
    files: tuple[FileInfo, ...] = ()


class TurnStarted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A model begins; `turn` counts from 0. `extra` is what its upstream says of itself (system_fingerprint)."""

    turn: int
    model: str
    extra: Extra = {}


class ReasoningDelta(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """More of its reasoning."""

    text: str


class TextDelta(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """More of its answer. `extra` may hold the upstream's `logprobs` of this piece."""

    text: str
    extra: Mapping[str, Any] | None = None


class CallOpened(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """It begins to call a tool."""

    call: str
    name: str
    builtin: bool = False


class ArgumentsDelta(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """More of a call's arguments: of a built-in tool the code itself, of a client's function the JSON text.

    The deltas of a call, joined, are a prefix of what `CallReady` says, or all of it.
    """

    call: str
    text: str


class CallReady(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The call is complete. `arguments` is the code of a built-in tool, the JSON text for a client's function."""

    call: str
    arguments: str


class TurnEnded(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The model's turn is over. `usage` is None where its upstream counted nothing."""

    turn: int
    model: str
    finish: Finish
    usage: Usage | None = None
    extra: Extra = {}


class CallStarted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The code of a built-in call begins to run."""

    call: str


class CallOutput(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Text that the running code wrote."""

    call: str
    output: Output


class CallShown(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Something that the running code displayed: the last value, a plot, a table."""

    call: str
    result: Result


class CallClosed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The built-in call is over. `text` is what the model is told of it."""

    call: str
    execution: Execution
    text: str


class Finished(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The answer is complete. `queue_seconds` were spent waiting for a sandbox."""

    finish: Finish
    queue_seconds: float = 0.0


class Failed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The answer ends here, with an error."""

    error: BelljarError


TurnEvent = TurnStarted | ReasoningDelta | TextDelta | CallOpened | ArgumentsDelta | CallReady | TurnEnded
Event = Accepted | Housed | TurnEvent | CallStarted | CallOutput | CallShown | CallClosed | Finished | Failed


class LanguageModel(Protocol):
    """Something that answers: an upstream's model, or a stand-in for one."""

    @property
    def id(self) -> str:
        """The name under which usage is reported."""

    @property
    def sees_images(self) -> bool:
        """Whether it takes pictures."""

    def turn(self, request: Request, number: int) -> AsyncGenerator[TurnEvent, None]:
        """One turn: `TurnStarted` first (with turn=number), `TurnEnded` last. All tools stand in `request.functions`.

        A call's arguments are as the model wrote them; it has one CallReady. Closing the iterator ends the upstream's
        work. Raises UpstreamError.
        """


# --- the same, folded -------------------------------------------------------------------------------------------------


class TextItem(msgspec.Struct, kw_only=True):
    """Words of the answer, of one turn."""

    turn: int
    text: str
    extras: list[Mapping[str, Any]] = []


class ReasoningItem(msgspec.Struct, kw_only=True):
    """Reasoning of one turn."""

    turn: int
    text: str


class CallItem(msgspec.Struct, kw_only=True):
    """A call; `execution` and `text` (what the model was told) are those of a built-in one that is over.

    `started` says whether its code ran at all: it does not where a budget is used up.
    """

    turn: int
    call: str
    name: str
    builtin: bool
    arguments: str = ""
    started: bool = False
    execution: Execution | None = None
    text: str = ""


Item = TextItem | ReasoningItem | CallItem


class Answer(msgspec.Struct, kw_only=True):
    """A whole answer: its items in their order, every turn's usage by model, how it ended."""

    items: list[Item] = []
    turns: list[TurnEnded] = []
    extra: dict[str, Any] = {}
    finish: Finish | None = None
    queue_seconds: float = 0.0
    housed: Housed | None = None
    error: BelljarError | None = None

    @property
    def text(self) -> str:
        """All words of the answer, turns parted by an empty line."""
        return join_turns(item.text for item in self.items if isinstance(item, TextItem))

    @property
    def reasoning(self) -> str:
        """All reasoning, turns parted by an empty line."""
        return join_turns(item.text for item in self.items if isinstance(item, ReasoningItem))

    @property
    def calls(self) -> list[CallItem]:
        """All calls, built-in ones and those for the client."""
        return [item for item in self.items if isinstance(item, CallItem)]


def turn_break(before: str, text: str) -> str:
    """What parts the words of one turn from those of the turn before, so that they do not run together."""
    if not before or not text or before[-1].isspace() or text[0].isspace():
        return ""
    return "\n\n"


def join_turns(texts: Iterable[str]) -> str:
    """The texts of several turns as one."""
    pieces = [""]
    for text in filter(None, texts):
        pieces += [turn_break(pieces[-1], text), text]
    return "".join(pieces)


class Fold:
    """Events, one after the other, into an Answer. In time that is in proportion to their text."""

    def __init__(self) -> None:
        self._answer = Answer()
        self._turn = 0
        self._calls: dict[str, CallItem] = {}
        self._pieces: list[str] = []  # of the last item's text, which `_settle` joins

    @property
    def answer(self) -> Answer:
        """What was taken in so far."""
        self._settle()
        return self._answer

    def add(self, event: Event) -> None:
        """Take in the next event."""
        handler = _FOLDS.get(type(event))
        if handler is not None:
            handler(self, event)

    def _settle(self) -> None:
        last = self._answer.items[-1] if self._answer.items else None
        if self._pieces and isinstance(last, TextItem | ReasoningItem):
            last.text += "".join(self._pieces)
            self._pieces = []

    def _append(self, item: Item) -> None:
        self._settle()
        self._answer.items.append(item)

    def _on_housed(self, event: Housed) -> None:
        self._answer.housed = event

    def _on_turn(self, event: TurnStarted) -> None:
        self._turn = event.turn
        self._answer.extra.update(event.extra)

    def _on_reasoning(self, event: ReasoningDelta) -> None:
        last = self._answer.items[-1] if self._answer.items else None
        if not (isinstance(last, ReasoningItem) and last.turn == self._turn):
            self._append(ReasoningItem(turn=self._turn, text=""))
        self._pieces.append(event.text)

    def _on_text(self, event: TextDelta) -> None:
        last = self._answer.items[-1] if self._answer.items else None
        if not (isinstance(last, TextItem) and last.turn == self._turn):
            last = TextItem(turn=self._turn, text="")
            self._append(last)
        self._pieces.append(event.text)
        if event.extra:
            last.extras.append(event.extra)

    def _on_call(self, event: CallOpened) -> None:
        item = CallItem(turn=self._turn, call=event.call, name=event.name, builtin=event.builtin)
        self._calls[event.call] = item
        self._append(item)

    def _on_ready(self, event: CallReady) -> None:
        self._calls[event.call].arguments = event.arguments

    def _on_started(self, event: CallStarted) -> None:
        self._calls[event.call].started = True

    def _on_closed(self, event: CallClosed) -> None:
        self._calls[event.call].execution = event.execution
        self._calls[event.call].text = event.text

    def _on_turn_end(self, event: TurnEnded) -> None:
        self._answer.turns.append(event)
        self._answer.extra.update(event.extra)

    def _on_finish(self, event: Finished) -> None:
        self._answer.finish = event.finish
        self._answer.queue_seconds = event.queue_seconds

    def _on_failure(self, event: Failed) -> None:
        self._answer.error = event.error


_FOLDS: dict[type, Any] = {
    Housed: Fold._on_housed,
    TurnStarted: Fold._on_turn,
    ReasoningDelta: Fold._on_reasoning,
    TextDelta: Fold._on_text,
    CallOpened: Fold._on_call,
    CallReady: Fold._on_ready,
    CallStarted: Fold._on_started,
    CallClosed: Fold._on_closed,
    TurnEnded: Fold._on_turn_end,
    Finished: Fold._on_finish,
    Failed: Fold._on_failure,
}


async def collect(events: AsyncIterator[Event]) -> Answer:
    """All events of a stream, folded. An error is in `Answer.error`, with what came before it."""
    fold = Fold()
    async for event in events:
        fold.add(event)
    return fold.answer
