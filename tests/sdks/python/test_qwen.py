"""Qwen's OpenAI-compatible mode, judged by OpenAI's SDK and by DashScope's second client, unchanged."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from belljar.dialects.qwen_chat import DIALECT
from sdks.qwen import COMPATIBLE, MAX, PLUS, WEATHER, calls_back, openai_client, qwen_server, user
from servers import Belljar

RUN = {"enable_code_interpreter": True, "enable_thinking": True}
QUESTION = "What is 12 to the power of 3?"
STREAMS = [name for name in COMPATIBLE if "streaming" in name]


@pytest.fixture(scope="module")
def qwen(no_proxy: None) -> Iterator[Belljar]:
    with qwen_server() as running:
        yield running


def test_guide(qwen: Belljar) -> None:
    """The guide's request, with the base URL changed; what it reads of each chunk is there."""
    reasoning, answer, usage = "", "", None
    with openai_client(qwen.url) as client:
        for chunk in client.chat.completions.create(
            model=MAX,
            messages=user(QUESTION),  # type: ignore[arg-type]
            extra_body={"enable_code_interpreter": True, "enable_thinking": True},
            stream=True,
            stream_options={"include_usage": True},
        ):
            if not chunk.choices:
                usage = chunk.usage
                continue
            assert chunk.usage is None
            delta = chunk.choices[0].delta
            if hasattr(delta, "reasoning_content") and delta.reasoning_content is not None:
                reasoning += delta.reasoning_content
            if delta.content:
                answer += delta.content
    assert (answer, reasoning) == ("It is 1728.", "Let me compute.\n\nSo.")
    assert usage is not None
    assert usage.total_tokens == 45
    assert usage.model_extra == {"plugins": {"code_interpreter": {"count": 1}}}


@pytest.mark.parametrize("way", COMPATIBLE)
@pytest.mark.parametrize("model", [MAX, PLUS])
def test_one_execution(qwen: Belljar, way: str, model: str) -> None:
    seen = COMPATIBLE[way](qwen.url, {"model": model, "messages": user(QUESTION), **RUN})
    if model == MAX and way not in STREAMS:
        assert seen.error is not None
        assert seen.error[:2] == (400, "invalid_parameter_error")
        return
    assert seen.error is None
    assert (seen.content, seen.reasoning) == ("It is 1728.", "Let me compute.\n\nSo.")
    assert (seen.runs, seen.tokens, seen.finish) == (1, (31, 14, 45), "stop")
    assert len(seen.ids) == 1


def test_strictness_can_be_turned_off(qwen: Belljar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DIALECT, "strict", False)
    request = {"model": MAX, "messages": user(QUESTION), "enable_code_interpreter": True}
    for way in ("openai", "openai, streaming"):
        seen = COMPATIBLE[way](qwen.url, request)
        assert (seen.content, seen.reasoning, seen.runs) == ("It is 1728.", "", 1)


@pytest.mark.parametrize("way", COMPATIBLE)
def test_plain(qwen: Belljar, way: str) -> None:
    seen = COMPATIBLE[way](qwen.url, {"model": PLUS, "messages": user(QUESTION)})
    assert (seen.content, seen.reasoning, seen.runs) == ("I guess 1728.", "", 0)


@pytest.mark.parametrize("way", COMPATIBLE)
def test_function_and_its_result(qwen: Belljar, way: str) -> None:
    request: dict[str, Any] = {"model": "qwen-weather", "messages": user("Weather?"), "tools": [WEATHER]}
    seen = COMPATIBLE[way](qwen.url, request)
    assert (seen.finish, seen.content) == ("tool_calls", "Let me look.")
    [call] = seen.calls.values()
    assert (call["name"], json.loads(call["arguments"])) == ("get_weather", {"city": "Tokyo"})
    request["messages"] += calls_back(seen, "sunny")
    assert COMPATIBLE[way](qwen.url, request).content == "weather sunny"


ERRORS = [
    ({"model": "no-such-model"}, 404, "model_not_found"),
    ({"model": "qwen-refused"}, 429, "y"),
    ({"model": PLUS, "temperature": 9}, 400, "invalid_parameter_error"),
    ({"model": PLUS, "tools": [WEATHER], **RUN}, 400, "invalid_parameter_error"),
    ({"model": MAX, "enable_code_interpreter": True}, 400, "invalid_parameter_error"),
    ({"model": PLUS, "enable_search": True}, 400, "invalid_parameter_error"),
]


@pytest.mark.parametrize(("fields", "status", "code"), ERRORS)
@pytest.mark.parametrize("way", COMPATIBLE)
def test_error(qwen: Belljar, way: str, fields: dict[str, Any], status: int, code: str) -> None:
    seen = COMPATIBLE[way](qwen.url, {"messages": user("x"), **fields})
    assert seen.error is not None
    assert seen.error[:2] == (status, code)
    assert seen.error[2]


@pytest.mark.parametrize("way", STREAMS)
def test_error_in_mid_stream(qwen: Belljar, way: str) -> None:
    seen = COMPATIBLE[way](qwen.url, {"model": "qwen-cut", "messages": user("x")})
    assert seen.content
    assert seen.error is not None
    assert seen.error[1] == "upstream_failed"


@pytest.mark.parametrize("way", COMPATIBLE)
def test_heartbeats_mean_nothing(qwen: Belljar, way: str) -> None:
    model, content = ("qwen-long", "word " * 6) if way in STREAMS else ("qwen-slow", "At last.")
    seen = COMPATIBLE[way](qwen.listen(heartbeat=0.03), {"model": model, "messages": user("x")})
    assert (seen.content, seen.finish) == (content, "stop")


def test_models(qwen: Belljar) -> None:
    with openai_client(qwen.url) as client:
        assert MAX in [model.id for model in client.models.list()]
        assert client.models.retrieve(PLUS).id == PLUS


def test_what_reaches_the_upstream(qwen: Belljar) -> None:
    fields = {"enable_thinking": False, "thinking_budget": 9, "top_k": 5}
    sent = json.loads(COMPATIBLE["openai"](qwen.url, {"model": "qwen-echo", "messages": user("x"), **fields}).content)
    assert (sent["enable_thinking"], sent["reasoning_effort"]) == (False, "none")
    assert sent["chat_template_kwargs"] == {"enable_thinking": False}
    assert (sent["thinking_budget"], sent["top_k"]) == (9, 5)
