"""What a benchmark's client asks of a chat server, and whether the answer is the right one. Pure.

Promises: an answer passes only if it is complete and says exactly what was expected: the whole text, the finish reason,
the calls, the output of executed code; a stream must also end in [DONE]. Whatever else comes is a fault, in words.
Not covered: fields that tell of identity, time and tokens.
"""

from __future__ import annotations

from typing import Any

import msgspec

SHOWN = 100  # characters of a server's own words in a fault
DONE = b"[DONE]"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a conversation, and what its answer must be: this text, so many calls for the client to make, and
    this output (without white space around it) of code that the server has run; "" is none.
    """

    body: dict[str, Any]
    text: str = ""
    calls: int = 0
    output: str = ""


class _Shown(msgspec.Struct):
    text: str | None = None


class _Executed(msgspec.Struct):
    index: int = 0
    output: str | None = None
    code_results: list[_Shown] | None = None


class _Place(msgspec.Struct):
    index: int = 0


class _Message(msgspec.Struct):
    content: str | None = None
    tool_calls: list[_Place] | None = None
    executed_tools: list[_Executed] | None = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    error: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


class Answer:
    """The answer to one step, as its body's bytes come. `first` is when its first text came, on the caller's clock."""

    def __init__(self, step: Step, *, stream: bool) -> None:
        self.first: float | None = None
        self._step = step
        self._stream = stream
        self._rest = b""
        self._texts: list[str] = []
        self._calls: set[int] = set()
        self._outputs: dict[int, str] = {}
        self._finish: str | None = None
        self._done = False
        self._fault = ""

    def feed(self, data: bytes, now: float) -> None:
        """More bytes of the body, which came at `now`."""
        self._rest = self._rest + data if self._rest else data
        if not self._stream:
            return
        *frames, self._rest = self._rest.split(b"\n\n")
        for frame in frames:
            self._frame(frame, now)

    def fault(self, status: int) -> str:
        """What is wrong with the answer, now that it is over; "" where nothing is."""
        if status != 200:
            return f"status {status}: {self._rest[:SHOWN].decode(errors='replace')}"
        if not self._stream:
            self._chunk(self._rest)
        elif self._rest.strip() or not self._done:
            self._blame("the stream ended before [DONE]")
        return self._fault or self._compare()

    def _frame(self, frame: bytes, now: float) -> None:
        if frame.startswith(b":"):  # a comment: the server is alive
            return
        if not frame.startswith(b"data: ") or self._done:
            self._blame(f"not a frame of this stream: {frame[:SHOWN]!r}")
        elif frame[6:] == DONE:
            self._done = True
        else:
            self._chunk(frame[6:])
            if self.first is None and self._texts:
                self.first = now

    def _chunk(self, data: bytes) -> None:
        try:
            chunk = _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._blame(f"not the JSON of an answer ({error}): {data[:SHOWN]!r}")
            return
        if chunk.error is not None:
            self._blame(f"an error in the answer: {str(chunk.error)[:SHOWN]}")
        for choice in chunk.choices:
            self._finish = choice.finish_reason or self._finish
            message = choice.delta or choice.message
            if message is not None:
                self._take(message)

    def _take(self, message: _Message) -> None:
        if message.content:
            self._texts.append(message.content)
        if message.tool_calls:
            # in a stream, deltas of one call repeat its index; in a whole answer calls need none
            self._calls |= {call.index if self._stream else place for place, call in enumerate(message.tool_calls)}
        for tool in message.executed_tools or ():
            shown = "".join(piece.text or "" for piece in tool.code_results or ())
            self._outputs[tool.index] = (tool.output or shown).strip()

    def _compare(self) -> str:
        step = self._step
        finish = "tool_calls" if step.calls else "stop"
        pairs = {
            "text": ("".join(self._texts), step.text),
            "calls": (len(self._calls), step.calls),
            "output": (list(self._outputs.values()), [step.output] if step.output else []),
            "finish_reason": (self._finish, finish),
        }
        wrong = [f"{name} is {_show(got)}, not {_show(due)}" for name, (got, due) in pairs.items() if got != due]
        return f"wrong answer: {'; '.join(wrong)}" if wrong else ""

    def _blame(self, fault: str) -> None:
        self._fault = self._fault or fault


def _show(value: object) -> str:
    return repr(value)[:SHOWN]
