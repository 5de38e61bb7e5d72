"""OpenAI's Responses through its own SDK, unchanged: what an answer holds, whole and streamed, in every way to ask."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from sdks.responses import (
    INTERPRETER,
    OUTPUTS,
    WAYS,
    WEATHER,
    Follower,
    citations,
    codes,
    compare,
    connect,
    connect_async,
    container_of,
    follow,
    items,
    logs,
    pictures,
    python,
    thoughts,
)
from sdks.script import PLOT
from sdks.ways import VERBATIM
from servers import Belljar

PNG = b"\x89PNG\r\n\x1a\n"
ROOT: dict[str, Any] = {
    "model": "openai/gpt-oss-20b",
    "input": "What is the square root of 101? Use code.",
    "tools": [INTERPRETER],
    "include": [OUTPUTS],
}
QUERY = {"type": "custom", "name": "query", "description": "Asks the database.", "format": {"type": "text"}}
ways = pytest.mark.parametrize("way", WAYS)
few = pytest.mark.parametrize("way", ["create", "create, streaming", "stream helper"])


@ways
def test_one_execution(belljar: Belljar, way: str) -> None:
    answer = WAYS[way](belljar.url, **ROOT)
    assert [item.type for item in answer.output] == ["reasoning", "code_interpreter_call", "message"]
    assert re.fullmatch(r"resp_[0-9a-f]{24,}", answer.id)
    [call] = items(answer, "code_interpreter_call")
    assert (call.status, call.id[:3], call.container_id[:5]) == ("completed", "ci_", "cntr_")
    assert "math.sqrt(101)" in call.code
    assert logs(answer) == "The square root of 101 is: \n10.04987562112089\n"
    assert "10.04987562112089" in answer.output_text
    assert thoughts(answer) == "Python can do that."
    assert (answer.status, answer.model, answer.object) == ("completed", ROOT["model"], "response")
    assert (answer.error, answer.incomplete_details) == (None, None)
    usage = answer.usage
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens > 0
    assert answer.tools[0].type == "code_interpreter"
    assert (answer.tool_choice, answer.parallel_tool_calls) == ("auto", True)


@few
def test_outputs_are_shown_to_those_who_ask(belljar: Belljar, way: str) -> None:
    answer = WAYS[way](belljar.url, **ROOT | {"include": []})
    [call] = items(answer, "code_interpreter_call")
    assert call.outputs is None
    assert "math.sqrt(101)" in call.code
    assert "10.04987562112089" in answer.output_text


@few
def test_a_plot(belljar: Belljar, way: str) -> None:
    """A data URL of the call, and a file of the container, which the answer cites."""
    answer = WAYS[way](belljar.url, model="test/plot", input="Plot.", tools=[INTERPRETER], include=[OUTPUTS])
    [url] = pictures(answer)
    head, _, data = url.partition(",")
    assert head == "data:image/png;base64"
    picture = base64.b64decode(data)
    assert picture.startswith(PNG)
    assert logs(answer) == "drawn\n"
    assert codes(answer) == [PLOT]
    [cited] = citations(answer)
    assert (cited.start_index, cited.end_index) == (0, 0)
    assert cited.filename == f"{cited.file_id}.png"
    assert cited.container_id == container_of(answer)
    with connect(belljar.url) as client:
        content = client.containers.files.content.retrieve(cited.file_id, container_id=cited.container_id)
    assert content.read() == picture


@few
def test_a_file_that_the_answer_names(belljar: Belljar, way: str) -> None:
    """The guide's way to a file: an annotation of the text, and the container's file behind it."""
    answer = WAYS[way](belljar.url, model="test/leaves", input="Squares, please.", tools=[INTERPRETER])
    [cited] = citations(answer)
    assert (cited.filename, cited.container_id) == ("squares.csv", container_of(answer))
    assert answer.output_text[cited.start_index : cited.end_index] in (
        "sandbox:/mnt/data/squares.csv",
        "[the table](sandbox:/mnt/data/squares.csv)",
    )
    with connect(belljar.url) as client:
        content = client.containers.files.content.retrieve(cited.file_id, container_id=cited.container_id)
        assert content.read() == b"1\n4\n9\n"
        told = client.containers.files.retrieve(cited.file_id, container_id=cited.container_id)
    assert (told.path, told.bytes, told.source) == ("/mnt/data/squares.csv", 6, "assistant")


@few
def test_an_exception(belljar: Belljar, way: str) -> None:
    answer = WAYS[way](belljar.url, **ROOT | {"input": "Please raise an error."})
    assert "ValueError: operands could not be broadcast" in logs(answer)
    assert answer.status == "completed"


@few
def test_the_last_value(belljar: Belljar, way: str) -> None:
    answer = WAYS[way](belljar.url, **ROOT | {"model": VERBATIM, "input": python("[n * n for n in range(4)]")})
    assert logs(answer).strip() == "[0, 1, 4, 9]"


@few
def test_two_executions_share_an_interpreter(belljar: Belljar, way: str) -> None:
    answer = WAYS[way](belljar.url, **ROOT | {"input": "Do it in two steps."})
    assert codes(answer) == ["x = 20\nprint(x)", "print(x + 22)"]
    assert logs(answer) == "20\n42\n"
    assert container_of(answer)
    assert len({item.id for item in answer.output}) == len(answer.output)


@few
def test_two_calls_of_one_turn(belljar: Belljar, way: str) -> None:
    answer = WAYS[way](belljar.url, **ROOT | {"model": "test/twins"})
    assert codes(answer) == ["x = 20; print(x)", "print(x + 22)"]
    assert logs(answer) == "20\n42\n"


@few
def test_words_before_code(belljar: Belljar, way: str) -> None:
    answer = WAYS[way](belljar.url, **ROOT | {"model": "test/talks"})
    kinds = ["reasoning", "message", "code_interpreter_call", "reasoning", "message"]
    assert [item.type for item in answer.output] == kinds
    assert [part.text for item in items(answer, "message") for part in item.content][-1] == "It is 42."


def test_a_container_is_not_needed(belljar: Belljar) -> None:
    """Groq's and Alibaba's examples leave it out; the other paths are theirs, and that of a relay of OpenAI's."""
    for path in ("/v1", "/openai/v1", "/api/openai/v1"):
        answer = WAYS["create"](belljar.url, path, **ROOT | {"tools": [{"type": "code_interpreter"}]})
        assert "10.04987562112089" in logs(answer)


