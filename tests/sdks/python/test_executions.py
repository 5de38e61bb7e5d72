"""What executions show, in every shape and by every way: values, plots, tracebacks, live output, in crowds too."""

from __future__ import annotations

import asyncio
import base64
import struct
from typing import Any

import pytest

from sdks.ways import (
    GROQ_WAYS,
    INTERPRETER,
    SDK_WAYS,
    VERBATIM,
    WEATHER,
    Seen,
    ask,
    gathered,
    groq_async,
    groq_client,
    run,
    texts,
    user,
    whole,
)
from servers import Belljar

# --- what executions show ---------------------------------------------------------------------------------------------


def png_size(data: str) -> tuple[int, int]:
    """Width and height of a base64 PNG (PNG specification, section 11.2.2)."""
    png = base64.b64decode(data, validate=True)
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert png[12:16] == b"IHDR"
    assert png[-8:-4] == b"IEND"
    width, height = struct.unpack(">II", png[16:24])
    return width, height


@pytest.mark.parametrize("way", SDK_WAYS)
@pytest.mark.parametrize("model", ["test/plot", "groq/compound"])
def test_plot(belljar: Belljar, way: str, model: str) -> None:
    tools = {} if model.startswith("groq/") else {"tools": [INTERPRETER]}
    seen = ask(belljar.url, way, model, "Draw a plot.", **tools)
    [tool] = seen.tools.values()
    [picture] = [result["png"] for result in tool["code_results"] if result.get("png")]
    width, height = png_size(picture)
    assert 100 < width < 600
    assert 50 < height < 400
    assert "drawn" in (tool.get("output") or texts(tool))
    assert "Here is the plot." in seen.content


@pytest.mark.parametrize("way", SDK_WAYS)
def test_traceback(belljar: Belljar, way: str) -> None:
    [tool] = run(belljar.url, way, "print('before')\n1 / 0").tools.values()
    text = texts(tool)
    assert text.index("before") < text.index("Traceback") < text.index("ZeroDivisionError: division by zero")


def test_a_variable_lives_on_between_the_calls_of_a_request_and_no_longer(belljar: Belljar) -> None:
    seen = ask(belljar.url, "groq", "groq/compound", "Do it in two steps.")
    assert [tool["output"] for tool in seen.tools.values()] == ["20\n", "42\n"]
    assert seen.content == "The sum is 42."
    [tool] = run(belljar.url, "groq", "print(x)").tools.values()
    assert "NameError" in texts(tool)


@pytest.mark.parametrize("way", GROQ_WAYS)
def test_mini_makes_one_call_at_most(belljar: Belljar, way: str) -> None:
    before = len(belljar.upstream.turns)
    seen = ask(belljar.url, way, "groq/compound-mini", "Do it in two steps.")
    assert [tool["output"] for tool in seen.tools.values()] == ["20\n"]
    assert seen.content == "The sum is 20."
    assert len(belljar.upstream.turns) - before == 2  # the call, and the answer: no second planning


def test_output_of_running_code_comes_before_it_ends(belljar: Belljar) -> None:
    with groq_client(belljar.url) as client:
        stream = client.chat.completions.create(
            model="test/slow", messages=user("Count."), tools=[INTERPRETER], stream=True
        )
        tools = [tool.to_dict() for chunk in stream for tool in chunk.choices[0].delta.executed_tools or []]
    assert len({tool["index"] for tool in tools}) == 1
    assert not tools[0].get("code_results")
    assert "2" in texts(tools[-1])
    assert "done" in texts(tools[-1])


@pytest.mark.parametrize("system", ["compound-beta", "compound-beta-mini"])
def test_older_names_of_the_compound_systems(belljar: Belljar, system: str) -> None:
    seen = ask(belljar.url, "groq", system, "Calculate the square root of 101")
    assert seen.tools[0]["output"].endswith("10.04987562112089\n")
    assert seen.model == system


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_many_clients_at_once(belljar: Belljar, stream: bool) -> None:
    """Each with an execution of its own, and nobody sees another's."""

    async def one(number: int) -> tuple[str, str]:
        code = f"import os, time\ntime.sleep(0.02)\nprint({number}, os.getpid() and len(os.listdir('/mnt/data')))"
        messages = user(f"```python\nopen('mine-{number}', 'w').close()\n{code}\n```")
        answer = await client.chat.completions.create(
            model=VERBATIM, messages=messages, tools=[INTERPRETER], stream=stream
        )
        seen = gathered([chunk async for chunk in answer]) if stream else whole(answer)
        return texts(seen.tools[0]), seen.content

    async with groq_async(belljar.url) as client:
        answers = await asyncio.gather(*(one(number) for number in range(32)))
    for number, (output, content) in enumerate(answers):
        assert output == f"{number} 1"
        assert f"{number} 1" in content
    await asyncio.to_thread(belljar.until, lambda: belljar.in_use == 0, 1.0)


