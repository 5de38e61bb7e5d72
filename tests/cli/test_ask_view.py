"""What `belljar ask` shows of a stream of events: where each piece goes, in which order, and how a terminal gets it."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.cli import ask_view
from belljar.cli.ask_view import JsonView, LiveView
from belljar.cli.output import Saver
from belljar.errors import UpstreamError
from belljar.events import (
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
    ReasoningDelta,
    TextDelta,
    TurnEnded,
    TurnStarted,
)
from belljar.execution import Execution, FileInfo, GuestError, Outcome, Output, Result
from belljar.model import Usage

PNG = b"\x89PNG not really"
Show = Callable[..., Awaitable[tuple[str, str]]]


def turn(number: int, *events: Event, finish: Finish = Finish.STOP) -> list[Event]:
    usage = Usage(prompt_tokens=10, completion_tokens=5)
    end = TurnEnded(turn=number, model="m", finish=finish, usage=usage)
    return [TurnStarted(turn=number, model="m"), *events, end]


def written(code: str, identity: str = "c", pieces: Sequence[str] | None = None) -> list[Event]:
    deltas = [ArgumentsDelta(call=identity, text=piece) for piece in pieces or [code]]
    opened = CallOpened(call=identity, name="python", builtin=True)
    return [opened, *deltas, CallReady(call=identity, arguments=code)]


def ran(*shown: Output | Result, identity: str = "c", error: GuestError | None = None) -> list[Event]:
    results = tuple(item for item in shown if isinstance(item, Result))
    texts = {
        name: "".join(item.text for item in shown if isinstance(item, Output) and item.stream == name)
        for name in ("stdout", "stderr")
    }
    execution = Execution(
        outcome=Outcome.ERROR if error else Outcome.OK,
        results=results,
        error=error,
        stdout_bytes=len(texts["stdout"]),
        stderr_bytes=len(texts["stderr"]),
        **texts,
    )
    middle: list[Event] = [
        CallOutput(call=identity, output=item) if isinstance(item, Output) else CallShown(call=identity, result=item)
        for item in shown
    ]
    return [CallStarted(call=identity), *middle, CallClosed(call=identity, execution=execution, text="")]


def out(text: str) -> Output:
    return Output(stream="stdout", text=text)


STOP = Finished(finish=Finish.STOP)
CODE = "x = 6\n\nprint(x * 7)\n"
RAISED = GuestError(name="E", value="v", traceback="Traceback (most recent call last):\nE: v")
WHOLE: list[Event] = [
    *turn(0, ReasoningDelta(text="Let me "), ReasoningDelta(text="see."), *written(CODE), finish=Finish.CALLS),
    *ran(out("4"), out("2\n"), Output(stream="stderr", text="warned\n"), Result(data={"text/plain": "None"})),
    *turn(1, TextDelta(text="It is "), TextDelta(text="42.")),
    STOP,
]
WHOLE_ERR = "Let me see.\n\n>>> x = 6\n>>>\n>>> print(x * 7)\n42\nwarned\nNone\n"


async def play(view: LiveView, events: Iterable[Event]) -> None:
    for event in events:
        await view.show(event)
    await view.end()


# name -> events, standard output, standard error
CASES: dict[str, tuple[list[Event], str, str]] = {
    "all of it": (WHOLE, "It is 42.\n", WHOLE_ERR),
    "an answer alone": ([*turn(0, TextDelta(text="Hi\n")), STOP], "Hi\n", ""),
    "nothing": ([*turn(0), STOP], "", ""),
    "words of two turns": (
        [
            *turn(0, TextDelta(text="First."), *written("1"), finish=Finish.CALLS),
            *ran(),
            *turn(1, TextDelta(text="Then.")),
            STOP,
        ],
        "First.\n\nThen.\n",
        ">>> 1\n",
    ),
    "two calls of a turn": (
        [
            *turn(0, *written("a", "1"), *written("b\n", "2"), finish=Finish.CALLS),
            *ran(out("A"), identity="1"),
            *ran(out("B"), identity="2"),
            STOP,
        ],
        "",
        ">>> a\nA\n\n>>> b\nB\n",
    ),
    "calls written at the same time": (
        [
            *turn(
                0,
                CallOpened(call="1", name="python", builtin=True),
                CallOpened(call="2", name="python", builtin=True),
                ArgumentsDelta(call="2", text="b"),
                ArgumentsDelta(call="1", text="a"),
                CallReady(call="2", arguments="b"),
                CallReady(call="1", arguments="a"),
            ),
            *ran(out("A\n"), identity="1"),
            *ran(out("B\n"), identity="2"),
            STOP,
        ],
        "",
        ">>> a\nA\n\n>>> b\nB\n",
    ),
    "a call that was not run": (
        [
            *turn(0, *written("a", "1"), *written("b", "2"), finish=Finish.CALLS),
            *ran(identity="1"),
            *ran(identity="2", error=GuestError(name="NotRun", value="no", traceback="NotRun: no"))[1:],
            STOP,
        ],
        "",
        ">>> a\n\n>>> b\nNotRun: no\n",
    ),
    "a traceback": (
        [*turn(0, *written("1/0"), finish=Finish.CALLS), *ran(out("open"), error=RAISED), STOP],
        "",
        ">>> 1/0\nopen\nTraceback (most recent call last):\nE: v\n",
    ),
    "a plot": (
        [
            *turn(0, *written("plot()"), finish=Finish.CALLS),
            *ran(Result(data={"image/png": PNG, "text/plain": "<Figure>"})),
            STOP,
        ],
        "",
        ">>> plot()\nimage/png 15 B not kept (--out DIR saves it)\n",
    ),
    "an answer that was cut": (
        [*turn(0, TextDelta(text="It is"), finish=Finish.LENGTH), Finished(finish=Finish.LENGTH)],
        "It is\n",
        "belljar: the answer was cut: it reached the most tokens that it may have\n",
    ),
    "a failure": (
        [TurnStarted(turn=0, model="m"), TextDelta(text="It is"), Failed(error=UpstreamError("gone"))],
        "It is\n",
        "",
    ),
}


@pytest.mark.parametrize("case", CASES)
async def test_what_goes_where(capfd: pytest.CaptureFixture[str], case: str) -> None:
    events, stdout, stderr = CASES[case]
    await play(LiveView(None), events)
    assert capfd.readouterr() == (stdout, stderr)


async def test_it_comes_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    view = LiveView(None)
    seen = []
    for event in WHOLE:
        await view.show(event)
        seen.append("".join(capfd.readouterr()))
    pieces = [piece for piece in seen if piece]
    assert pieces[:3] == ["Let me ", "see.", "\n\n>>> x = 6\n>>>\n>>> print(x * 7)\n"]
    assert pieces[3:] == ["4", "2\n", "warned\n", "None\n", "It is ", "42."]


@given(cuts=st.lists(st.integers(0, len(CODE))), whole=st.booleans())
async def test_code_looks_the_same_however_it_comes(cuts: list[int], whole: bool) -> None:
    at = [0, *sorted(cuts), len(CODE)]
    pieces = [CODE[start:end] for start, end in pairwise(at)]
    if not whole:
        pieces = pieces[:-1] or [""]  # the last piece may come with CallReady alone
    lines: list[str] = []

    async def write(_kind: ask_view.Kind, text: str) -> None:
        lines.append(text)

    view = LiveView(None)
    view._screen.write = write  # type: ignore[method-assign]
    for event in written(CODE, pieces=pieces):
        await view.show(event)
    assert "".join(lines) == ">>> x = 6\n>>>\n>>> print(x * 7)\n"


# --- on a terminal ----------------------------------------------------------------------------------------------------


@pytest.fixture
def on_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Show:
    """Plays events with standard output and standard error in one place that says it is a terminal."""

    async def show(events: Iterable[Event], terminal: bool = True) -> str:
        monkeypatch.setattr(os, "isatty", lambda _fd: terminal)
        kept = [os.dup(1), os.dup(2)]
        target = os.open(tmp_path / "screen", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        try:
            os.dup2(target, 1)
            os.dup2(target, 2)
            await play(LiveView(None), events)
        finally:
            for at, fd in enumerate(kept, 1):
                os.dup2(fd, at)
                os.close(fd)
            os.close(target)
        return (tmp_path / "screen").read_text()

    return show  # type: ignore[return-value]


async def test_sections_stand_apart_and_are_coloured(on_terminal: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert await on_terminal(WHOLE) == (
        "\x1b[2mLet me \x1b[0m\x1b[2msee.\x1b[0m\n\n"
        "\x1b[36m>>> x = 6\n\x1b[0m\x1b[36m>>>\n\x1b[0m\x1b[36m>>> print(x * 7)\n\x1b[0m"
        "42\n\x1b[0m\x1b[31mwarned\n\x1b[0m\x1b[0mNone\n\x1b[0m\nIt is 42.\n"
    )


@pytest.mark.parametrize("reason", ["NO_COLOR", "TERM", "no terminal"])
async def test_no_colour(on_terminal: Show, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    monkeypatch.setenv("NO_COLOR", "1" if reason == "NO_COLOR" else "")
    monkeypatch.setenv("TERM", "dumb" if reason == "TERM" else "xterm")
    shown = await on_terminal(WHOLE, terminal=reason != "no terminal")
    assert shown == WHOLE_ERR + "\nIt is 42.\n"


async def test_words_of_turns_stay_apart_in_one_place(on_terminal: Show) -> None:
    events = [*turn(0, TextDelta(text="One.")), *turn(1, TextDelta(text="Two.")), STOP]
    assert await on_terminal(events, terminal=False) == "One.\n\nTwo.\n"
    server = [*turn(0, *written("1")), *ran(out("1")), *turn(1, TextDelta(text="\n\nTwo.")), STOP]
    assert await on_terminal(server, terminal=False) == ">>> 1\n1\n\nTwo.\n"


@pytest.mark.parametrize("place", ["reasoning", "answer", "code", "output", "errors", "traceback", "value"])
async def test_a_terminal_obeys_nobody(on_terminal: Show, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    evil = "\x1b]52;c;ZXZpbA==\x07\x1b[6n\x9b5n"
    error = GuestError(name="E", value=evil, traceback=evil)
    events: dict[str, list[Event]] = {
        "reasoning": turn(0, ReasoningDelta(text=evil)),
        "answer": turn(0, TextDelta(text=evil)),
        "code": turn(0, *written(evil)),
        "output": ran(out(evil)),
        "errors": ran(Output(stream="stderr", text=evil)),
        "traceback": ran(error=error),
        "value": ran(Result(data={"text/plain": evil})),
    }
    shown = await on_terminal(events[place])
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "\x9b" not in shown
    assert "\\x1b]52" in shown


# --- results and files ------------------------------------------------------------------------------------------------

PLOT: list[Event] = [
    *turn(0, *written("plot()"), finish=Finish.CALLS),
    *ran(out("1\n"), Result(data={"image/png": PNG, "text/plain": "<Figure>"}), Result(data={"text/html": "<b>"})),
    *turn(1, TextDelta(text="Done.")),
    STOP,
]


async def test_results_are_saved(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    await play(LiveView(Saver(tmp_path / "o", False, 1000)), PLOT)
    assert (tmp_path / "o/result-1.png").read_bytes() == PNG
    assert (tmp_path / "o/result-2.html").read_text() == "<b>"
    assert f"image/png 15 B → {tmp_path}/o/result-1.png\n" in capfd.readouterr().err


async def test_files_that_are_not_kept_are_named(capfd: pytest.CaptureFixture[str]) -> None:
    view = LiveView(None)
    await view.files({f"f\x1b{n}": FileInfo(path=f"f{n}", size=1, type="", modified=0.0) for n in range(7)}, None)
    shown = capfd.readouterr().err
    assert shown == "belljar: not kept: f_0, f_1, f_2, f_3, f_4 and 2 more (--out DIR saves files)\n"


FIELDS = {"model", "text", "reasoning", "calls", "usage", "finish", "error", "notes", "saved"}


async def test_one_object(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    view = JsonView(Saver(tmp_path / "o", False, 1000), here=True)
    await view.note("a note")
    await play(view, PLOT)
    stdout, stderr = capfd.readouterr()
    found = json.loads(stdout)
    assert stderr == ""
    assert found.keys() == FIELDS
    assert {name: found[name] for name in ("model", "text", "finish", "error", "notes")} == {
        "model": "m",
        "text": "Done.",
        "finish": "stop",
        "error": None,
        "notes": ["a note"],
    }
    assert found["usage"]["total_tokens"] == 30
    call = found["calls"][0]
    assert (call["code"], call["outcome"], call["stdout"], call["error"]) == ("plot()", "ok", "1\n", None)
    assert call["results"][1] == {"main": False, "data": {"text/html": "<b>"}}
    assert [item["kind"] for item in found["saved"]] == ["image/png", "text/html"]


async def test_an_object_of_a_failure(capfd: pytest.CaptureFixture[str]) -> None:
    events = [TurnStarted(turn=0, model="m"), TextDelta(text="It"), *written("1/0"), Failed(error=UpstreamError("no"))]
    await play(JsonView(None, here=True), events)
    found = json.loads(capfd.readouterr().out)
    assert (found["model"], found["text"], found["error"], found["finish"]) == ("m", "It", "no", None)
    assert (found["calls"][0]["code"], found["calls"][0]["outcome"], found["usage"]) == ("1/0", None, None)


async def test_an_outcome_that_is_not_known_is_none(capfd: pytest.CaptureFixture[str]) -> None:
    await play(JsonView(None, here=False), WHOLE)
    assert json.loads(capfd.readouterr().out)["calls"][0]["outcome"] is None
