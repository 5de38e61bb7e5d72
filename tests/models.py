"""A language model of fixed turns, for tests of the loop: no HTTP in between."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from belljar.events import ArgumentsDelta, CallOpened, CallReady, Finish, TextDelta, TurnEnded, TurnEvent, TurnStarted
from belljar.model import Extra, Request, Usage

Turn = Sequence[TurnEvent | BaseException]


class FakeModel:
    """Plays its turns one after the other (the last one for ever), and remembers what it was asked."""

    def __init__(self, *turns: Turn, identity: str = "fake", sees_images: bool = False) -> None:
        self.id = identity
        self.sees_images = sees_images
        self.turns = turns
        self.asked: list[Request] = []
        self.closed = 0
        self.refusals: dict[int, BaseException] = {}  # number of the request -> what it raises; it plays no turn

    async def turn(self, request: Request, number: int) -> AsyncGenerator[TurnEvent, None]:
        played = len(self.asked) - sum(at < len(self.asked) for at in self.refusals)
        script = self.turns[min(played, len(self.turns) - 1)]
        self.asked.append(request)
        if len(self.asked) - 1 in self.refusals:
            self.closed += 1
            raise self.refusals[len(self.asked) - 1]
        extra: Extra = {}
        finish = Finish.CALLS if any(isinstance(event, CallReady) for event in script) else Finish.STOP
        try:
            yield TurnStarted(turn=number, model=self.id)
            for event in script:
                if isinstance(event, BaseException):
                    raise event
                if isinstance(event, TurnEnded):
                    finish, extra = event.finish, event.extra
                    continue
                yield event
            usage = Usage(prompt_tokens=10, completion_tokens=5, seconds=0.5)
            yield TurnEnded(turn=number, model=self.id, finish=finish, usage=usage, extra=extra)
        finally:
            self.closed += 1


def say(*texts: str) -> Turn:
    return [TextDelta(text=text) for text in texts]


def call(arguments: str, name: str = "python", identity: str = "c1", pieces: int = 1) -> Turn:
    size = max(1, -(-len(arguments) // pieces))
    deltas = [ArgumentsDelta(call=identity, text=arguments[at : at + size]) for at in range(0, len(arguments), size)]
    return [CallOpened(call=identity, name=name), *deltas, CallReady(call=identity, arguments=arguments)]
