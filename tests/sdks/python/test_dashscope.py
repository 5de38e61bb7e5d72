"""DashScope's native form, judged by both clients of the vendor's SDK, unchanged: sync and async, streaming and not."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import dashscope
import pytest

from belljar.dialects.dashscope import DIALECT, TEXT_PATH
from sdks.qwen import CODE, KEY, MAX, NATIVE, PLUS, WEATHER, calls_back, qwen_server, user
from servers import Belljar

RUN = {"enable_code_interpreter": True, "enable_thinking": True}
QUESTION = "What is 12 to the power of 3?"
STREAMS = [name for name in NATIVE if "streaming" in name]
WHOLE = [name for name in NATIVE if "streaming" not in name]
OLDER = [name for name in NATIVE if not name.startswith("Client")]


@pytest.fixture(scope="module")
def qwen(no_proxy: None) -> Iterator[Belljar]:
    with qwen_server() as running:
        yield running


# --- the guide --------------------------------------------------------------------------------------------------------


def test_guide(qwen: Belljar, monkeypatch: pytest.MonkeyPatch) -> None:
    """The guide's request, with the base URL changed; what it reads of each chunk is there."""
    monkeypatch.setattr(dashscope, "base_http_api_url", f"{qwen.url}/api/v1")
    responses = dashscope.Generation.call(
        api_key=KEY,
        model=MAX,
        messages=user(QUESTION),
        result_format="message",
        enable_code_interpreter=True,
        enable_thinking=True,
        stream=True,
    )
    reasoning, answer, tool_info, usage = "", "", [], None
    for chunk in responses:
        assert chunk.status_code == 200
        message = chunk.output.choices[0].message
        reasoning += message.get("reasoning_content", "")
        answer += message.content
        tool_info = chunk.output.get("tool_info") or tool_info
        usage = chunk.usage
    assert answer == "It is 1728."
    assert reasoning == "Let me compute.\n\nSo."
    assert tool_info == [{"code_interpreter": {"code": CODE}, "type": "code_interpreter"}]
    assert usage["plugins"] == {"code_interpreter": {"count": 1}}


@pytest.mark.parametrize("way", NATIVE)
@pytest.mark.parametrize("model", [MAX, PLUS])
def test_one_execution(qwen: Belljar, way: str, model: str) -> None:
    seen = NATIVE[way](qwen.url, {"model": model, "messages": user(QUESTION), **RUN})
    if model == MAX and way in WHOLE:  # in a stream only, as the vendor has it
        assert seen.error is not None
        assert seen.error[:2] == (400, "InvalidParameter")
        return
    assert seen.error is None
    assert seen.content == "It is 1728."
    assert seen.reasoning == "Let me compute.\n\nSo."
    assert seen.codes == ([CODE] if way in OLDER else None)
    assert seen.runs == 1
    assert seen.tokens == (31, 14, 45)
    assert seen.finish == "stop"
    assert len(seen.ids) == 1
    assert seen.ids.pop().startswith("req_")


@pytest.mark.parametrize("way", NATIVE)
def test_two_executions(qwen: Belljar, way: str) -> None:
    seen = NATIVE[way](qwen.url, {"model": PLUS, "messages": user("Compute twice."), **RUN})
    assert seen.content == "It is 21."
    assert seen.codes == ([CODE, "print(21)"] if way in OLDER else None)
    assert (seen.runs, seen.tokens) == (2, (42, 21, 63))


@pytest.mark.parametrize("way", NATIVE)
def test_plain(qwen: Belljar, way: str) -> None:
    seen = NATIVE[way](qwen.url, {"model": PLUS, "messages": user(QUESTION)})
    assert (seen.content, seen.reasoning, seen.runs) == ("I guess 1728.", "", 0)
    assert not seen.codes


def test_strictness_can_be_turned_off(qwen: Belljar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DIALECT, "strict", False)
    for way in ("Generation", "Generation, streaming", "Client"):
        seen = NATIVE[way](qwen.url, {"model": MAX, "messages": user(QUESTION), "enable_code_interpreter": True})
        assert (seen.content, seen.reasoning, seen.runs) == ("It is 1728.", "", 1)


def test_code_interpreter_as_a_plug_in(qwen: Belljar) -> None:
    """As older code of the vendor's users has it: in a header."""
    plugins = {"code_interpreter": {}}
    seen = NATIVE["Generation"](qwen.url, {"model": PLUS, "messages": user(QUESTION), "plugins": plugins})
    assert (seen.content, seen.codes) == ("It is 1728.", [CODE])


# --- functions of the client's own ------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", NATIVE)
def test_function_and_its_result(qwen: Belljar, way: str) -> None:
    request: dict[str, Any] = {"model": "qwen-weather", "messages": user("Weather?"), "tools": [WEATHER]}
    seen = NATIVE[way](qwen.url, request)
    assert seen.finish == "tool_calls"
    assert seen.content == "Let me look."
    [call] = seen.calls.values()
    assert (call["name"], json.loads(call["arguments"])) == ("get_weather", {"city": "Tokyo"})
    request["messages"] += calls_back(seen, "sunny")
    again = NATIVE[way](qwen.url, request)
    assert (again.content, again.finish) == ("weather sunny", "stop")


