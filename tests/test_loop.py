"""The loop, over models of fixed turns and a tool that runs nothing: what is asked, told, shown, and when it ends."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from belljar.conversation import LARGEST_IMAGE
from belljar.dialects.upstream_request import write_request
from belljar.errors import (
    AtCapacity,
    BelljarError,
    FormatFailed,
    SandboxFailed,
    ToolUseFailed,
    UpstreamRefused,
    UpstreamUnavailable,
)
from belljar.events import (
    Answer,
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
    Fold,
    ReasoningDelta,
    TextDelta,
    TurnEnded,
    TurnStarted,
)
from belljar.execution import Event as ExecutionEvent
from belljar.execution import Execution, Outcome, Output, Result
from belljar.loop import LAST_CALL, Budget, Models, run
from belljar.model import (
    Call,
    CallResult,
    Choice,
    Format,
    Function,
    Message,
    Mode,
    Reasoning,
    Request,
    Role,
    Text,
)
from belljar.sandbox.pool import Pool
from belljar.tools.python import FUNCTION, PythonTool
from conversations import check_body
from models import FakeModel, call, say

PNG = b"\x89PNG..."
PICTURES = {"plot": PNG, "huge": bytes(LARGEST_IMAGE + 1)}
CODE = '{"code": "print(1)"}'
WEATHER = Function(name="weather", parameters={"type": "object"})


class FakeTool(PythonTool):
    """Prints its code. Some codes do what the tests need."""

    def __init__(self) -> None:
        super().__init__(Pool(ready=0))  # which is never started
        self.ran: list[str] = []
        self.closed = 0
        self._waited = 0.25

    async def run(self, code: str, seconds: float) -> AsyncGenerator[ExecutionEvent, None]:
        self.ran.append(code)
        if code in ERRORS:
            raise ERRORS[code]
        yield Output(stream="stdout", text=f"ran {code}\n")
        results = tuple(Result(data={"image/png": PICTURES[code]}) for _ in range(code in PICTURES))
        for result in results:
            yield result
        yield Execution(outcome=Outcome.OK, stdout=f"ran {code}\n" * (10_000 if code == "much" else 1), results=results)

    async def close(self) -> None:
        self.closed += 1


ERRORS: dict[str, Exception] = {"capacity": AtCapacity("full"), "broken": SandboxFailed("no zygote")}


def ask(**fields: Any) -> Request:
    fields.setdefault("messages", (Message(role=Role.USER, parts=(Text(text="hi"),)),))
    fields.setdefault("builtin", ("python",))
    return Request(model="fake", **fields)


async def answer(
    model: FakeModel, request: Request, *, answerer: FakeModel | None = None, budget: Budget | None = None
) -> tuple[list[Event], FakeTool]:
    tool = FakeTool()
    tools = [tool] if request.builtin else []
    events = [e async for e in run(request, Models(planner=model, answerer=answerer or model), tools, budget)]
    check_order(events)
    assert tool.closed == len(tools)
    return events, tool


def check_order(events: Sequence[Event]) -> None:
    """What `events` promises of every stream."""
    assert [isinstance(e, Finished | Failed) for e in events] == [False] * (len(events) - 1) + [True]
    in_turn, running, opened = False, None, set[str]()
    for event in events[:-1]:
        if isinstance(event, TurnStarted):
            assert not in_turn
            assert running is None
            in_turn = True
        elif isinstance(event, TurnEnded):
            assert in_turn
            in_turn = False
        elif isinstance(event, CallOpened):
            assert event.call not in opened
            opened.add(event.call)
        elif isinstance(event, CallStarted):
            assert not in_turn
            assert running is None
            running = event.call
        elif isinstance(event, CallOutput | CallShown):
            assert event.call == running
        elif isinstance(event, CallClosed):
            assert running in (None, event.call)
            running = None
        else:
            assert in_turn, event
            assert not isinstance(event, ArgumentsDelta | CallReady) or event.call in opened


def fold(events: Sequence[Event]) -> Answer:
    whole = Fold()
    for event in events:
        whole.add(event)
    return whole.answer


def error_of(events: Sequence[Event]) -> BelljarError:
    assert isinstance(events[-1], Failed), events[-1]
    return events[-1].error


# --- turns and calls --------------------------------------------------------------------------------------------------


async def test_a_plain_answer_is_passed_on_as_it_comes() -> None:
    model = FakeModel(say("Hel", "lo"))
    events, _ = await answer(model, ask(builtin=()))
    assert [e.text for e in events if isinstance(e, TextDelta)] == ["Hel", "lo"]
    assert fold(events).finish is Finish.STOP
    assert model.asked[0].functions == ()
    assert model.asked[0].messages == ask().messages


async def test_one_execution() -> None:
    model = FakeModel([*say("Let me see."), *call(CODE, pieces=5)], say("It is 1."))
    events, tool = await answer(model, ask())
    whole = fold(events)
    assert tool.ran == ["print(1)"]
    assert whole.text == "Let me see.\n\nIt is 1."
    item = whole.calls[0]
    assert (item.arguments, item.name, item.builtin) == ("print(1)", "python", True)
    assert item.execution is not None
    assert item.execution.stdout == item.text + "\n" == "ran print(1)\n"
    assert "".join(e.text for e in events if isinstance(e, ArgumentsDelta)) == "print(1)"
    assert [t.usage.total_tokens for t in whole.turns if t.usage] == [15, 15]
    assert whole.queue_seconds == 0.25
    first, second = model.asked
    assert first.functions == (FUNCTION,)
    assert first.messages[0].role is Role.SYSTEM
    assert second.messages[1:] == (
        *ask().messages,
        Message(
            role=Role.ASSISTANT,
            parts=(Text(text="Let me see."), Call(id="c1", name="python", arguments=CODE, builtin=True)),
        ),
        Message(role=Role.TOOL, parts=(CallResult(call="c1", text="ran print(1)", builtin=True),)),
    )


async def test_calls_of_one_turn_run_in_their_order() -> None:
    model = FakeModel([*call(CODE), *call("x = 2", identity="c2"), *call("x", identity="c3")], say("done"))
    events, tool = await answer(model, ask())
    assert tool.ran == ["print(1)", "x = 2", "x"]
    assert [e.call for e in events if isinstance(e, CallClosed)] == ["c1", "c2", "c3"]


async def test_ids_that_repeat_are_told_apart() -> None:
    model = FakeModel(call(CODE), call(CODE), say("done"))
    events, _ = await answer(model, ask())
    first, second = (e.call for e in events if isinstance(e, CallClosed))
    assert first != second
    results = [p.call for m in model.asked[-1].messages for p in m.parts if isinstance(p, CallResult)]
    assert results == [first, second]


async def test_other_names_of_the_tool_are_understood() -> None:
    events, tool = await answer(FakeModel(call(CODE, name="code_interpreter"), say("ok")), ask())
    assert tool.ran == ["print(1)"]
    assert fold(events).calls[0].name == "python"


async def test_a_tool_that_nobody_offers_is_told_to_the_model_alone() -> None:
    model = FakeModel(call("{}", name="browser"), say("ok"))
    events, tool = await answer(model, ask())
    assert not tool.ran
    assert not fold(events).calls
    assert "no tool called 'browser'" in str(model.asked[1].messages[-1])
    assert fold(events).text == "ok"


async def test_reasoning_goes_back_to_the_model() -> None:
    model = FakeModel([ReasoningDelta(text="hm"), *call(CODE)], say("ok"))
    events, _ = await answer(model, ask())
    assert fold(events).reasoning == "hm"
    assert model.asked[1].messages[2].parts[0] == Reasoning(text="hm")


@pytest.mark.parametrize("sees", [True, False])
async def test_pictures_go_to_models_that_see(sees: bool) -> None:
    model = FakeModel(call("plot"), say("ok"), sees_images=sees)
    events, _ = await answer(model, ask())
    (result,) = [p for m in model.asked[1].messages for p in m.parts if isinstance(p, CallResult)]
    assert [image.data for image in result.images] == [PNG] * sees
    assert "[1 image shown to the user]" in result.text
    assert any(isinstance(e, CallShown) for e in events)


async def test_pictures_are_the_last_ones_of_all_calls_and_none_is_huge() -> None:
    model = FakeModel(call("huge"), *[call("plot")] * 6, say("ok"), sees_images=True)
    await answer(model, ask())
    results = [p for m in model.asked[-1].messages for p in m.parts if isinstance(p, CallResult)]
    assert [len(result.images) for result in results] == [0, 0, 0, 1, 1, 1, 1]
    assert all("[1 image shown to the user]" in result.text for result in results)


async def test_reasoning_goes_back_under_the_key_of_its_upstream() -> None:
    ended = TurnEnded(turn=0, model="", finish=Finish.CALLS, extra={"reasoning_key": "reasoning_content"})
    model = FakeModel([ReasoningDelta(text="hm"), *call(CODE), ended], say("ok"))
    await answer(model, ask())
    body = json.loads(write_request(model.asked[1], "m", sees_images=False))
    assert body["messages"][2]["reasoning_content"] == "hm"


async def test_ids_of_the_history_are_not_used_again() -> None:
    history = (
        *ask().messages,
        Message(role=Role.ASSISTANT, parts=(Call(id="c1", name="python", arguments=CODE, builtin=True),)),
        Message(role=Role.TOOL, parts=(CallResult(call="c1", text="1", builtin=True),)),
        *ask().messages,
    )
    model = FakeModel(call(CODE), say("ok"))
    await answer(model, ask(messages=history))
    first, second = (p.id for m in model.asked[-1].messages for p in m.parts if isinstance(p, Call))
    assert first == "c1" != second


async def test_what_strangers_are_called_can_be_sent_and_is_words_where_no_tool_is_offered() -> None:
    model = FakeModel(call("{}", name="browser.search<|x|>"), call(CODE), call(CODE), say("ok"))
    await answer(model, ask(), budget=Budget(calls=1))
    sent = [json.loads(write_request(request, "m", sees_images=False)) for request in model.asked]
    assert sent[1]["messages"][2]["tool_calls"][0]["function"]["name"] == "browser_search__x__"
    assert "tools" not in sent[-1]
    for body in sent:
        check_body(body, alternating="tools" not in body)


# --- the client's own functions ---------------------------------------------------------------------------------------


async def test_own_functions_end_the_turn() -> None:
    model = FakeModel(call('{"city": "Rome"}', name="weather"))
    events, _ = await answer(model, ask(functions=(WEATHER,)))
    assert fold(events).finish is Finish.CALLS
    (item,) = fold(events).calls
    assert (item.name, item.builtin, item.arguments) == ("weather", False, '{"city": "Rome"}')


async def test_built_in_calls_beside_own_ones_run_first() -> None:
    model = FakeModel([*call("{}", name="weather", identity="w"), *call(CODE)])
    events, tool = await answer(model, ask(functions=(WEATHER,)))
    assert tool.ran == ["print(1)"]
    assert fold(events).finish is Finish.CALLS


async def test_an_own_function_may_be_called_python_when_the_tool_is_not_asked_for() -> None:
    events, _ = await answer(
        FakeModel(call("{}", name="python")), ask(builtin=(), functions=(Function(name="python"),))
    )
    assert not fold(events).calls[0].builtin


FORBIDDEN = {
    "a stranger": (call("{}", name="nuke"), {"functions": (WEATHER,)}, "not in request.tools"),
    "no JSON": (call("{oops", name="weather"), {"functions": (WEATHER,)}, "no JSON object"),
    "no list": (call("[1]", name="weather"), {"functions": (WEATHER,)}, "no JSON object"),
    "none": (call("{}", name="weather"), {"functions": (WEATHER,), "choice": Choice(mode=Mode.NONE)}, "is none"),
    "required": (say("no"), {"functions": (WEATHER,), "choice": Choice(mode=Mode.REQUIRED)}, "did not call a tool"),
    "by name": (say("no"), {"functions": (WEATHER,), "choice": Choice(name="weather")}, "names 'weather'"),
}


@pytest.mark.parametrize("case", FORBIDDEN)
async def test_a_model_that_does_not_comply(case: str) -> None:
    turn, fields, words = FORBIDDEN[case]
    events, _ = await answer(FakeModel(turn), ask(builtin=(), **fields))
    error = error_of(events)
    assert isinstance(error, ToolUseFailed)
    assert words in str(error)
    assert error.generation


async def test_validation_can_be_left_to_the_client() -> None:
    events, _ = await answer(FakeModel(call("{oops", name="nuke")), ask(builtin=(), functions=(), validate_calls=False))
    assert fold(events).finish is Finish.CALLS


async def test_required_is_kept_to_the_first_turn() -> None:
    model = FakeModel(call(CODE), say("ok"))
    events, _ = await answer(model, ask(choice=Choice(mode=Mode.REQUIRED)))
    assert [request.choice.mode for request in model.asked] == [Mode.REQUIRED, Mode.AUTO]
    assert fold(events).finish is Finish.STOP


async def test_required_and_not_called() -> None:
    model = FakeModel(call("{}", name="stranger"), say("no need"))  # a stranger is no tool
    events, _ = await answer(model, ask(choice=Choice(mode=Mode.REQUIRED)))
    error = error_of(events)
    assert isinstance(error, ToolUseFailed)
    assert error.generation == "no need"


async def test_with_choice_none_nothing_is_said_of_the_tool() -> None:
    model = FakeModel(say("ok"))
    events, _ = await answer(model, ask(choice=Choice(mode=Mode.NONE)))
    assert fold(events).text == "ok"
    assert model.asked[0].functions == ()
    assert model.asked[0].messages == ask().messages


# --- budgets ----------------------------------------------------------------------------------------------------------


async def test_one_call_at_most_then_an_answer_without_tools() -> None:
    model = FakeModel(call(CODE), say("It is 1."))
    events, tool = await answer(model, ask(max_calls=1))
    assert len(tool.ran) == 1
    assert len(model.asked) == 2
    assert model.asked[0].parallel is False
    assert model.asked[1].choice.mode is Mode.NONE
    assert LAST_CALL in str(model.asked[1].messages[-1])
    assert fold(events).text == "It is 1."


async def test_calls_beyond_the_budget_are_not_run_and_say_so() -> None:
    model = FakeModel([*call(CODE), *call("two", identity="c2")], say("ok"))
    events, tool = await answer(model, ask(), budget=Budget(calls=1))
    assert tool.ran == ["print(1)"]
    closed = [e for e in events if isinstance(e, CallClosed)]
    assert "not run" in closed[1].text
    assert closed[1].execution.error is not None
    assert closed[1].execution.error.name == "NotRun"


async def test_a_model_that_never_stops_calling_is_stopped() -> None:
    model = FakeModel(call(CODE))
    events, tool = await answer(model, ask(), budget=Budget(calls=3))
    assert len(tool.ran) == 3
    assert len(model.asked) == 5  # three, the last one that calls all the same, and one that is offered no tool
    assert model.asked[-1].functions == ()
    assert fold(events).finish is Finish.STOP


@pytest.mark.parametrize("budget", [Budget(turns=3), Budget(seconds=0.0)])
async def test_turns_and_seconds_are_bounded(budget: Budget) -> None:
    model = FakeModel(call(CODE), call(CODE), say("ok"))
    events, tool = await answer(model, ask(), budget=budget)
    assert len(tool.ran) == (2 if budget.turns == 3 else 0)
    assert isinstance(events[-1], Finished)


async def test_what_a_model_is_told_is_bounded() -> None:
    model = FakeModel(call("much"), call("much"), say("ok"))
    await answer(model, ask(), budget=Budget(told=5000))
    texts = [p.text for m in model.asked[-1].messages for p in m.parts if isinstance(p, CallResult)]
    assert "characters left out" in texts[0]
    assert 5000 < sum(map(len, texts)) < 6500


async def test_tokens_of_all_turns_count_against_the_limit() -> None:
    model = FakeModel(call(CODE), say("ok"))
    await answer(model, ask(options={"max_completion_tokens": 12, "temperature": 0}))
    assert [dict(r.options) for r in model.asked] == [
        {"max_completion_tokens": 12, "temperature": 0},
        {"max_completion_tokens": 7, "temperature": 0},
    ]


@pytest.mark.parametrize("finish", [Finish.LENGTH, Finish.FILTERED])
@pytest.mark.parametrize("choice", [Choice(), Choice(name="weather")])
async def test_a_call_that_was_cut_off_is_not_run(finish: Finish, choice: Choice) -> None:
    model = FakeModel([*call('{"code": "import os; os.remo'), TurnEnded(turn=0, model="", finish=finish)])
    events, tool = await answer(model, ask(functions=(WEATHER,), choice=choice))
    assert not tool.ran
    assert fold(events).finish is finish


@pytest.mark.parametrize("status", [400, 422])
async def test_a_last_turn_that_is_refused_is_asked_for_in_words(status: int) -> None:
    """Groq answers 400 where a model calls in spite of tool_choice none."""
    model = FakeModel(call(CODE), say("ok"))
    model.refusals = {1: UpstreamRefused("Tool choice is none, but model called a tool", status=status)}
    events, _ = await answer(model, ask(max_calls=1))
    assert fold(events).text == "ok"
    assert [turn.turn for turn in fold(events).turns] == [0, 1]
    assert model.asked[-1].functions == ()
    assert all(message.role is not Role.TOOL for message in model.asked[-1].messages)


@pytest.mark.parametrize("status", [401, 429])
async def test_other_refusals_are_passed_on(status: int) -> None:
    model = FakeModel(call(CODE), say("ok"))
    model.refusals = {1: UpstreamRefused("no", status=status)}
    events, _ = await answer(model, ask(max_calls=1))
    assert error_of(events).status == status


async def test_an_own_function_called_in_the_last_turn_is_the_clients() -> None:
    model = FakeModel(call(CODE), call('{"city": "Rome"}', name="weather"))
    events, _ = await answer(model, ask(functions=(WEATHER,)), budget=Budget(calls=1))
    assert fold(events).finish is Finish.CALLS
    assert len(model.asked) == 2


async def test_results_in_a_row_are_one_message_in_words() -> None:
    model = FakeModel([*call(CODE), *call(CODE, identity="c2")], call(CODE), say("ok"))
    await answer(model, ask(), budget=Budget(calls=2))
    bare = model.asked[-1]
    assert [message.role for message in bare.messages] == [Role.USER, Role.ASSISTANT, Role.USER]
    assert bare.messages[-1].text.count("ran print(1)") == 2


# --- the last answer as a turn of its own -----------------------------------------------------------------------------


async def test_another_model_writes_the_answer() -> None:
    draft = [ReasoningDelta(text="hm"), *say("dra", "ft")]
    planner, answerer = FakeModel(call(CODE), draft, identity="p"), FakeModel(say("final"), identity="a")
    events, _ = await answer(planner, ask(), answerer=answerer)
    whole = fold(events)
    assert (whole.text, whole.reasoning) == ("final", "hm\n\ndraft")
    assert [t.model for t in whole.turns] == ["p", "p", "a"]
    assert "draft" not in str(answerer.asked[0].messages)


async def test_what_the_planner_thought_is_not_sent_to_another_model() -> None:
    planner, answerer = FakeModel([ReasoningDelta(text="hm"), *call(CODE)], say("x"), identity="p"), FakeModel(say("y"))
    await answer(planner, ask(), answerer=answerer)
    assert "hm" in str(planner.asked[1].messages)
    assert "hm" not in str(answerer.asked[0].messages)


async def test_an_answerer_that_calls_in_vain_is_asked_again_in_words() -> None:
    planner = FakeModel(call(CODE), say("draft"), identity="p")
    answerer = FakeModel(call(CODE), say("final"), identity="a")
    events, tool = await answer(planner, ask(), answerer=answerer)
    assert fold(events).text == "final"
    assert len(tool.ran) == 1
    assert answerer.asked[-1].functions == ()


async def test_with_one_call_at_most_there_is_no_second_planning() -> None:
    planner, answerer = FakeModel(call(CODE), identity="p"), FakeModel(say("final"), identity="a")
    events, _ = await answer(planner, ask(max_calls=1), answerer=answerer)
    assert [t.model for t in fold(events).turns] == ["p", "a"]


SCHEMA = Format(schema={"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]})


async def test_a_format_is_asked_for_only_where_no_tool_stands_beside_it() -> None:
    model = FakeModel(call(CODE), say("It is one"), say('{"n": 1}'))
    events, _ = await answer(model, ask(format=SCHEMA))
    assert [request.format for request in model.asked] == [None, None, SCHEMA]
    assert [bool(request.functions) for request in model.asked] == [True, True, False]  # Groq takes only one of them
    assert fold(events).text == '{"n": 1}'


async def test_a_text_that_fits_the_format_is_the_answer() -> None:
    model = FakeModel(call(CODE), say('{"n"', ": 1}"))
    events, _ = await answer(model, ask(format=SCHEMA))
    assert len(model.asked) == 2
    assert fold(events).text == '{"n": 1}'


@pytest.mark.parametrize(
    ("text", "words"), [("one", "not valid JSON"), ('{"n": "x"}', "is not of type"), ("[]", "type")]
)
@pytest.mark.parametrize("builtin", [(), ("python",)])
async def test_an_answer_of_another_format_fails(text: str, words: str, builtin: tuple[str, ...]) -> None:
    events, _ = await answer(FakeModel(say(text)), ask(format=SCHEMA, builtin=builtin))
    error = error_of(events)
    assert isinstance(error, FormatFailed)
    assert words in str(error)
    assert error.generation == text


# --- what goes wrong --------------------------------------------------------------------------------------------------


async def test_an_upstream_that_fails_in_the_middle() -> None:
    model = FakeModel([*say("Hel"), UpstreamUnavailable("gone")])
    events, _ = await answer(model, ask())
    assert fold(events).text == "Hel"
    assert isinstance(error_of(events), UpstreamUnavailable)


async def test_an_unforeseen_exception_is_an_internal_error_without_its_words() -> None:
    events, _ = await answer(FakeModel([ValueError("secret")]), ask())
    assert error_of(events).status == 500
    assert "secret" not in str(error_of(events))


async def test_a_broken_sandbox_is_told_to_the_model() -> None:
    model = FakeModel(call("broken"), say("I could not run it."))
    events, _ = await answer(model, ask())
    (closed,) = [e for e in events if isinstance(e, CallClosed)]
    assert closed.execution.outcome is Outcome.KILLED
    assert "no zygote" in closed.text
    assert fold(events).text == "I could not run it."


async def test_no_room_for_a_sandbox_is_the_clients_error() -> None:
    events, _ = await answer(FakeModel(call("capacity")), ask())
    assert isinstance(error_of(events), AtCapacity)


@pytest.mark.parametrize("stop_at", [TurnStarted, TextDelta, CallReady, CallStarted, CallOutput, CallClosed])
async def test_closing_the_stream_gives_everything_back(stop_at: type) -> None:
    model, tool = FakeModel([*say("a"), *call(CODE)], say("ok")), FakeTool()
    events = run(ask(), Models(planner=model, answerer=model), [tool])
    async for event in events:
        if isinstance(event, stop_at):
            break
    await events.aclose()
    assert tool.closed == 1
    assert model.closed == len(model.asked)


# --- history ----------------------------------------------------------------------------------------------------------


async def test_earlier_code_is_words_for_a_model_without_the_tool() -> None:
    history = (
        *ask().messages,
        Message(
            role=Role.ASSISTANT,
            parts=(Call(id="x", name="python", arguments='{"code": "1+1"}', builtin=True),),
        ),
        Message(role=Role.TOOL, parts=(CallResult(call="x", text="2", builtin=True),)),
        *ask().messages,
    )
    for builtin in ((), ("python",)):
        model = FakeModel(say("ok"))
        await answer(model, ask(messages=history, builtin=builtin))
        roles = [message.role for message in model.asked[0].messages]
        assert (Role.TOOL in roles) == bool(builtin)
        assert "1+1" in str(model.asked[0].messages)
