"""Gemini's generateContent, judged by google-genai, unchanged, in each of its modes."""

from __future__ import annotations

import json
import struct
from typing import Any

import httpx
import pytest
from google import genai
from google.genai import errors, types
from pydantic import BaseModel

from sdks.gemini import AIOHTTP, MODES, TOOL, WAYS, ask, client, gathered, run
from sdks.script import STATUSES
from servers import Belljar

WEATHER = types.FunctionDeclaration(
    name="get_weather",
    description="The weather in a city",
    parameters=types.Schema(
        type=types.Type.OBJECT, properties={"city": types.Schema(type=types.Type.STRING)}, required=["city"]
    ),
)
THOUGHTS = types.ThinkingConfig(include_thoughts=True)
ways = pytest.mark.parametrize("way", WAYS)

pytestmark = pytest.mark.filterwarnings(AIOHTTP)


# --- code -------------------------------------------------------------------------------------------------------------


@ways
@pytest.mark.parametrize("mode", MODES)
def test_code_execution(belljar: Belljar, mode: str, way: str) -> None:
    seen = ask(belljar.url, way, "test/talks", mode=mode, tools=[TOOL], temperature=0)
    assert seen.codes == ["6 * 7"]
    [result] = seen.results
    assert (result.outcome, result.output) == (types.Outcome.OUTCOME_OK, "42\n")
    assert result.id
    assert seen.text == "Let me compute.\n\nIt is 42."
    assert seen.thoughts == ""
    assert seen.finish == "STOP"
    usage = seen.usage
    assert usage is not None
    assert (usage.prompt_token_count, usage.tool_use_prompt_token_count, usage.total_token_count) == (11, 11, 36)


def test_what_the_guides_read(belljar: Belljar) -> None:
    with client(belljar.url) as sdk:
        config = types.GenerateContentConfig(tools=[TOOL])
        response = sdk.models.generate_content(model="test/talks", contents="Go on.", config=config)
    assert response.executable_code == "6 * 7"
    assert response.code_execution_result == "42\n"
    assert response.text == "Let me compute.\n\nIt is 42."
    assert response.response_id
    assert response.response_id.startswith("req_")
    assert response.model_version == "test/talks"


@ways
def test_thoughts(belljar: Belljar, way: str) -> None:
    seen = ask(belljar.url, way, "test/talks", tools=[TOOL], thinking_config=THOUGHTS)
    assert seen.thoughts == "Hm.\n\nSo."
    assert seen.text == "Let me compute.\n\nIt is 42."
    [code] = [part for part in seen.parts if part.executable_code]
    assert code.thought_signature


@ways
def test_two_executions_of_one_turn(belljar: Belljar, way: str) -> None:
    seen = ask(belljar.url, way, "test/twins", tools=[TOOL])
    assert [result.output for result in seen.results] == ["20\n", "42\n"]
    assert [part.executable_code.id for part in seen.parts if part.executable_code] == [r.id for r in seen.results]
    assert seen.text == "20 and 42"


@ways
def test_a_plot(belljar: Belljar, way: str) -> None:
    seen = ask(belljar.url, way, "test/plot", tools=[TOOL])
    [picture] = seen.pictures
    assert picture.mime_type == "image/png"
    assert picture.data is not None
    width, height = struct.unpack(">II", picture.data[16:24])
    assert 100 < width < 600
    assert 50 < height < 400
    kinds = [next(name for name in ("executable_code", "code_execution_result", "inline_data", "text")
                  if getattr(part, name)) for part in seen.parts if part.text != ""]  # fmt: skip
    assert kinds[:3] == ["executable_code", "code_execution_result", "inline_data"]


FAILURES = [
    ("1 / 0", "OUTCOME_FAILED", "ZeroDivisionError: division by zero"),
    ("print('first')\nundefined", "OUTCOME_FAILED", "NameError"),
    ("import os\nos._exit(3)", "OUTCOME_FAILED", ""),
]


