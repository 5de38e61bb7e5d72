"""A kept answer as part of a conversation: what its model said, and was told. Pure: values in, values out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import groupby

from belljar.conversation import pictures_seen
from belljar.errors import BadRequest
from belljar.events import Answer, CallItem, Item, TextItem
from belljar.model import Call, CallResult, Message, Part, Role, Text
from belljar.partial import write_code


def messages_of(answer: Answer, places: Collection[int] | None = None) -> tuple[Message, ...]:
    """What a model said and was told in an answer; its reasoning is left out. `places` names the items that are meant,
    as they are counted in the answer without words or reasoning that are empty; None stands for all.
    """
    messages: list[Message] = []
    shown = [item for item in answer.items if isinstance(item, CallItem) or item.text]
    meant = [item for place, item in enumerate(shown) if places is None or place in places]
    for _, group in groupby(meant, key=lambda item: item.turn):
        items = list(group)
        parts = tuple(_said(items))
        if parts:
            messages.append(Message(role=Role.ASSISTANT, parts=parts))
        messages += [Message(role=Role.TOOL, parts=(_result(item),)) for item in items if _was_told(item)]
    return tuple(messages)


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
