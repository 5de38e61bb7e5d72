"""Tools for models without function calling: told in words how to run code, the first Python block of an answer is the
call.

Promises: works over any LanguageModel; the upstream is sent words only (and pictures, where the model sees), with roles
that alternate as chat templates want them; it always streams, and is cut off when it goes on after the block, so that
it cannot invent what the code prints. A turn that was cut off has no usage, as the upstream had not counted it yet.
Not covered: the client's own functions.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing

import msgspec
from msgspec.structs import replace

from belljar.conversation import offer
from belljar.errors import BadRequest
from belljar.events import (
    ArgumentsDelta,
    CallOpened,
    CallReady,
    Finish,
    LanguageModel,
    TextDelta,
    TurnEnded,
    TurnEvent,
    TurnStarted,
)
from belljar.fences import PYTHON, CodeClosed, CodeDelta, CodeOpened, FenceReader, Piece, fence
from belljar.model import Call, CallResult, Choice, Message, Mode, Part, Request, Role, Text, new_id
from belljar.partial import read_code

TOOL = "python"

INSTRUCTIONS = """\
How to use the tool `python` here: write the code in a fenced block that is marked python, like this:

```python
print(6 * 7)
```

and end your message right after it. The code is run, and the next message tells you what it put out; then go on, with \
more code or with the answer. Only blocks marked python are run, and only the first one of a message. Never write \
yourself what code puts out. Mark code that is only to be shown, and not to be run, in another way, such as ```text."""
MUST_CALL = "\n\nThis time, begin by running code."
OUTPUT = "Output of the code:\n"


class PromptedModel:
    """A language model that is offered `python` in words."""

    def __init__(self, inner: LanguageModel) -> None:
        self._inner = inner

    @property
    def id(self) -> str:
        """The name under which usage is reported."""
        return self._inner.id

    @property
    def sees_images(self) -> bool:
        """Whether it takes pictures."""
        return self._inner.sees_images

    def turn(self, request: Request, number: int) -> AsyncGenerator[TurnEvent, None]:
        """One turn. Raises BadRequest where the request has functions of the client's own."""
        if any(function.name != TOOL for function in request.functions):
            raise BadRequest(
                f"the model {self.id!r} is used without function calling here: it can run code, but takes no functions",
                param="tools",
            )
        asked = in_words(request)
        return self._read(asked, number) if may_call(request) else self._inner.turn(asked, number)

    async def _read(self, asked: Request, number: int) -> AsyncGenerator[TurnEvent, None]:
        reader = _Reader()
        started = TurnStarted(turn=number, model=self.id)
        async with aclosing(self._inner.turn(asked, number)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    for own in reader.feed(event):
                        yield own
                elif isinstance(event, TurnEnded):
                    for own in reader.end():
                        yield own
                    yield replace(event, finish=reader.finish(event.finish))
                else:
                    started = event if isinstance(event, TurnStarted) else started
                    yield event
                if reader.is_over:
                    break
        if reader.is_over:
            yield TurnEnded(turn=number, model=started.model, finish=Finish.CALLS)


class _Reader:
    """Text deltas in, events out: text, and the call in it."""

    def __init__(self) -> None:
        self.is_over = False  # the call is complete, and the model goes on: what it writes now is not wanted
        self._fences = FenceReader()
        self._opening = ""  # raw text of a Python block that has no code yet
        self._in_python = False
        self._call = ""
        self._code: list[str] = []
        self._ready = False

    def feed(self, delta: TextDelta) -> list[TurnEvent]:
        """The events of more text; `extra` stays with text that passes through whole."""
        if self._ready:
            self.is_over = bool(delta.text.strip())
            return []
        events = self._events(self._fences.feed(delta.text))
        if delta.extra and len(events) == 1 and isinstance(events[0], TextDelta):
            return [TextDelta(text=events[0].text, extra=delta.extra)]
        return events

    def end(self) -> list[TurnEvent]:
        """The text is over; a block that was not closed is."""
        return [] if self._ready else self._events(self._fences.end())

    def finish(self, finish: Finish) -> Finish:
        """How the turn ended, given how the upstream says that it did."""
        return Finish.CALLS if self._ready and finish is Finish.STOP else finish

    def _events(self, pieces: Iterable[Piece]) -> list[TurnEvent]:
        events: list[TurnEvent] = []
        for piece in pieces:
            if self._ready:
                self.is_over = self.is_over or bool(piece.raw.strip())
            elif self._in_python:
                events += self._python(piece)
            elif isinstance(piece, CodeOpened) and piece.language in PYTHON:
                self._in_python, self._opening = True, piece.raw
            else:
                events.append(TextDelta(text=piece.raw))
        return [event for event in events if not isinstance(event, TextDelta) or event.text]

    def _python(self, piece: Piece) -> Iterator[TurnEvent]:
        """The pieces of a Python block. One without any code is text."""
        if isinstance(piece, CodeDelta):
            yield from self._code_delta(piece)
        elif isinstance(piece, CodeClosed) and self._call:
            self._ready = True
            yield ArgumentsDelta(call=self._call, text='"}')
            yield CallReady(call=self._call, arguments="".join([*self._code, '"}']))
        elif isinstance(piece, CodeClosed):
            self._in_python = False
            yield TextDelta(text=self._opening + piece.raw)

    def _code_delta(self, piece: CodeDelta) -> Iterator[TurnEvent]:
        if not self._call:
            self._opening += piece.raw
            self._code.append(piece.text)
            if not piece.text.strip():
                return
            self._call = new_id("call_")
            yield CallOpened(call=self._call, name=TOOL)
            self._code = ['{"code":"' + _escape("".join(self._code))]
        else:
            self._code.append(_escape(piece.text))
        yield ArgumentsDelta(call=self._call, text=self._code[-1])


def _escape(text: str) -> str:
    """Text as a part of a JSON string."""
    return msgspec.json.encode(text.encode("utf-8", "replace").decode()).decode()[1:-1]


# --- the request ------------------------------------------------------------------------------------------------------


def may_call(request: Request) -> bool:
    """Whether the model is to be offered anything."""
    return bool(request.functions) and request.choice.mode is not Mode.NONE


def in_words(request: Request) -> Request:
    """The request without functions; calls and results of earlier turns are text."""
    messages = flatten(request.messages)
    if may_call(request):
        must = request.choice.mode is Mode.REQUIRED or bool(request.choice.name)
        messages = offer(messages, [INSTRUCTIONS + MUST_CALL * must])
    stream = request.stream or may_call(request)
    return replace(request, messages=messages, functions=(), choice=Choice(), parallel=None, stream=stream)


def fold_system(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation with its system messages at the beginning of the first message of the user."""
    system = [message for message in messages if message.role is Role.SYSTEM]
    rest = [message for message in messages if message.role is not Role.SYSTEM]
    told = tuple(Text(text=f"{message.text}\n\n") for message in system)
    first = next((place for place, message in enumerate(rest) if message.role is Role.USER), None)
    if first is None:
        return (Message(role=Role.USER, parts=told), *rest) if told else tuple(rest)
    rest[first] = replace(rest[first], parts=(*told, *rest[first].parts))
    return tuple(rest)


def flatten(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation without calls: code is a block of the assistant's text, what it gave is said by the user.

    Messages of one role that follow each other are one where a call's result is among them.
    """
    flat: list[Message] = []
    joins = False
    for message in messages:
        parts = tuple(_flat(message.parts))
        tool = message.role is Role.TOOL
        role = Role.USER if tool else message.role
        before = flat[-1] if flat else None
        if before is not None and before.role is role and (tool or joins):
            flat[-1] = replace(before, parts=(*before.parts, *parts))
        else:
            flat.append(message if not tool and parts == message.parts else replace(message, role=role, parts=parts))
            joins = False
        joins = joins or tool
    return tuple(flat)


def _flat(parts: Sequence[Part]) -> Iterator[Part]:
    for part in parts:
        if isinstance(part, Call) and (part.builtin or part.name == TOOL):
            yield Text(text="\n" + fence(read_code(part.arguments), TOOL) + "\n")
        elif isinstance(part, Call):
            yield Text(text=f"\n[Called {part.name} with {part.arguments}]\n")
        elif isinstance(part, CallResult):
            yield Text(text=(OUTPUT if part.builtin else "Result of the call:\n") + fence(part.text))
            yield from part.images
        else:
            yield part