@pytest.mark.parametrize(("code", "outcome", "words"), FAILURES)
@pytest.mark.parametrize("way", ["whole", "stream"])
def test_failures_of_code(belljar: Belljar, way: str, code: str, outcome: str, words: str) -> None:
    [result] = run(belljar.url, way, code).results
    assert result.outcome is not None
    assert result.outcome.name == outcome
    assert result.output
    assert words in result.output


FILES = [
    (b"name,points\nAnn,3\nBob,4\n", "text/csv", ".csv"),
    (b"<a>1</a>", "text/xml", ".xml"),
    (b"let a = 1", "text/javascript", ".js"),
    (b"int main() {}", "text/x-c++src", ".cpp"),
    (b"\x89PNG\r\n\x1a\n", "image/png", ".png"),
]


@pytest.mark.parametrize(("data", "kind", "ending"), FILES, ids=[case[2] for case in FILES])
def test_files_in(belljar: Belljar, data: bytes, kind: str, ending: str) -> None:
    code = "import pathlib\n[file] = pathlib.Path('/mnt/data').iterdir()\nprint(file.suffix, file.read_bytes())"
    [result] = run(belljar.url, "whole", code, types.Part.from_bytes(data=data, mime_type=kind)).results
    assert result.output == f"{ending} {data!r}\n"


# --- conversations ----------------------------------------------------------------------------------------------------


def roles(belljar: Belljar) -> list[str]:
    """Of the last request that the model was sent."""
    return [message["role"] for message in belljar.upstream.turns[-1]["messages"] if message["role"] != "system"]


def test_a_chat(belljar: Belljar) -> None:
    with client(belljar.url) as sdk:
        chat = sdk.chats.create(model="test/talks", config=types.GenerateContentConfig(tools=[TOOL]))
        first = chat.send_message("Compute.")
        second = chat.send_message("Again.")
    assert first.text == second.text == "Let me compute.\n\nIt is 42."
    assert roles(belljar) == ["user", "assistant", "tool", "assistant", "user", "assistant", "tool"]
    sent = [message for message in belljar.upstream.turns[-1]["messages"] if message["role"] != "system"]
    [call] = sent[1]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == {"code": "6 * 7"}
    assert sent[2] == {"role": "tool", "tool_call_id": call["id"], "content": "42"}


def test_a_chat_of_streams(belljar: Belljar) -> None:
    with client(belljar.url) as sdk:
        chat = sdk.chats.create(model="test/talks", config=types.GenerateContentConfig(tools=[TOOL]))
        for question in ("Compute.", "Again."):
            seen = gathered(chat.send_message_stream(question))
            assert seen.text == "Let me compute.\n\nIt is 42."
    assert roles(belljar) == ["user", "assistant", "tool", "assistant", "user", "assistant", "tool"]
    assert belljar.upstream.turns[-1]["messages"][-4]["content"].endswith("It is 42.")


async def test_a_chat_of_coroutines(belljar: Belljar) -> None:
    async with client(belljar.url).aio as sdk:
        chat = sdk.chats.create(model="test/plot", config=types.GenerateContentConfig(tools=[TOOL]))
        await chat.send_message("Plot.")
        seen = gathered([chunk async for chunk in await chat.send_message_stream("Again.")])
    assert len(seen.pictures) == 1
    assert roles(belljar)[:4] == ["user", "assistant", "tool", "assistant"]


@ways
def test_a_function_beside_code(belljar: Belljar, way: str) -> None:
    tools = [TOOL, types.Tool(function_declarations=[WEATHER])]
    seen = ask(belljar.url, way, "test/mixes", tools=tools)
    assert [result.output for result in seen.results] == ["42\n"]
    [call] = seen.calls
    assert (call.name, call.args) == ("get_weather", {"city": "Tokyo"})
    assert call.id
    response = types.Part.from_function_response(name="get_weather", response={"output": "sunny"})
    contents = [
        types.Content(role="user", parts=[types.Part(text="Go on.")]),
        types.Content(role="model", parts=seen.parts),
        types.Content(role="user", parts=[response]),
    ]
    seen = ask(belljar.url, way, "test/mixes", contents, tools=tools)
    assert seen.text == 'computed 42, weather {"output":"sunny"}'


