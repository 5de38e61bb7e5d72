"""A kept answer as part of a conversation: what its model said, and was told. Pure: values in, values out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby

from belljar.conversation import pictures_seen
from belljar.errors import BadRequest
from belljar.events import Answer, CallItem, Item, TextItem
from belljar.loop import CUT_OFF
from belljar.model import Call, CallResult, Message, Part, Role, Text
from belljar.partial import write_code


def messages_of(answer: Answer, places: Collection[int] | None = None) -> tuple[Message, ...]:
    """What a model said and was told in an answer; its reasoning is left out. `places` names the items that are meant,
    by their places among those that are shown; None stands for all. A call that the model did not write to its end is
    left out, too: nobody can answer it.
    """
    messages: list[Message] = []
    cut = _cut_off(answer)
    meant = [
        item for at, item in enumerate(shown_items(answer)) if (places is None or at in places) and item not in cut
    ]
    for _, group in groupby(meant, key=lambda item: item.turn):
        items = list(group)
        parts = tuple(_said(items))
        if parts:
            messages.append(Message(role=Role.ASSISTANT, parts=parts))
        messages += [Message(role=Role.TOOL, parts=(_result(item),)) for item in items if _was_told(item)]
    return tuple(messages)


def shown_items(answer: Answer) -> list[Item]:
    """The items that clients are shown: all but words and reasoning that are empty."""
    return [item for item in answer.items if isinstance(item, CallItem) or item.text]


def _cut_off(answer: Answer) -> list[Item]:
    """The calls in the middle of which a turn was cut off."""
    turns = {turn.turn for turn in answer.turns if turn.finish in CUT_OFF}
    last = {item.turn: item for item in answer.items if item.turn in turns}
    return [item for item in last.values() if isinstance(item, CallItem)]


def _said(items: Sequence[Item]) -> Iterator[Part]:
    for item in items:
        if isinstance(item, TextItem) and item.text:
            yield Text(text=item.text)
    for item in items:
        if isinstance(item, CallItem) and (not item.builtin or _was_told(item)):
            arguments = write_code(item.arguments) if item.builtin else item.arguments
            yield Call(id=item.call, name=item.name, arguments=arguments, builtin=item.builtin)


def _was_told(item: Item) -> bool:
    return isinstance(item, CallItem) and item.builtin and item.execution is not None


def _result(item: Item) -> CallResult:
    assert isinstance(item, CallItem)
    assert item.execution is not None
    return CallResult(call=item.call, text=item.text, images=pictures_seen(item.execution), builtin=True)


def check_results(before: Sequence[Message], after: Sequence[Message]) -> None:
    """Raises BadRequest where the client leaves a call of its functions without result, or answers none that is."""
    calls = {part.id for m in before for part in m.parts if isinstance(part, Call) and not part.builtin}
    done = {part.call for m in before for part in m.parts if isinstance(part, CallResult)}
    given = {part.call for m in after for part in m.parts if isinstance(part, CallResult) and not part.builtin}
    own = {part.id for m in after for part in m.parts if isinstance(part, Call)}
    if missing := calls - done - given:
        raise BadRequest(f"the function call {min(missing)!r} has no result: send one", param="input")
    if strange := given - own - (calls - done):
        raise BadRequest(f"there is no function call {min(strange)[:80]!r} that waits for a result", param="input")
