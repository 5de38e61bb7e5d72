"""Tools in words: what the model is told, what of its answer is the call, and when it is cut off."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.conversation import say, tell
from belljar.errors import BadRequest
from belljar.events import (
    ArgumentsDelta,
    CallOpened,
    CallReady,
    Finish,
    ReasoningDelta,
    TextDelta,
    TurnEnded,
    TurnEvent,
    TurnStarted,
    collect,
)
from belljar.execution import Event, Execution, Outcome
from belljar.fences import blocks
from belljar.loop import Models, run
from belljar.model import Call, CallResult, Choice, Function, Image, Message, Mode, Reasoning, Request, Role, Text
from belljar.partial import CodeReader, read_code, write_code
from belljar.tools.python import FUNCTION
from belljar.upstream.prompted import INSTRUCTIONS, MUST_CALL, PromptedModel
from models import FakeModel

PNG = Image(media_type="image/png", data=b"png")


def user(text: str) -> Message:
    return Message(role=Role.USER, parts=(Text(text=text),))


def request(*messages: Message, functions: tuple[Function, ...] = (FUNCTION,), **more: object) -> Request:
    return Request(model="m", messages=messages or (user("6*7?"),), functions=functions, **more)  # type: ignore[arg-type]


async def answer(*texts: str, asked: Request | None = None, finish: Finish | None = None) -> list[TurnEvent]:
    ending = [TurnEnded(turn=0, model="fake", finish=finish)] if finish else []
    model = FakeModel([*(TextDelta(text=text) for text in texts), *ending])
    events = [event async for event in PromptedModel(model).turn(asked or request(), 4)]
    assert model.closed == 1
    assert events[0] == TurnStarted(turn=4, model="fake")
    return events


def text_of(events: list[TurnEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def call_of(events: list[TurnEvent]) -> str | None:
    """The code of the one call; its deltas are checked on the way."""
    opened = [event for event in events if isinstance(event, CallOpened)]
    ready = [event for event in events if isinstance(event, CallReady)]
    if not opened:
        return None
    assert (len(opened), len(ready)) == (1, 1)
    assert opened[0].name == "python"
    assert opened[0].call == ready[0].call
    deltas = [event.text for event in events if isinstance(event, ArgumentsDelta)]
    assert "".join(deltas) == ready[0].arguments
    reader = CodeReader()
    shown = "".join(map(reader.feed, deltas))
    code = read_code(ready[0].arguments)
    assert shown == code
    assert ready[0].arguments == write_code(code)
    return code


# What it is: the answer, the text that is left of it, the code.
ANSWERS = {
    "text": ("It is 42.", "It is 42.", None),
    "a call": ("```python\nprint(1)\n```", "", "print(1)"),
    "words, then a call": ("Let me see.\n```python\nprint(1)\n```\n", "Let me see.\n", "print(1)"),
    "py": ("```py\n1\n```", "", "1"),
    "several lines": ('```python\na = "ä\\n"\n\nprint(a)\n```\n', "", 'a = "ä\\n"\n\nprint(a)'),
    "bash is text": ("```bash\nls\n```\n", "```bash\nls\n```\n", None),
    "no language is text": ("```\n1\n```\nso", "```\n1\n```\nso", None),
    "json, then Python": ("```json\n{}\n```\n```python\n1\n```", "```json\n{}\n```\n", "1"),
    "Python within markdown": ("````markdown\n```python\n1\n```\n````", "````markdown\n```python\n1\n```\n````", None),
    "an empty block is text": ("```python\n\n```\nso", "```python\n\n```\nso", None),
    "an empty block, then one": ("```python\n```\n```python\n1\n```", "```python\n```\n", "1"),
    "an invented output": ("```python\n1\n```\nOutput: 7\n```python\n2\n```", "", "1"),
    "not closed": ("So:\n```python\nprint(1)\n", "So:\n", "print(1)"),
    "not closed, longer fence": ("````python\nx = '''\n```\n'''\n````", "", "x = '''\n```\n'''"),
    "indented": ("1. so:\n   ```python\n   if 1:\n       2\n   ```\n", "1. so:\n   ", "if 1:\n    2"),
    "lines before the code": ("```python\n\n\n1\n```", "", "\n\n1"),
    "quotes and backslashes": ('```python\nprint("a\\\\b")\n```', "", 'print("a\\\\b")'),
    "inline code is text": ("Use `print(1)`.", "Use `print(1)`.", None),
}


@pytest.mark.parametrize("case", ANSWERS)
async def test_answers(case: str) -> None:
    whole, text, code = ANSWERS[case]
    for texts in ([whole], list(whole), [whole[: len(whole) // 2], whole[len(whole) // 2 :]]):
        events = await answer(*texts)
        assert text_of(events) == text
        assert call_of(events) == code
        ended = events[-1]
        assert isinstance(ended, TurnEnded)
        assert ended.finish is (Finish.STOP if code is None else Finish.CALLS)
        assert ended.turn == 4


@given(st.lists(st.text(alphabet='`\n "\\xé😀', max_size=6), max_size=8))
async def test_code_is_what_stood_in_the_block(pieces: list[str]) -> None:
    whole = "```python\nx\n" + "".join(pieces)
    code = blocks(whole)[0].code
    events = await answer("```pyt", "hon\nx\n", *pieces)
    assert call_of(events) == read_code(write_code(code))


async def test_usage_is_kept_where_the_answer_ends_with_its_block() -> None:
    ended = (await answer("```python\n1\n```", "\n", "  \n"))[-1]
    assert isinstance(ended, TurnEnded)
    assert ended.usage is not None


async def test_it_is_cut_off_within_a_delta() -> None:
    ended = (await answer("```python\n1\n```\nOutput"))[-1]
    assert ended == TurnEnded(turn=4, model="fake", finish=Finish.CALLS)  # the upstream's own end was not waited for


async def test_it_is_cut_off_where_it_goes_on() -> None:
    sent = []

    class Talkative(FakeModel):
        async def turn(self, request: Request, number: int) -> AsyncGenerator[TurnEvent, None]:
            yield TurnStarted(turn=number, model="fake")
            try:
                for text in ("```python\n1\n", "```\n", "\n", "Output", ": 7", " and so on"):
                    sent.append(text)
                    yield TextDelta(text=text)
            finally:
                self.closed += 1

    model = Talkative()
    events = [event async for event in PromptedModel(model).turn(request(), 2)]
    assert sent[-1] == "Output"
    assert model.closed == 1
    assert events[-1] == TurnEnded(turn=2, model="fake", finish=Finish.CALLS)


async def test_a_limit_of_tokens_in_the_middle_of_code_is_no_call_to_run() -> None:
    ended = (await answer("```python\nprint(", finish=Finish.LENGTH))[-1]
    assert isinstance(ended, TurnEnded)
    assert ended.finish is Finish.LENGTH


async def test_reasoning_passes_and_is_not_run() -> None:
    model = FakeModel([ReasoningDelta(text="```python\n1\n```"), TextDelta(text="42")])
    events = [event async for event in PromptedModel(model).turn(request(), 0)]
    assert call_of(events) is None
    assert ReasoningDelta(text="```python\n1\n```") in events


async def test_logprobs_stay_with_their_text() -> None:
    extra = {"logprobs": {"content": []}}
    model = FakeModel([TextDelta(text="42", extra=extra)])
    assert TextDelta(text="42", extra=extra) in [event async for event in PromptedModel(model).turn(request(), 0)]


# --- what it is asked -------------------------------------------------------------------------------------------------


async def asked_of(asked: Request) -> Request:
    model = FakeModel([TextDelta(text="42")])
    _ = [event async for event in PromptedModel(model).turn(asked, 0)]
    return model.asked[0]


async def test_it_is_told_in_the_system_message() -> None:
    system = Message(role=Role.SYSTEM, parts=(Text(text="Be brief."),))
    sent = await asked_of(request(system, user("6*7?"), choice=Choice(mode=Mode.AUTO), parallel=True))
    assert sent.messages[0].text == f"Be brief.\n\n{INSTRUCTIONS}"
    assert sent.messages[1:] == (user("6*7?"),)
    assert (sent.functions, sent.choice, sent.parallel, sent.stream) == ((), Choice(), None, True)


async def test_without_a_system_message_it_gets_one() -> None:
    sent = await asked_of(request(user("6*7?")))
    assert sent.messages[0] == Message(role=Role.SYSTEM, parts=(Text(text=INSTRUCTIONS),))


@pytest.mark.parametrize("choice", [Choice(mode=Mode.REQUIRED), Choice(name="python")])
async def test_it_is_told_that_it_must(choice: Choice) -> None:
    assert (await asked_of(request(choice=choice))).messages[0].text.endswith(MUST_CALL)


async def test_choice_none_says_nothing_and_reads_nothing() -> None:
    asked = request(user("6*7?"), choice=Choice(mode=Mode.NONE))
    sent = await asked_of(asked)
    assert sent.messages == (user("6*7?"),)
    assert (sent.functions, sent.choice, sent.stream) == ((), Choice(), False)
    events = await answer("```python\n1\n```", asked=asked)
    assert text_of(events) == "```python\n1\n```"
    assert call_of(events) is None


async def test_history_becomes_words() -> None:
    messages = (
        user("6*7?"),
        say("hm", "Let me see.", [Call(id="a", name="python", arguments='{"code":"print(6*7)"}', builtin=True)]),
        tell("a", "42", [PNG]),
        say("", "It is 42.", []),
        user("And 7*7?"),
    )
    _, first, called, told, said, last = (await asked_of(request(*messages))).messages
    assert first == user("6*7?")
    assert called.role is Role.ASSISTANT
    assert called.text == "Let me see.\n```python\nprint(6*7)\n```\n"
    assert called.parts[0] == Reasoning(text="hm")
    assert told.role is Role.USER
    assert told.parts == (Text(text="Output of the code:\n```\n42\n```"), PNG)
    assert said.text == "It is 42."
    assert last == user("And 7*7?")


async def test_results_that_follow_each_other_are_one_message() -> None:
    calls = [Call(id=name, name="python", arguments=f'{{"code":"{name}"}}', builtin=True) for name in "ab"]
    messages = (user("?"), say("", "", calls), tell("a", "1"), tell("b", "2"), user("so"))
    sent = (await asked_of(request(*messages))).messages
    assert [message.role for message in sent] == [Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.USER]
    assert [part.text for part in sent[3].parts if isinstance(part, Text)] == [
        "Output of the code:\n```\n1\n```",
        "Output of the code:\n```\n2\n```",
        "so",
    ]


async def test_users_that_follow_each_other_stay_apart() -> None:
    sent = (await asked_of(request(user("a"), user("b")))).messages
    assert sent[1:] == (user("a"), user("b"))


async def test_a_fence_in_an_output_does_not_end_its_block() -> None:
    messages = (
        user("?"),
        say("", "", [Call(id="a", name="python", arguments="{}", builtin=True)]),
        tell("a", "```\n7"),
    )
    told = (await asked_of(request(*messages))).messages[-1]
    assert told.text == "Output of the code:\n````\n```\n7\n````"


async def test_calls_of_the_clients_functions_are_words_too() -> None:
    called = Message(role=Role.ASSISTANT, parts=(Call(id="a", name="weather", arguments='{"city":"Bonn"}'),))
    told = Message(role=Role.TOOL, parts=(CallResult(call="a", text="rain"),))
    sent = (await asked_of(request(user("?"), called, told))).messages
    assert sent[2].text == '\n[Called weather with {"city":"Bonn"}]\n'
    assert sent[3] == user("Result of the call:\n```\nrain\n```")


async def test_functions_of_the_client_are_refused() -> None:
    with pytest.raises(BadRequest, match="without function calling") as caught:
        await asked_of(request(functions=(FUNCTION, Function(name="weather"))))
    assert caught.value.param == "tools"


async def test_without_functions_nothing_is_read() -> None:
    sent = await asked_of(request(user("?"), functions=()))
    assert sent.messages == (user("?"),)
    assert text_of(await answer("```python\n1\n```", asked=request(functions=()))) == "```python\n1\n```"


# --- through the loop -------------------------------------------------------------------------------------------------


class Adder:
    """A tool `python` that knows one answer."""

    name = "python"
    aliases = ()
    function = FUNCTION
    queue_seconds = 0.0

    def instructions(self, model: str) -> str:
        return "You can run Python."

    def read(self, arguments: str) -> str:
        return read_code(arguments)

    async def run(self, code: str, seconds: float) -> AsyncGenerator[Event, None]:
        assert code == "print(6*7)"
        yield Execution(outcome=Outcome.OK, stdout="42")

    def describe(self, execution: Execution, limit: int) -> str:
        return execution.stdout

    async def close(self) -> None:
        pass


async def test_through_the_loop() -> None:
    turns = [TextDelta(text="Let me see.\n```python\nprint(6*7)\n```\n")], [TextDelta(text="It is 42.")]
    inner = FakeModel(*turns)
    model = PromptedModel(inner)
    asked = Request(model="m", messages=(user("6*7?"),), builtin=("python",), choice=Choice(mode=Mode.REQUIRED))
    got = await collect(run(asked, Models(planner=model, answerer=model), [Adder()]))
    assert got.error is None
    assert [call.arguments for call in got.calls] == ["print(6*7)"]
    assert got.text == "Let me see.\nIt is 42."
    first, second = inner.asked
    assert first.messages[0].text == f"You can run Python.\n\n{INSTRUCTIONS}{MUST_CALL}"
    assert second.messages[0].text == f"You can run Python.\n\n{INSTRUCTIONS}"
    assert second.messages[-1] == user("Output of the code:\n```\n42\n```")