@pytest.mark.parametrize("stream", [False, True])
def test_functions_that_the_sdk_calls_itself(belljar: Belljar, stream: bool) -> None:
    def get_weather(city: str) -> str:
        """The weather in a city."""
        return f"sunny in {city}"

    with client(belljar.url) as sdk:
        config = types.GenerateContentConfig(tools=[get_weather])
        request: dict[str, Any] = {"model": "test/weather", "contents": "The weather?", "config": config}
        if stream:
            text = "".join(chunk.text or "" for chunk in sdk.models.generate_content_stream(**request))
        else:
            text = sdk.models.generate_content(**request).text or ""
    assert text.endswith('weather {"result":"sunny in Tokyo"}')


def test_which_functions_may_be_called(belljar: Belljar) -> None:
    calling = types.FunctionCallingConfig(
        mode=types.FunctionCallingConfigMode.ANY, allowed_function_names=["get_weather"]
    )
    config = types.ToolConfig(function_calling_config=calling)
    tools = [types.Tool(function_declarations=[WEATHER])]
    seen = ask(belljar.url, "whole", "test/weather", tools=tools, tool_config=config)
    assert [call.name for call in seen.calls] == ["get_weather"]
    sent = belljar.upstream.turns[-1]
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "get_weather"}}
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    assert sent["tools"][0]["function"]["parameters"] == schema


class Wanted(BaseModel):
    """What is asked for."""

    answer: int


@ways
def test_json_by_a_schema(belljar: Belljar, way: str) -> None:
    for model, tools in (("test/json", None), ("test/json-after-code", [TOOL])):
        config = {"response_mime_type": "application/json", "response_schema": Wanted, "tools": tools}
        seen = ask(belljar.url, way, model, **config)
        assert json.loads(seen.text) == {"answer": 42}


def test_json_is_parsed(belljar: Belljar) -> None:
    with client(belljar.url) as sdk:
        config = types.GenerateContentConfig(response_mime_type="application/json", response_schema=Wanted)
        response = sdk.models.generate_content(model="test/json", contents="Go on.", config=config)
    assert response.parsed == Wanted(answer=42)


def test_settings_reach_the_model(belljar: Belljar) -> None:
    ask(
        *(belljar.url, "whole", "test/echo"),
        system_instruction="Be brief.",
        temperature=0.5,
        top_p=0.25,
        top_k=7,
        max_output_tokens=100,
        stop_sequences=["END"],
        seed=4,
        presence_penalty=1.0,
        frequency_penalty=-1.0,
        thinking_config=types.ThinkingConfig(thinking_budget=100),
        safety_settings=[
            types.SafetySetting(
                category=types.HarmCategory.HARM_CATEGORY_HATE_SPEECH,
                threshold=types.HarmBlockThreshold.BLOCK_NONE,
            )
        ],
    )
    sent = belljar.upstream.turns[-1]
    assert sent["messages"][0] == {"role": "system", "content": "Be brief."}
    expected = {"temperature": 0.5, "top_p": 0.25, "top_k": 7, "max_tokens": 100, "stop": ["END"], "seed": 4,
                "presence_penalty": 1.0, "frequency_penalty": -1.0, "reasoning_effort": "low"}  # fmt: skip
    assert {name: sent.get(name) for name in expected} == expected


@ways
def test_the_limit_of_tokens(belljar: Belljar, way: str) -> None:
    seen = ask(belljar.url, way, "test/cut-short")
    assert (seen.text, seen.finish) == ("The answer is", "MAX_TOKENS")