# --- a stream says what a whole answer says ---------------------------------------------------------------------------

HABITS: list[tuple[str, str, list[Any], str, list[str]]] = [  # model, question, tools, content, outputs
    ("test/talks", "Go.", [INTERPRETER], "Let me compute.\n\nIt is 42.", ["42"]),
    ("test/twins", "Go.", [INTERPRETER], "20 and 42", ["20", "42"]),
    ("test/both", "Go.", [INTERPRETER, WEATHER], "", ["42"]),
    ("test/bare", "Go.", [INTERPRETER], "n 0\nn 1", ["n 0\nn 1"]),
    ("test/think-tags", "Go.", [], "Thought.", []),
    ("test/cut-short", "Go.", [], "The answer is", []),
    ("test/mixes", "Go.", [INTERPRETER, WEATHER], "", ["42"]),
    ("test/weather", "Go.", [WEATHER], "Let me look.", []),
    ("openai/gpt-oss-20b", "Do it in two steps.", [INTERPRETER], "The sum is 42.", ["20", "42"]),
    ("groq/compound", "Do it in two steps.", [], "The sum is 42.", ["20\n", "42\n"]),
    ("groq/compound", "What is the weather?", [], "I have no access to current weather.", []),
]


def comparable(seen: Seen) -> dict[str, Any]:
    """What does not differ from one time to the next."""
    counts = {name: count for name, count in seen.usage.items() if name.endswith("_tokens")}
    calls = [(call["name"], call["arguments"]) for call in seen.calls.values()]
    return {
        "content": seen.content,
        "reasoning": seen.reasoning,
        "tools": seen.tools,
        "calls": calls,
        "finish": seen.finish,
        "usage": counts,
        "models": [entry["model"] for entry in (seen.breakdown or {"models": []})["models"]],
    }


@pytest.mark.parametrize(
    ("model", "question", "tools", "content", "outputs"), HABITS, ids=[f"{habit[0]}, {habit[1]}" for habit in HABITS]
)
@pytest.mark.parametrize("sdk", ["groq", "openai"])
def test_stream_and_whole_agree(
    belljar: Belljar, sdk: str, model: str, question: str, tools: list[Any], content: str, outputs: list[str]
) -> None:
    more = {"tools": tools} if tools else {}
    answer, stream = (comparable(ask(belljar.url, way, model, question, **more)) for way in (sdk, f"{sdk}, streaming"))
    assert stream == answer
    assert answer["content"] == content
    assert [tool.get("output") or texts(tool) for tool in answer["tools"].values()] == outputs


@pytest.mark.parametrize("way", ["groq", "groq, streaming"])
@pytest.mark.parametrize(
    ("code", "holds"),
    [
        ("print('x' * 3_000_000)", "xxx"),
        ("print('\\ud800 \\x00 \\x1b[31m \\U0001f600')", "\U0001f600"),
        ("import sys\nsys.stdout.buffer.write(bytes(range(256)))", "ABC"),
        ("import os\nos._exit(3)", ""),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", ""),
        ("raise SystemExit('bye')", ""),
        ("def broken(:", "SyntaxError"),
        ("pass", ""),
        ("for n in range(30_000): print(n)", "1\n2\n"),
    ],
    ids=["much", "odd characters", "bytes", "exit", "kill", "SystemExit", "syntax", "nothing", "many lines"],
)
def test_odd_executions(belljar: Belljar, way: str, code: str, holds: str) -> None:
    seen = run(belljar.url, way, code)
    [tool] = seen.tools.values()
    assert tool["arguments"] == code
    assert holds in texts(tool)
    assert seen.finish == "stop"
    assert seen.content