def test_sequence_of_a_run(belljar: Belljar) -> None:
    """The order of the recorded ones, with nothing between."""
    with connect(belljar.url) as client:
        request = ROOT | {"model": VERBATIM, "input": python("print(6 * 7)")}
        events = [event.to_dict() for event in client.responses.create(stream=True, **request)]
    kinds = [event["type"].removeprefix("response.") for event in events]
    told = [kind for place, kind in enumerate(kinds) if kinds[place - 1] != kind]
    assert told == [
        *("created", "in_progress", "output_item.added", "code_interpreter_call.in_progress"),
        *("code_interpreter_call_code.delta", "code_interpreter_call_code.done"),
        *("code_interpreter_call.interpreting", "code_interpreter_call.completed", "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta", "output_text.done", "content_part.done"),
        *("output_item.done", "completed"),
    ]
    added = next(event["item"] for event in events if event["type"] == "response.output_item.added")
    assert (added["status"], added["code"], added["outputs"]) == ("in_progress", "", [])
    done = next(event["item"] for event in events if event["type"] == "response.output_item.done")
    assert done["outputs"] == [{"type": "logs", "logs": "42\n"}]
    assert events[-1]["response"]["output"][0] == done


@pytest.mark.parametrize(("model", "tools"), [("test/talks", [INTERPRETER]), ("test/queries", [QUERY])])
def test_the_judge_of_streams_notices(belljar: Belljar, model: str, tools: Any) -> None:
    """Each event that is missing, doubled or in another's place."""
    with connect(belljar.url) as client:
        stream = client.responses.create(model=model, input="Go on.", tools=tools, stream=True)
        events = [event.to_dict() for event in stream]
    judge(events)
    for at, event in enumerate(events):
        before, after = events[:at], events[at + 1 :]
        for changed in ([*before, *after], [*before, event, event, *after], [*before, *after[:1], event, *after[1:]]):
            if changed == events or (event["type"].endswith(".delta") and changed != [*before, *after]):
                continue
            with pytest.raises((AssertionError, KeyError)):
                judge(changed)


def judge(events: list[dict[str, Any]]) -> None:
    follower = Follower()
    for number, event in enumerate(events):
        follower.take(event | {"sequence_number": number})
    compare(follower, follower.close())


@ways
def test_a_function_of_the_clients(belljar: Belljar, way: str) -> None:
    """It comes between two executions, which share a variable: the container lives while the client works."""
    tools = [INTERPRETER, WEATHER]
    first = WAYS[way](belljar.url, model="test/keeps", input="Compute, ask, compute.", tools=tools)
    assert [item.type for item in first.output] == ["code_interpreter_call", "function_call"]
    [call] = items(first, "function_call")
    assert (call.name, json.loads(call.arguments), call.status) == ("get_weather", {"city": "Tokyo"}, "completed")
    assert first.status == "completed"
    assert call.id.startswith("fc_")
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}
    second = WAYS[way](
        belljar.url, model="test/keeps", input=[result], tools=tools, previous_response_id=first.id, include=[OUTPUTS]
    )
    assert container_of(second) == container_of(first)
    assert logs(second) == "42\n"
    assert second.output_text == "kept 42"
    assert second.previous_response_id == first.id


