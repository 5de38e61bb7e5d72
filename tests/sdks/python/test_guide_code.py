"""The guides' Python as their readers have it: the same calls, the same attributes. Only the base URL is another, given
as the SDK takes it: GROQ_BASE_URL.
"""

from __future__ import annotations

import gc
import json
import os
import warnings
from collections.abc import Iterator

import pytest
from groq import Groq
from groq.types.chat.chat_completion_message import ExecutedTool
from openai import OpenAI

from servers import Belljar


@pytest.fixture(autouse=True)
def environment(belljar: Belljar, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a reader of the guides sets. The guides close no client, so that is done for them here."""
    monkeypatch.setenv("GROQ_API_KEY", "any-key")
    monkeypatch.setenv("GROQ_BASE_URL", belljar.url)
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def test_quick_start_compound(capsys: pytest.CaptureFixture[str]) -> None:
    client = Groq(api_key=os.environ.get("GROQ_API_KEY"))

    response = client.chat.completions.create(
        messages=[
            {"role": "user", "content": "Calculate the square root of 101 and show me the Python code you used"},
        ],
        model="groq/compound-mini",
    )

    # Final output
    print(response.choices[0].message.content)

    # Reasoning + internal tool calls
    print(response.choices[0].message.reasoning)

    # Code execution tool call
    if response.choices[0].message.executed_tools:
        print(response.choices[0].message.executed_tools[0])

    shown = capsys.readouterr().out
    assert shown.startswith("The square root of 101 is: \n10.04987562112089\n")
    assert "<tool>" in shown
    assert "<output>" in shown
    assert "ExecutedTool(" in shown
    assert "output='The square root of 101 is: \\n10.04987562112089\\n'" in shown


def test_quick_start_gpt_oss(capsys: pytest.CaptureFixture[str]) -> None:
    client = Groq(api_key="your-api-key-here")

    response = client.chat.completions.create(
        messages=[
            {"role": "user", "content": "Calculate the square root of 12345. Output only the final answer."},
        ],
        model="openai/gpt-oss-20b",  # or "openai/gpt-oss-120b"
        tool_choice="required",
        tools=[{"type": "code_interpreter"}],
    )

    print(response.choices[0].message.content)
    print(response.choices[0].message.reasoning)
    print(response.choices[0].message.executed_tools[0])

    shown = capsys.readouterr().out
    assert shown.startswith("111.1080555135405\nWe need sqrt(12345).\nExecutedTool(")
    tool = response.choices[0].message.executed_tools[0]
    assert isinstance(tool, ExecutedTool)
    assert tool.name == "python"  # type: ignore[attr-defined]  # not in the SDK's types, but in the guide's output
    assert tool.to_dict() == {
        "name": "python",
        "index": 0,
        "type": "function",
        "arguments": "import math\nmath.sqrt(12345)\n",
        "search_results": {"results": None},
        "code_results": [{"text": "111.1080555135405"}],
    }


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        (
            "Calculate the monthly payment for a $30,000 loan over 5 years at 6% annual interest rate using the "
            "standard loan payment formula. Use python code.",
            "579.98",
        ),
        (
            "Will this Python code raise an error? `import numpy as np; a = np.array([1, 2]); "
            "b = np.array([3, 4, 5]); print(a + b)`",
            "ValueError",
        ),
    ],
    ids=["mathematical calculations", "debugging and testing"],
)
def test_use_cases(question: str, answer: str, capsys: pytest.CaptureFixture[str]) -> None:
    client = Groq(api_key=os.environ.get("GROQ_API_KEY"))
    chat_completion = client.chat.completions.create(
        messages=[{"role": "user", "content": question}],
        model="groq/compound-mini",
    )
    print(chat_completion.choices[0].message.content)
    assert answer in capsys.readouterr().out


def test_compound_getting_started(capsys: pytest.CaptureFixture[str]) -> None:
    client = Groq()
    completion = client.chat.completions.create(
        messages=[{"role": "user", "content": "What is the current weather in Tokyo?"}],
        # Change model to compound to use built-in tools
        # model: "llama-3.3-70b-versatile",
        model="groq/compound",
    )
    print(completion.choices[0].message.content)
    # Print all tool calls
    print(completion.choices[0].message.executed_tools)
    assert capsys.readouterr().out.startswith("I have no access to current weather.\n")
    assert not completion.choices[0].message.executed_tools


def test_compound_tools_and_cost() -> None:
    client = Groq(api_key=os.environ.get("GROQ_API_KEY"))
    response = client.chat.completions.create(
        model="groq/compound",
        messages=[{"role": "user", "content": "Calculate the square root of 101, please"}],
    )
    [tool] = response.choices[0].message.executed_tools
    assert tool.output == "The square root of 101 is: \n10.04987562112089\n"
    models = response.usage_breakdown.models
    assert sum(entry.usage.total_tokens for entry in models) == response.usage.total_tokens
    for name in ("queue_time", "prompt_time", "completion_time", "total_time"):
        value = getattr(response.usage, name)
        assert value is None or 0 <= value < 60, name
    assert response.usage.total_time is not None


@pytest.mark.parametrize("version", ["latest", "2025-07-23", "2025-08-16"])
def test_compound_versions(version: str) -> None:
    client = Groq(default_headers={"Groq-Model-Version": version})
    response = client.chat.completions.create(
        model="groq/compound-mini", messages=[{"role": "user", "content": "What is the weather today?"}]
    )
    assert response.choices[0].message.content == "I have no access to current weather."
    expected = "2025-08-16" if version == "latest" else version
    assert expected in json.dumps(response.x_groq.to_dict())


def test_stream_of_executed_tools() -> None:
    client = Groq()
    question = [{"role": "user", "content": "Calculate the square root of 101"}]
    tools, shown = {}, ""
    for chunk in client.chat.completions.create(model="groq/compound", messages=question, stream=True):
        delta = chunk.choices[0].delta
        for tool in delta.executed_tools or []:
            tools.setdefault(tool.index, []).append(tool)
        shown += (delta.reasoning or "") + (delta.content or "")
    first, last = tools[0][0], tools[0][-1]
    assert first.output is None
    assert last.output == "The square root of 101 is: \n10.04987562112089\n"
    assert first.arguments == last.arguments
    assert "10.04987562112089" in shown


def test_openai_sdk_against_groqs_base(belljar: Belljar) -> None:
    client = OpenAI(api_key="x", base_url=f"{belljar.url}/openai/v1")
    response = client.chat.completions.create(
        model="openai/gpt-oss-20b",
        messages=[{"role": "user", "content": "Calculate the square root of 12345."}],
        tools=[{"type": "code_interpreter"}],
    )
    message = response.choices[0].message
    assert message.executed_tools[0]["code_results"] == [{"text": "111.1080555135405"}]
    assert message.reasoning == "We need sqrt(12345)."
    assert message.content == "111.1080555135405"
