"""What is packed comes back: every kind of event and error, and what guests may print."""

from __future__ import annotations

import zlib

import pytest

from belljar.errors import BadRequest, BelljarError, Cancelled, HostError, ToolUseFailed, UnknownItem, UpstreamRefused
from belljar.events import (
    Accepted,
    ArgumentsDelta,
    CallClosed,
    CallOpened,
    CallOutput,
    CallReady,
    CallShown,
    CallStarted,
    Event,
    Failed,
    Finish,
    Finished,
    Housed,
    ReasoningDelta,
    TextDelta,
    TurnEnded,
    TurnStarted,
)
from belljar.execution import CHART, Execution, FileInfo, GuestError, Outcome, Output, Result
from belljar.model import Usage
from belljar.packing import LARGEST, VERSION, pack, squeeze, unpack, unsqueeze

FILE = FileInfo(path="a.csv", size=3, type="text/csv", modified=1.5, id="f1")
RESULT = Result(data={"image/png": b"\x89PNG\xff", "text/plain": "<Figure>", CHART: {"type": "line", "x": [1, None]}})
EVENTS: list[Event] = [
    Accepted(),
    Housed(container="c", files=(FILE,)),
    TurnStarted(turn=0, model="m", extra={"system_fingerprint": "f", "deep": [{"a": 1.5}]}),
    ReasoningDelta(text="hm"),
    TextDelta(text="é😀", extra={"logprobs": [{"token": "a", "logprob": -1.0}]}),
    TextDelta(text=""),
    CallOpened(call="1", name="python", builtin=True),
    ArgumentsDelta(call="1", text="print"),
    CallReady(call="1", arguments="print()"),
    TurnEnded(turn=0, model="m", finish=Finish.CALLS, usage=Usage(prompt_tokens=3, prompt_seconds=0.5)),
    CallStarted(call="1"),
    CallOutput(call="1", output=Output(stream="stderr", text="x")),
    CallShown(call="1", result=RESULT),
    CallClosed(
        call="1",
        text="told",
        execution=Execution(
            outcome=Outcome.ERROR,
            results=(RESULT,),
            error=GuestError(name="E", value="v", traceback="t"),
            files=(FILE,),
            pictures=(FILE,),
        ),
    ),
    Finished(finish=Finish.STOP, queue_seconds=0.25),
]


def test_every_event_comes_back() -> None:
    assert {type(event) for event in EVENTS} == set(Event.__args__) - {Failed}
    assert unpack(pack(EVENTS)) == EVENTS
    assert unpack(pack([])) == []


@pytest.mark.parametrize(
    "error",
    [
        BadRequest("no", param="input[0]", code="c"),
        Cancelled("by you"),
        HostError("é"),
        ToolUseFailed("no", generation="g"),
        UnknownItem("no", item="x"),
        UpstreamRefused("no", status=429, code="c", retry_after=2.0),
    ],
)
def test_every_error_comes_back(error: BelljarError) -> None:
    (back,) = unpack(pack([Failed(error=error)]))
    assert isinstance(back, Failed)
    assert type(back.error) is type(error)
    assert str(back.error) == str(error)
    assert vars(back.error) == vars(error)
    assert (back.error.status, back.error.retry_after) == (error.status, error.retry_after)


def test_errors_that_are_no_longer_known() -> None:
    class Lost(BelljarError):
        pass

    (back,) = unpack(pack([Failed(error=Lost("words"))]))
    assert isinstance(back, Failed)
    assert type(back.error) is HostError
    assert str(back.error) == "words"


def test_halves_of_surrogate_pairs() -> None:
    events: list[Event] = [CallOutput(call="1", output=Output(stream="stdout", text="a\ud800b"))]
    events.append(CallShown(call="1", result=Result(data={"image/png": b"\xff", "text/plain": "\udfff"})))
    assert unpack(pack(events)) == [
        CallOutput(call="1", output=Output(stream="stdout", text="a?b")),
        CallShown(call="1", result=Result(data={"image/png": b"\xff", "text/plain": "?"})),
    ]


def test_integers_of_any_size() -> None:
    told = {"kept": [2**64 - 1, -(2**63), True], "large": [10**30, -(10**400)]}
    (shown,) = unpack(pack([CallShown(call="1", result=Result(data={"application/json": told, "image/png": b"\xff"}))]))
    assert isinstance(shown, CallShown)
    assert shown.result.json == {"kept": [2**64 - 1, -(2**63), True], "large": [1e30, float("-inf")]}
    assert shown.result.png == b"\xff"


def test_bytes_come_back() -> None:
    assert unsqueeze(squeeze(b"x" * 10_000)) == b"x" * 10_000
    assert len(squeeze(b"x" * 10_000)) < 200


WRONG = {
    "empty": b"",
    "another version": b"\x02" + zlib.compress(b"x"),
    "not compressed": VERSION + b"hello",
    "cut off": squeeze(b"hello" * 100)[:-5],
}


@pytest.mark.parametrize("case", WRONG)
def test_what_was_not_packed_here(case: str) -> None:
    with pytest.raises(ValueError, match=r"packed|cut off"):
        unsqueeze(WRONG[case])


def test_what_is_no_event() -> None:
    with pytest.raises(ValueError, match=r"Invalid value|array"):
        unpack(squeeze(b"\x81\xa1a\x01"))


def test_bombs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("belljar.packing.LARGEST", 1000)
    with pytest.raises(ValueError, match="too large"):
        unsqueeze(squeeze(b"x" * 2000))
    assert LARGEST > 1000