def test_a_function_without_the_servers_memory(belljar: Belljar) -> None:
    """The items are sent back as they came: the container is known by its name in them."""
    tools = [INTERPRETER, WEATHER]
    question = {"role": "user", "content": "Compute, ask, compute."}
    ask = WAYS["create"]
    first = ask(belljar.url, model="test/keeps", input=[question], tools=tools, store=False)
    history = [question, *(item.to_dict() for item in first.output)]
    result = {"type": "function_call_output", "call_id": first.output[-1].call_id, "output": "sunny"}
    second = ask(belljar.url, model="test/keeps", input=[*history, result], tools=tools, store=False, include=[OUTPUTS])
    assert logs(second) == "42\n"
    assert container_of(second) == container_of(first)


@few
def test_a_custom_tool(belljar: Belljar, way: str) -> None:
    first = WAYS[way](belljar.url, model="test/queries", input="Look it up.", tools=[QUERY])
    [call] = first.output
    assert (call.type, call.name, call.input) == ("custom_tool_call", "query", "SELECT 'a\\b'\nFROM \"t\"")
    result = {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "none"}
    second = WAYS[way](belljar.url, model="test/queries", input=[result], tools=[QUERY], previous_response_id=first.id)
    assert second.output_text == "rows none"


NAMED = {"type": "function", "name": "get_weather"}
CHOICES = [
    ("none", "none", []),
    ("auto", "auto", []),
    ("required", "required", ["code_interpreter_call"]),
    ({"type": "code_interpreter"}, {"type": "code_interpreter"}, ["code_interpreter_call"]),
    (NAMED, NAMED, ["function_call"]),
    (
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "code_interpreter"}]},
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "code_interpreter"}]},
        ["code_interpreter_call"],
    ),
]


@pytest.mark.parametrize(("choice", "told", "called"), CHOICES, ids=str)
def test_tool_choice(belljar: Belljar, choice: Any, told: Any, called: list[str]) -> None:
    with connect(belljar.url) as client:
        answer = client.responses.create(
            model="test/obeys", input="Obey.", tools=[INTERPRETER, WEATHER], tool_choice=choice
        )
    assert [item.type for item in answer.output if item.type != "message"] == called
    assert answer.to_dict()["tool_choice"] == told


def test_at_most_so_many_calls(belljar: Belljar) -> None:
    answer = WAYS["create"](belljar.url, **ROOT | {"input": "Do it in two steps.", "max_tool_calls": 1})
    ran = [item for item in items(answer, "code_interpreter_call") if item.status == "completed"]
    assert len(ran) == 1
    assert answer.max_tool_calls == 1