@pytest.mark.parametrize("way", NATIVE)
def test_code_interpreter_and_functions(qwen: Belljar, way: str) -> None:
    seen = NATIVE[way](qwen.url, {"model": PLUS, "messages": user("x"), "tools": [WEATHER], **RUN})
    assert seen.error is not None
    status, code, message = seen.error
    assert (status, code) == (400, "InvalidParameter")
    assert "mutually exclusive" in message


# --- errors -----------------------------------------------------------------------------------------------------------

ERRORS = [
    ({"model": "no-such-model"}, 404, "Model.NotExist"),
    ({"model": "qwen-refused"}, 429, "Throttling.RateQuota"),
    ({"model": PLUS, "temperature": 9}, 400, "InvalidParameter"),
    ({"model": MAX, "enable_code_interpreter": True}, 400, "InvalidParameter"),
]


@pytest.mark.parametrize(("fields", "status", "code"), ERRORS)
@pytest.mark.parametrize("way", NATIVE)
def test_error(qwen: Belljar, way: str, fields: dict[str, Any], status: int, code: str) -> None:
    seen = NATIVE[way](qwen.url, {"messages": user("x"), **fields})
    assert seen.error is not None
    assert seen.error[:2] == (status, code)
    assert seen.error[2]


@pytest.mark.parametrize("way", STREAMS)
def test_error_in_mid_stream(qwen: Belljar, way: str) -> None:
    seen = NATIVE[way](qwen.url, {"model": "qwen-cut", "messages": user("x")})
    assert seen.content
    assert seen.error is not None
    status, code, message = seen.error
    # The newer client takes the status of all errors of a stream to be the response's.
    assert (status, code) == (200 if way.startswith("Client") else 502, "InternalError")
    assert message


def test_wrong_key(qwen: Belljar) -> None:
    url = qwen.listen(api_key=("secret",))
    for way, ask in NATIVE.items():
        seen = ask(url, {"model": PLUS, "messages": user("x")})
        assert seen.error is not None, way
        assert seen.error[:2] == (401, "InvalidApiKey"), way


# --- patience ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", NATIVE)
def test_heartbeats_mean_nothing(qwen: Belljar, way: str) -> None:
    model, content = ("qwen-long", "word " * 6) if way in STREAMS else ("qwen-slow", "At last.")
    seen = NATIVE[way](qwen.listen(heartbeat=0.03), {"model": model, "messages": user("x")})
    assert (seen.content, seen.finish) == (content, "stop")


# --- what reaches the upstream ----------------------------------------------------------------------------------------


def test_thinking_reaches_the_upstream(qwen: Belljar) -> None:
    fields = {"enable_thinking": False, "thinking_budget": 100, "top_k": 5, "max_tokens": 50, "seed": 3}
    seen = NATIVE["Generation"](qwen.url, {"model": "qwen-echo", "messages": user("x"), **fields})
    sent = json.loads(seen.content)
    assert sent["enable_thinking"] is False
    assert sent["chat_template_kwargs"] == {"enable_thinking": False}
    assert sent["reasoning_effort"] == "none"
    assert (sent["thinking_budget"], sent["top_k"], sent["max_tokens"], sent["seed"]) == (100, 5, 50, 3)
    assert not {"parameters", "input", "user_agent", "result_format"} & sent.keys()


def test_response_format(qwen: Belljar) -> None:
    fields = {"response_format": {"type": "json_object"}}
    assert (
        NATIVE["Client"](qwen.url, {"model": "qwen-json", "messages": user("x"), **fields}).content == '{"answer": 42}'
    )


def test_a_file_and_what_code_reads_of_it(qwen: Belljar) -> None:
    content = [
        {"file": "data:text/csv,a%2Cb%0A1%2C2%0A", "filename": "d.csv"},
        {"text": "```python\nopen('d.csv').read()\n```"},
    ]
    request = {"model": "belljar/verbatim", "messages": [{"role": "user", "content": content}], **RUN}
    seen = NATIVE["MultiModalConversation, streaming"](qwen.url, request)
    assert "a,b" in seen.content
    assert seen.codes == ["open('d.csv').read()"]


def test_prompt_and_answer_as_text(qwen: Belljar) -> None:
    """The form before there were messages."""
    response = dashscope.Generation.call(
        api_key=KEY, base_address=f"{qwen.url}/api/v1", model="qwen-json", prompt="x", result_format="text"
    )
    assert (response.output.text, response.output.finish_reason) == ('{"answer": 42}', "stop")


def raw_stream(url: str, model: str, **parameters: Any) -> str:
    """What a stream is on the wire."""
    body = {"model": model, "input": {"messages": user(QUESTION)}, "parameters": parameters}
    headers = {"X-DashScope-SSE": "enable", "Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
    request = urllib.request.Request(url + TEXT_PATH, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=20) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        return str(response.read().decode())


def test_heartbeats_on_the_wire(qwen: Belljar) -> None:
    lines = raw_stream(qwen.listen(heartbeat=0.03), "qwen-long").split("\n")
    assert lines.count(":") >= 3
    assert sum(line.startswith("data:") for line in lines) >= 4


def test_a_stream_on_the_wire(qwen: Belljar) -> None:
    frames = raw_stream(qwen.url, MAX, incremental_output=True, **RUN).split("\n\n")
    assert frames.pop() == ""
    for number, frame in enumerate(frames, 1):
        assert frame.startswith(f"id:{number}\nevent:result\n:HTTP_STATUS/200\ndata:{{")
    assert '"finish_reason":"stop"' in frames[-1]
    assert all('"finish_reason":"null"' in frame for frame in frames[:-1])