# --- counts and models ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_counts_and_models(belljar: Belljar, mode: str) -> None:
    with client(belljar.url, mode) as sdk:
        assert sdk.models.count_tokens(model="test/talks", contents="Hello.").total_tokens == 11
        names = [model.name for model in sdk.models.list()]
        assert "models/openai/gpt-oss-20b" in names
        names = [model.name for model in [sdk.models.get(model="llama-3.3-70b-versatile")]]
        assert names == ["models/llama-3.3-70b-versatile"]


@pytest.mark.parametrize("mode", MODES)
def test_names_with_slashes(belljar: Belljar, mode: str) -> None:
    seen = ask(belljar.url, "whole", "openai/gpt-oss-20b", "What is the square root of 12345?", mode, tools=[TOOL])
    assert seen.text == "111.1080555135405"


# --- errors -----------------------------------------------------------------------------------------------------------

BAD: list[tuple[str, dict[str, Any], int, str, str]] = [
    ("unknown model", {"model": "no-such-model"}, 404, "NOT_FOUND", "no-such-model"),
    ("a hot temperature", {"temperature": 3}, 400, "INVALID_ARGUMENT", "generationConfig.temperature"),
    ("two candidates", {"candidate_count": 2}, 400, "INVALID_ARGUMENT", "candidateCount"),
    ("search", {"tools": [types.Tool(google_search=types.GoogleSearch())]}, 400, "INVALID_ARGUMENT", "googleSearch"),
    ("a cache", {"cached_content": "cachedContents/1"}, 400, "INVALID_ARGUMENT", "cachedContent"),
    ("no call", {"model": "test/stubborn", "tools": [types.Tool(function_declarations=[WEATHER])],
                 "tool_config": {"function_calling_config": {"mode": "ANY"}}}, 400, "INVALID_ARGUMENT", "did not call"),
]  # fmt: skip


@ways
@pytest.mark.parametrize("case", BAD, ids=[case[0] for case in BAD])
def test_errors_of_the_client(belljar: Belljar, way: str, case: tuple[str, dict[str, Any], int, str, str]) -> None:
    _, config, code, status, words = case
    with pytest.raises(errors.ClientError) as caught:
        ask(belljar.url, way, **{"model": "test/thinks"} | config)
    assert (caught.value.code, caught.value.status) == (code, status)
    assert words in (caught.value.message or "")


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("way", ["whole", "stream"])
def test_errors_of_the_upstream(belljar: Belljar, way: str, status: int) -> None:
    expected = status if status not in (401, 500) else 502  # its own failure, or a key that is not the client's
    with pytest.raises(errors.ClientError if expected < 500 else errors.ServerError) as caught:
        ask(belljar.url, way, f"test/status-{status}")
    assert caught.value.code == expected


@pytest.mark.parametrize("way", ["stream", "async stream"])
@pytest.mark.parametrize("model", ["test/breaks", "test/cut"])
def test_errors_in_mid_stream(belljar: Belljar, way: str, model: str) -> None:
    with pytest.raises(errors.ServerError) as caught:
        ask(belljar.url, way, model)
    assert caught.value.code == 502
    assert caught.value.status == "UNAVAILABLE"


def test_what_came_before_an_error(belljar: Belljar) -> None:
    with client(belljar.url) as sdk:
        stream = sdk.models.generate_content_stream(model="test/breaks", contents="Go on.")
        assert (next(stream).text or "").startswith("Half")
        with pytest.raises(errors.ServerError):
            list(stream)


def test_keys(belljar: Belljar) -> None:
    url = belljar.listen(api_key=("any-key", "right"))
    path = f"{url}/v1beta/models/test/thinks:generateContent"
    body = {"contents": {"parts": {"text": "Hello."}}}
    sent: list[tuple[dict[str, str], dict[str, str], int]] = [
        ({"x-goog-api-key": "right"}, {}, 200),
        ({}, {"key": "right"}, 200),
        ({"authorization": "Bearer right"}, {}, 200),
        ({"x-goog-api-key": "wrong"}, {}, 401),
        ({}, {}, 401),
    ]
    with httpx.Client() as http:
        for headers, query, status in sent:
            response = http.post(path, json=body, headers=headers, params=query)
            assert response.status_code == status
            if status == 401:
                assert response.json()["error"]["status"] == "UNAUTHENTICATED"


