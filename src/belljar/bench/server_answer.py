"""What a benchmark's client asks of a chat server, and whether the answer is the right one. Pure.

Promises: an answer passes only if it is complete and says exactly what was expected: the whole text, the finish reason,
the calls, and of executed code whatever its dialect tells (the code, its output, how many there were); a stream must
also end as its dialect ends it. Whatever else comes is a fault, in words.
Not covered: fields that tell of identity, time and tokens.
"""

from __future__ import annotations

from typing import Any

import msgspec

from belljar.bench.server_wires import CHAT, WIRES, Heard

SHOWN = 100  # characters of a server's own words in a fault


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a conversation, and what its answer must be: this text, so many calls for the client to make, and
    of code that the server has run this code, this output (without white space around it) and this number; "" and 0
    are none, or that the dialect does not tell.
    """

    body: dict[str, Any]
    text: str = ""
    calls: int = 0
    code: str = ""
    output: str = ""
    runs: int = 0
    wire: str = CHAT


class Answer:
    """The answer to one step, as its body's bytes come. `first` is when its first text came, on the caller's clock."""

    def __init__(self, step: Step, *, stream: bool) -> None:
        self.first: float | None = None
        self._step = step
        self._wire = WIRES[step.wire]
        self._stream = stream
        self._rest = b""
        self._heard = Heard()
        self._done = False
        self._fault = ""

    def feed(self, data: bytes, now: float) -> None:
        """More bytes of the body, which came at `now`."""
        self._rest = self._rest + data if self._rest else data
        if not self._stream:
            return
        *frames, self._rest = self._rest.split(self._wire.separator)
        for frame in frames:
            self._frame(frame, now)

    def fault(self, status: int) -> str:
        """What is wrong with the answer, now that it is over; "" where nothing is."""
        if status != 200:
            return f"status {status}: {self._rest[:SHOWN].decode(errors='replace')}"
        if not self._stream:
            self._read(self._rest)
        elif self._rest.strip() or not self._done:
            end = self._wire.end
            self._blame(f"the stream ended before {end.decode() if end else 'its last frame'}")
        return self._fault or self._compare()

    def _frame(self, frame: bytes, now: float) -> None:
        if frame.startswith(b":"):  # a comment: the server is alive
            return
        data = None if self._done else self._wire.unframe(frame)
        if data is None:
            self._blame(f"not a frame of this stream: {frame[:SHOWN]!r}")
        elif data == self._wire.end:
            self._done = True
        else:
            self._read(data)
            self._done = self._wire.end is None and self._heard.finish is not None
            if self.first is None and self._heard.texts:
                self.first = now

    def _read(self, data: bytes) -> None:
        try:
            self._wire.read(data, self._heard, self._stream)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._blame(f"not the JSON of an answer ({error}): {data[:SHOWN]!r}")
        if self._heard.error is not None:
            self._blame(f"an error in the answer: {str(self._heard.error)[:SHOWN]}")

    def _compare(self) -> str:
        step, heard = self._step, self._heard
        pairs = {
            "text": ("".join(heard.texts), step.text),
            "calls": (len(heard.calls), step.calls),
            "code": (heard.codes, [step.code] if step.code else []),
            "output": (list(heard.outputs.values()), [step.output] if step.output else []),
            "runs": (heard.runs, step.runs),
            "finish_reason": (heard.finish, "tool_calls" if step.calls else self._wire.stop),
        }
        wrong = [f"{name} is {_show(got)}, not {_show(due)}" for name, (got, due) in pairs.items() if got != due]
        return f"wrong answer: {'; '.join(wrong)}" if wrong else ""

    def _blame(self, fault: str) -> None:
        self._fault = self._fault or fault


def _show(value: object) -> str:
    return repr(value)[:SHOWN]
