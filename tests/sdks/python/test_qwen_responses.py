"""Alibaba's compatible path of the Responses API: the guide's first tab, with the base URL changed, by OpenAI's SDK."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from sdks.qwen import MAX, PLUS, qwen_server
from sdks.responses import OUTPUTS, WAYS, codes, connect, follow, logs, thoughts
from servers import Belljar

PATH = "/api/v2/apps/protocols/compatible-mode/v1"
GUIDE: dict[str, Any] = {
    "input": "What is 12 to the power of 3?",
    "tools": [{"type": "code_interpreter"}],
    "extra_body": {"enable_thinking": True},
}
ways = pytest.mark.parametrize("way", ["create", "create, streaming", "async, streaming"])


@pytest.fixture(scope="module")
def qwen(no_proxy: None) -> Iterator[Belljar]:
    with qwen_server() as running:
        yield running


def test_guide(qwen: Belljar, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands there."""
    monkeypatch.setenv("YOUR_API_KEY", "any-key")
    client = openai.OpenAI(
        api_key=os.getenv("YOUR_API_KEY"),
        base_url=f"{qwen.url}/api/v2/apps/protocols/compatible-mode/v1",
    )
    response = client.responses.create(
        model="qwen3-max-2026-01-23",
        input="What is 12 to the power of 3?",
        tools=[{"type": "code_interpreter"}],  # type: ignore[list-item]
        extra_body={"enable_thinking": True},
    )
    client.close()
    assert response.output_text == "It is 1728."
    assert response.usage is not None
    assert response.usage.total_tokens == 45
    assert response.usage.model_extra == {"x_tools": {"code_interpreter": {"count": 1}}}


@ways
@pytest.mark.parametrize("model", [MAX, PLUS])
def test_one_execution(qwen: Belljar, way: str, model: str) -> None:
    answer = WAYS[way](qwen.url, PATH, model=model, **GUIDE)
    assert [item.type for item in answer.output] == ["reasoning", "code_interpreter_call", "reasoning", "message"]
    assert codes(answer) == ["print(12**3)"]
    assert thoughts(answer) == "Let me compute.So."
    assert all(item.summary for item in answer.output if item.type == "reasoning")
    assert answer.output_text == "It is 1728."
    assert answer.usage.model_extra == {"x_tools": {"code_interpreter": {"count": 1}}}


@ways
def test_several_executions(qwen: Belljar, way: str) -> None:
    answer = WAYS[way](qwen.url, PATH, model=PLUS, **GUIDE | {"input": "Compute twice."})
    assert codes(answer) == ["print(12**3)", "print(21)"]
    assert answer.usage.x_tools == {"code_interpreter": {"count": 2}}


@ways
def test_outputs(qwen: Belljar, way: str) -> None:
    """Alibaba's own answers show them without being asked; who asks gets them."""
    answer = WAYS[way](qwen.url, PATH, model=PLUS, include=[OUTPUTS], **GUIDE)
    assert logs(answer) == "1728\n"


def test_plain(qwen: Belljar) -> None:
    answer = WAYS["create"](qwen.url, PATH, model=PLUS, input="What is 12 to the power of 3?")
    assert answer.output_text == "I guess 1728."
    assert "x_tools" not in (answer.usage.model_extra or {})


def test_thinking_reaches_the_model(qwen: Belljar) -> None:
    answer = WAYS["create"](qwen.url, PATH, model="qwen-echo", input="x", extra_body={"enable_thinking": False})
    assert '"enable_thinking": false' in answer.output_text


def test_going_on(qwen: Belljar) -> None:
    with connect(qwen.url, path=PATH) as client:
        first = client.responses.create(model=PLUS, **GUIDE)
        second = client.responses.create(model="qwen-echo", input="And?", previous_response_id=first.id)
        assert "1728" in second.output_text
        assert client.responses.retrieve(first.id).output_text == "It is 1728."


def test_a_stream_shows_the_code_as_it_is_written(qwen: Belljar) -> None:
    with connect(qwen.url, path=PATH) as client:
        events = list(client.responses.create(model=PLUS, stream=True, **GUIDE))
    code = "".join(e.delta for e in events if e.type == "response.code_interpreter_call_code.delta")
    assert code == "print(12**3)"
    assert follow(events).status == "completed"


ERRORS = [
    ({"model": "no-such-model"}, 404),
    ({"model": "qwen-refused"}, 429),
    ({"model": PLUS, "tools": [{"type": "code_interpreter"}, {"type": "function", "name": "f"}]}, 400),
]


@pytest.mark.parametrize(("fields", "status"), ERRORS)
@ways
def test_error(qwen: Belljar, way: str, fields: dict[str, Any], status: int) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        WAYS[way](qwen.url, PATH, **GUIDE | fields)
    assert caught.value.status_code == status
    assert caught.value.message
