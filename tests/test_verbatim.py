"""The built-in model: which code it takes from a message, and what it says, alone and through the loop."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator

import pytest

from belljar.conversation import say, tell
from belljar.events import Answer, CallReady, Finish, TextDelta, TurnEnded, TurnEvent, TurnStarted, collect
from belljar.execution import Event, Execution, Outcome, Output
from belljar.loop import Budget, Models, run
from belljar.model import Call, Choice, Format, Function, Image, Message, Mode, Request, Role, Text
from belljar.partial import read_code, write_code
from belljar.tools.python import FUNCTION
from belljar.verbatim import HONEST, ID, NO_CODE, NO_TOOL, PLACEHOLDER, Verbatim, find_codes, is_code

# What it is: the message, and the codes that are run.
CODES = {
    "a Python block": ("Run\n```python\nprint(1)\n```\nplease", ["print(1)"]),
    "two Python blocks": ("```python\na = 1\n```\nthen\n```py\nprint(a)\n```", ["a = 1", "print(a)"]),
    "a Python block among others": ("```bash\nls\n```\n```python\n1\n```\n```json\n{}\n```", ["1"]),
    "other blocks: the last": ("```\nprint(1)\n```\nor\n```\nprint(2)\n```", ["print(2)"]),
    "a block before inline code": ("use `print(1)`\n```\nprint(2)\n```", ["print(2)"]),
    "a block that is no Python": ("```\nnot python at all\n```", ["not python at all"]),
    "an empty block": ("```python\n```\nor `print(1)`", ["print(1)"]),
    "a block without end": ("```python\nprint(1)", ["print(1)"]),
    "inline": ("What does `print(2**10)` give?", ["print(2**10)"]),
    "inline: the last that is code": ("With `x`, not `print(1)`, but `print(2)` in `foo.py`", ["print(2)"]),
    "inline with several statements": (
        "Will this raise? `import numpy as np; a = np.array([1,2]); print(a + np.array([1,2,3]))`",
        ["import numpy as np; a = np.array([1,2]); print(a + np.array([1,2,3]))"],
    ),
    "the whole message": ("print(1)\nprint(2)\n", ["print(1)\nprint(2)"]),
    "the whole message, a sum": ("2**100 + 1", ["2**100 + 1"]),
    "names of files": ("Plot `sales.csv` and `x.y` please", []),
    "prose": ("What is the square root of 101?", []),
    "nothing": ("", []),
    "blanks": ("  \n ", []),
}


@pytest.mark.parametrize("case", CODES)
def test_which_code_is_taken(case: str) -> None:
    text, codes = CODES[case]
    assert find_codes([text]) == codes


def test_a_part_of_a_message_may_be_code() -> None:
    assert find_codes(["\n\n[Attached file: /mnt/data/a.csv (text/csv, 10 bytes)]\n\n", "print(1)"]) == ["print(1)"]
    assert find_codes(["print(1)", "\n\n[Attached file: /mnt/data/a.csv (text/csv, 10 bytes)]\n\n"]) == ["print(1)"]
    assert find_codes(["```python\n1\n", "2\n```"]) == ["1\n\n2"]


@pytest.mark.parametrize(
    "text",
    [
        "print(1)",
        "x = 5",
        "x += 1",
        "import numpy",
        "from math import pi",
        "def f(): pass",
        "for i in x: pass",
        "[i for i in x]",
        "1 + 1",
        "2**10",
        "[1, 2, 3][0]",
        "f'{1}'",
        "await main()",
        "(y := 3)",
    ],
)
def test_code(text: str) -> None:
    assert is_code(text)


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "Hello, world",
        "yes or no",
        "this is it",
        "Note: this",
        "well-known",
        "input/output",
        "foo.py",
        "42",
        "'quoted'",
        "max",
        "...",
        "not now",
        "why not?",
        "# Heading",
        "",
        "a\x00b",
        "print(",
        "(" * 10_000,
        "-" * 50_000 + "1",
        "1+" * 20_000 + "1",
        "x = 1\n" * 50_000,
    ],
)
def test_no_code(text: str) -> None:
    assert not is_code(text)


def test_odd_code_is_no_warning() -> None:
    assert is_code("print('\\d' is 1)")  # two SyntaxWarnings, which would be errors here


# --- turns ------------------------------------------------------------------------------------------------------------


def user(*texts: str) -> Message:
    return Message(role=Role.USER, parts=tuple(Text(text=text) for text in texts))


def request(*messages: Message, tools: bool = True, **more: object) -> Request:
    functions = (Function(name="get_weather"), FUNCTION) if tools else ()
    return Request(model=ID, messages=messages, functions=functions, **more)  # type: ignore[arg-type]


async def one_turn(asked: Request, number: int = 0) -> list[TurnEvent]:
    return [event async for event in Verbatim().turn(asked, number)]


async def text_of(asked: Request) -> str:
    return "".join(event.text for event in await one_turn(asked) if isinstance(event, TextDelta))


def ran(code: str, output: str) -> tuple[Message, Message]:
    """A call of an earlier turn, and what it gave."""
    return say("", "", [Call(id="c", name="python", arguments=write_code(code), builtin=True)]), tell("c", output)


async def test_it_calls_python() -> None:
    events = await one_turn(request(user("Run `print('ä \" \\\\')` now")), 3)
    assert events[0] == TurnStarted(turn=3, model=ID)
    ready = next(event for event in events if isinstance(event, CallReady))
    assert read_code(ready.arguments) == "print('ä \" \\\\')"
    joined = "".join(event.text for event in events[2:-2])  # type: ignore[union-attr]
    assert joined == ready.arguments
    ended = events[-1]
    assert isinstance(ended, TurnEnded)
    assert (ended.turn, ended.finish) == (3, Finish.CALLS)


async def test_it_answers_with_what_came_out() -> None:
    text = await text_of(request(user("`print(1)`"), *ran("print(1)", "1")))
    assert text == f"```\n1\n```\n\n{HONEST}"


async def test_a_fence_in_the_output_does_not_end_its_block() -> None:
    text = await text_of(request(user("`print(1)`"), *ran("print(1)", "```\n")))
    assert text.startswith("````\n```\n````\n")


async def test_earlier_answers_do_not_count() -> None:
    events = await one_turn(request(user("`print(1)`"), *ran("print(1)", "1"), say("", "1", []), user("`print(2)`")))
    assert any(isinstance(event, CallReady) and read_code(event.arguments) == "print(2)" for event in events)


async def test_without_code_it_says_what_it_is() -> None:
    assert await text_of(request(user("How are you?"))) == NO_CODE


async def test_without_a_tool_it_says_how_to_ask() -> None:
    assert await text_of(request(user("`print(1)`"), tools=False)) == NO_TOOL


async def test_without_messages() -> None:
    assert await text_of(request()) == NO_CODE


async def test_a_picture_is_no_code() -> None:
    picture = Message(role=Role.USER, parts=(Image(media_type="image/png", data=b"x"),))
    assert await text_of(request(picture)) == NO_CODE


@pytest.mark.parametrize("choice", [Choice(mode=Mode.REQUIRED), Choice(name="python")])
async def test_a_call_that_is_required_is_made(choice: Choice) -> None:
    events = await one_turn(request(user("Hello!"), choice=choice))
    ready = next(event for event in events if isinstance(event, CallReady))
    assert read_code(ready.arguments) == PLACEHOLDER


async def test_choice_none_is_kept() -> None:
    events = await one_turn(request(user("`print(1)`"), choice=Choice(mode=Mode.NONE)))
    assert not any(isinstance(event, CallReady) for event in events)


async def test_json_is_json() -> None:
    text = await text_of(request(user("`print(1)`"), *ran("print(1)", 'a "b"'), format=Format()))
    assert json.loads(text) == {"output": 'a "b"'}


async def test_usage_counts_words() -> None:
    ended = (await one_turn(request(user("one two", "three"), tools=False)))[-1]
    assert isinstance(ended, TurnEnded)
    assert ended.usage is not None
    assert ended.usage.prompt_tokens == 3
    assert ended.usage.completion_tokens == len(NO_TOOL.split())
    assert ended.usage.seconds >= 0


async def test_an_answer_comes_in_several_deltas() -> None:
    deltas = [event for event in await one_turn(request(user("Hello!"))) if isinstance(event, TextDelta)]
    assert 2 <= len(deltas) <= 6


# --- through the loop -------------------------------------------------------------------------------------------------


class Echo:
    """A tool `python` whose code is its own output."""

    name = "python"
    aliases = ()
    function = FUNCTION
    queue_seconds = 0.0

    def __init__(self) -> None:
        self.codes: list[str] = []

    def instructions(self, model: str) -> str:
        return "You can run Python."

    def read(self, arguments: str) -> str:
        return read_code(arguments)

    async def run(self, code: str, seconds: float) -> AsyncGenerator[Event, None]:
        self.codes.append(code)
        yield Output(stream="stdout", text=code)
        yield Execution(outcome=Outcome.OK, stdout=code)

    def describe(self, execution: Execution, limit: int) -> str:
        return execution.stdout

    async def close(self) -> None:
        pass


async def answer(asked: Request, budget: Budget | None = None) -> tuple[Answer, list[str]]:
    model, tool = Verbatim(), Echo()
    got = await collect(run(asked, Models(planner=model, answerer=model), [tool], budget))
    assert got.error is None
    return got, tool.codes


async def test_several_blocks_are_run_in_their_order() -> None:
    asked = Request(model=ID, messages=(user("```python\na\n```\n```python\nb\n```"),), builtin=("python",))
    got, codes = await answer(asked)
    assert codes == ["a", "b"]
    assert got.text == f"```\na\n```\n\n```\nb\n```\n\n{HONEST}"
    assert got.finish is Finish.STOP


async def test_one_call_at_most() -> None:
    asked = Request(
        model=ID, messages=(user("```python\na\n```\n```python\nb\n```"),), builtin=("python",), max_calls=1
    )
    got, codes = await answer(asked)
    assert codes == ["a"]
    assert got.text == f"```\na\n```\n\n{HONEST}"


async def test_a_json_answer_through_the_loop() -> None:
    asked = Request(model=ID, messages=(user("`print(1)`"),), builtin=("python",), format=Format())
    got, _ = await answer(asked)
    assert json.loads(got.text) == {"output": "print(1)"}


async def test_required_and_no_code_through_the_loop() -> None:
    asked = Request(model=ID, messages=(user("Hello"),), builtin=("python",), choice=Choice(mode=Mode.REQUIRED))
    got, codes = await answer(asked)
    assert codes == [PLACEHOLDER]
    assert HONEST in got.text