@pytest.mark.parametrize("way", [way for way in WAYS if way != "stream helper"])  # it knows no incomplete response
def test_cut_short(belljar: Belljar, way: str) -> None:
    answer = WAYS[way](belljar.url, model="test/cut-short", input="Talk.", max_output_tokens=16)
    assert (answer.status, answer.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    assert answer.output_text == "The answer is"
    assert answer.max_output_tokens == 16


class Answered(BaseModel):
    answer: int


def test_parsed(belljar: Belljar) -> None:
    with connect(belljar.url) as client:
        parsed = client.responses.parse(
            model="test/json-after-code", input="Answer.", tools=[INTERPRETER], text_format=Answered
        )
        assert parsed.output_parsed == Answered(answer=42)
        with client.responses.stream(model="test/json", input="Answer.", text_format=Answered) as stream:
            kinds = [event.type for event in stream]
            assert stream.get_final_response().output_parsed == Answered(answer=42)
    assert "response.output_text.done" in kinds


def test_what_the_helper_accumulates(belljar: Belljar) -> None:
    with connect(belljar.url) as client, client.responses.stream(**ROOT) as stream:
        shown = ""
        for event in stream:
            if event.type == "response.output_text.delta":
                shown += event.delta
                assert event.snapshot == shown
        final = stream.get_final_response()
    assert final.output_text == shown
    assert logs(final).endswith("10.04987562112089\n")


def test_what_reaches_the_model(belljar: Belljar) -> None:
    asked: dict[str, Any] = {
        "model": "test/echo",
        "instructions": "Be brief.",
        "input": [
            {"role": "developer", "content": "In English."},
            {"role": "user", "content": [{"type": "input_text", "text": "Hello."}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hi."}]},
            {"role": "user", "content": "Go on."},
        ],
        "temperature": 0.5,
        "top_p": 0.25,
        "max_output_tokens": 50,
        "reasoning": {"effort": "low"},
        "metadata": {"who": "Ann"},
        "user": "ann",
    }
    with connect(belljar.url) as client:
        answer = client.responses.create(**asked)
    sent = json.loads(answer.output_text)
    texts = [message["content"] for message in sent["messages"]]
    assert "Be brief." in texts[0]
    assert texts[-3:] == ["Hello.", "Hi.", "Go on."]
    assert (sent["temperature"], sent["top_p"], sent["reasoning_effort"]) == (0.5, 0.25, "low")
    assert (answer.instructions, answer.temperature, answer.metadata) == ("Be brief.", 0.5, {"who": "Ann"})
    assert answer.reasoning.effort == "low"


def test_files_in_the_request(belljar: Belljar) -> None:
    data = base64.b64encode(b"20\n22\n").decode()
    file = {"type": "input_file", "filename": "numbers.csv", "file_data": f"data:text/csv;base64,{data}"}
    code = {"type": "input_text", "text": python("print(sum(map(int, open('numbers.csv'))))")}
    asked = {"model": VERBATIM, "input": [{"role": "user", "content": [file, code]}]}
    answer = WAYS["create"](belljar.url, **asked, tools=[INTERPRETER], include=[OUTPUTS])
    assert logs(answer) == "42\n"


@few
def test_usage_of_reasoning(belljar: Belljar, way: str) -> None:
    usage = WAYS[way](belljar.url, model="test/thinks", input="x").usage
    assert (usage.output_tokens_details.reasoning_tokens, usage.input_tokens_details.cached_tokens) == (3, 2)


async def test_the_helper_asynchronously(belljar: Belljar) -> None:
    async with connect_async(belljar.url) as client, client.responses.stream(**ROOT) as stream:
        final = await stream.get_final_response()
    assert "10.04987562112089" in final.output_text


FAILURES: list[tuple[dict[str, Any], type[openai.APIStatusError], str | None, str | None]] = [
    ({"model": "no/such-model"}, openai.NotFoundError, "model_not_found", "model"),
    ({"input": 7}, openai.BadRequestError, None, "input"),
    ({"tools": [{"type": "teleport"}]}, openai.BadRequestError, None, "tools[0].type"),
    ({"tools": [{"type": "web_search"}]}, openai.BadRequestError, None, None),
    ({"previous_response_id": "resp_none"}, openai.BadRequestError, "previous_response_not_found", None),
    ({"background": True, "store": False}, openai.BadRequestError, None, None),
    ({"model": "test/status-429"}, openai.RateLimitError, None, None),
    ({"model": "test/status-503"}, openai.InternalServerError, None, None),
    ({"tools": [INTERPRETER | {"container": "cntr_none"}]}, openai.NotFoundError, None, None),
]


@pytest.mark.parametrize(("fields", "kind", "code", "param"), FAILURES, ids=lambda value: str(value)[:40])
def test_errors(
    belljar: Belljar, fields: dict[str, Any], kind: type[openai.APIStatusError], code: str | None, param: str | None
) -> None:
    for stream in (False, True):
        with connect(belljar.url) as client, pytest.raises(kind) as caught:
            client.responses.create(**{"model": "test/thinks", "input": "x"} | fields, stream=stream)
        body = caught.value.body
        assert isinstance(body, dict)
        assert body.keys() == {"message", "type", "param", "code"}
        assert code in (None, caught.value.code)
        assert param in (None, caught.value.param)


@pytest.mark.parametrize("model", ["test/breaks", "test/cut"])
def test_an_error_in_mid_stream(belljar: Belljar, model: str) -> None:
    """The vendor's way: a response that has failed, with what there was of it."""
    with connect(belljar.url) as client:
        failed = follow(client.responses.create(model=model, input="x", stream=True))
        assert (failed.status, failed.error.code) == ("failed", "server_error")
        assert failed.error.message
        kept = client.responses.retrieve(failed.id)
    assert (kept.status, kept.error.message) == ("failed", failed.error.message)


def test_a_wrong_key(belljar: Belljar) -> None:
    url = belljar.listen(api_key=("right",))
    with connect(url, "wrong") as client, pytest.raises(openai.AuthenticationError) as caught:
        client.responses.create(model="test/thinks", input="x")
    assert caught.value.code == "invalid_api_key"
    with connect(url, "right") as client:
        assert client.responses.create(model="test/thinks", input="x").output_text == "Thought."


def test_a_client_that_goes_away(belljar: Belljar) -> None:
    with connect(belljar.url) as client:
        stream = client.responses.create(model="test/long", input="Talk.", stream=True)
        next(event for event in stream if event.type == "response.output_text.delta")
        stream.close()
    belljar.until(lambda: belljar.upstream.playing == 0)


def test_heartbeats(impatient: str) -> None:
    request = ROOT | {"model": VERBATIM, "input": python("import time\ntime.sleep(0.2)\nprint('awake')")}
    for way in ("create", "create, streaming"):
        assert logs(WAYS[way](impatient, **request)) == "awake\n"
