"""Events, folded into an answer."""

from __future__ import annotations

import time

from belljar.events import Fold, ReasoningDelta, TextDelta, TurnStarted, join_turns


def test_pieces_are_joined_by_turn_and_kind() -> None:
    fold = Fold()
    for event in (
        TurnStarted(turn=0, model="m"),
        ReasoningDelta(text="h"),
        ReasoningDelta(text="m"),
        TextDelta(text="Hel", extra={"logprobs": 1}),
        TextDelta(text="lo"),
    ):
        fold.add(event)
    assert [item.text for item in fold.answer.items] == ["hm", "Hello"]  # type: ignore[union-attr]
    fold.add(TextDelta(text="!"))
    fold.add(TurnStarted(turn=1, model="m"))
    fold.add(TextDelta(text="Bye"))
    assert fold.answer.text == "Hello!\n\nBye"
    assert fold.answer.reasoning == "hm"
    assert fold.answer.items[1].extras == [{"logprobs": 1}]  # type: ignore[union-attr]


def test_a_long_answer_is_folded_in_time_in_proportion() -> None:
    fold = Fold()
    fold.add(TurnStarted(turn=0, model="m"))
    began = time.process_time()
    for _ in range(200_000):
        fold.add(TextDelta(text="abcd"))
    assert len(fold.answer.text) == 800_000
    assert time.process_time() - began < 3.0  # quadratic time is 12 s and more


def test_turns_do_not_run_together() -> None:
    assert join_turns(["a", "", "b\n", "c", " d"]) == "a\n\nb\nc d"
    assert join_turns([]) == ""