# --- paths, arrays, patience ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["v1", "v1beta", "v1beta1", "v1alpha"])
def test_versions(belljar: Belljar, version: str) -> None:
    with client(belljar.url, api_version=version) as sdk:
        assert sdk.models.generate_content(model="test/thinks", contents="Hello.").text == "Thought."
        assert sdk.models.get(model="test/thinks").name == "models/test/thinks"


def test_a_base_url_that_is_a_collection(belljar: Belljar) -> None:
    scope = types.ResourceScope.COLLECTION
    options = types.HttpOptions(base_url=f"{belljar.url}/v1beta1", base_url_resource_scope=scope)
    with genai.Client(vertexai=True, http_options=options) as sdk:
        assert sdk.models.generate_content(model="llama-3.3-70b-versatile", contents="Hello.").text


def test_a_path_that_two_dialects_serve(belljar: Belljar) -> None:
    with httpx.Client() as http:
        plain = http.get(f"{belljar.url}/v1/models").json()
        for headers, query in (({"x-goog-api-key": "k"}, {}), ({}, {"key": "k"})):
            ours = http.get(f"{belljar.url}/v1/models", headers=headers, params=query).json()
            assert ours["models"][0]["name"].startswith("models/")
            assert "data" not in ours
    assert plain["object"] == "list"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v1beta/models/test/thinks:sing", 405),
        ("GET", "/v1beta/nothing", 404),
        ("POST", "/v1/projects/p/nothing", 404),
        ("GET", "/v1beta/models/no-such-model", 404),
        ("GET", "/v1beta/models/test/thinks:generateContent", 404),
    ],
)
def test_errors_of_paths(belljar: Belljar, method: str, path: str, status: int) -> None:
    with httpx.Client() as http:
        response = http.request(method, belljar.url + path)
    assert response.status_code == status
    assert response.json()["error"]["code"] == status


def test_an_array_without_sse(belljar: Belljar) -> None:
    body = {"contents": [{"parts": [{"text": "Go on."}]}], "tools": [{"code_execution": {}}]}
    url = f"{belljar.url}/v1beta/models/test/talks:streamGenerateContent"
    with httpx.Client() as http:
        response = http.post(url, json=body)
        assert response.headers["content-type"].startswith("application/json")
        chunks = response.json()
        parts = [part for chunk in chunks for part in chunk["candidates"][0]["content"]["parts"]]
        assert "".join(part.get("text", "") for part in parts) == "Let me compute.\n\nIt is 42."
        refused = http.post(url, json={"contents": []})
        broken = http.post(url.replace("talks", "breaks"), json=body).json()
    assert refused.status_code == 400
    assert broken[0]["candidates"]
    assert broken[-1]["error"]["status"] == "UNAVAILABLE"


SLOW = "import time\ntime.sleep(0.35)\nprint('awake')"


@ways
def test_heartbeats(impatient: str, way: str) -> None:
    seen = run(impatient, way, SLOW)
    assert [result.output for result in seen.results] == ["awake\n"]


def test_heartbeats_of_an_array(impatient: str) -> None:
    body = {"contents": [{"parts": [{"text": f"```python\n{SLOW}\n```"}]}], "tools": [{"codeExecution": {}}]}
    with httpx.Client() as http:
        response = http.post(f"{impatient}/v1/models/belljar/verbatim:streamGenerateContent", json=body)
    assert response.content.count(b"\n\n") >= 3
    results = [part["codeExecutionResult"]["output"] for chunk in response.json()
               for part in chunk["candidates"][0]["content"]["parts"] if "codeExecutionResult" in part]  # fmt: skip
    assert results == ["awake\n"]
