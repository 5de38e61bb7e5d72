"""What chat completions can be asked for, judged by the official SDKs `groq` and `openai`, unchanged."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from pydantic import BaseModel

from sdks.ways import (
    GROQ_WAYS,
    INTERPRETER,
    SDK_WAYS,
    VERBATIM,
    WEATHER,
    ask,
    gathered,
    groq_client,
    openai_client,
    texts,
    user,
    whole,
)
from servers import Belljar

# --- functions of the client's own ------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", SDK_WAYS)
def test_own_function_beside_the_interpreter(belljar: Belljar, way: str) -> None:
    seen = ask(belljar.url, way, "test/mixes", "Compute, then ask.", tools=[INTERPRETER, WEATHER])
    assert seen.finish == "tool_calls"
    [tool] = seen.tools.values()
    assert texts(tool) == "42"
    [call] = seen.calls.values()
    assert call["id"]
    assert call["name"] == "get_weather"
    assert json.loads(call["arguments"]) == {"city": "Tokyo"}


@pytest.mark.parametrize("sdk", ["groq", "openai"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_round_trip_with_the_history_sent_back(belljar: Belljar, sdk: str, stream: bool) -> None:
    tools = [INTERPRETER, WEATHER]
    messages: list[Any] = user("Compute, then ask.")
    with groq_client(belljar.url) if sdk == "groq" else openai_client(belljar.url) as client:
        create = client.chat.completions.create
        message = create(model="test/mixes", messages=messages, tools=tools).choices[0].message
        assert message.executed_tools
        assert message.reasoning == "Compute first."
        assert message.content is None
        messages.append(message)  # as the SDK made it: with executed_tools and reasoning
        messages.append({"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"})
        if stream:
            seen = gathered(create(model="test/mixes", messages=messages, tools=tools, stream=True))
        else:
            seen = whole(create(model="test/mixes", messages=messages, tools=tools))
    assert seen.content == "computed 42, weather sunny"
    assert seen.finish == "stop"
    sent = belljar.upstream.turns[-1]["messages"]
    assert [message["role"] for message in sent if message["role"] != "system"][-1] == "tool"
    assert sum(message["role"] == "tool" for message in sent) == 2


def test_answer_of_a_compound_system_sent_back(belljar: Belljar) -> None:
    messages: list[Any] = user("Calculate the square root of 101")
    with groq_client(belljar.url) as client:
        message = client.chat.completions.create(model="groq/compound", messages=messages).choices[0].message
        messages += [message.to_dict(), *user("And what is the weather?")]
        seen = whole(client.chat.completions.create(model="groq/compound", messages=messages))
    assert seen.content == "I have no access to current weather."
    assert "10.04987562112089" in json.dumps(belljar.upstream.turns[-1]["messages"][:-1])


@pytest.mark.parametrize("way", SDK_WAYS)
def test_function_alone(belljar: Belljar, way: str) -> None:
    seen = ask(belljar.url, way, "test/weather", tools=[WEATHER], tool_choice="auto", parallel_tool_calls=False)
    assert seen.finish == "tool_calls"
    assert seen.content == "Let me look."
    assert [call["name"] for call in seen.calls.values()] == ["get_weather"]


# --- tool_choice ------------------------------------------------------------------------------------------------------

CHOICES: list[tuple[str, Any, list[Any], str, bool]] = [  # model, choice, tools, content, whether code ran
    ("openai/gpt-oss-20b", "auto", [INTERPRETER], "111.1080555135405", True),
    ("openai/gpt-oss-20b", "required", [INTERPRETER], "111.1080555135405", True),
    ("openai/gpt-oss-20b", "none", [INTERPRETER], "(nothing ran)", False),
    ("openai/gpt-oss-20b", INTERPRETER, [INTERPRETER], "111.1080555135405", True),
    ("test/weather", "required", [WEATHER], "Let me look.", False),
    ("test/weather", {"type": "function", "function": {"name": "get_weather"}}, [WEATHER], "Let me look.", False),
    (
        "test/weather",
        {"type": "function", "function": {"name": "get_weather"}},
        [INTERPRETER, WEATHER],
        "Let me look.",
        False,
    ),
    ("test/weather", "none", [WEATHER], "no weather", False),
]


@pytest.mark.parametrize(("model", "choice", "tools", "content", "ran"), CHOICES)
@pytest.mark.parametrize("way", ["groq", "groq, streaming"])
def test_tool_choice(
    belljar: Belljar, way: str, model: str, choice: Any, tools: list[Any], content: str, ran: bool
) -> None:
    seen = ask(belljar.url, way, model, "The square root of 12345?", tools=tools, tool_choice=choice)
    assert seen.content == content
    assert bool(seen.tools) == ran


# --- formats ----------------------------------------------------------------------------------------------------------

SCHEMA = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}
FORMATS = [
    {"type": "text"},
    {"type": "json_object"},
    {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": False}},
]


@pytest.mark.parametrize("response_format", FORMATS, ids=[format["type"] for format in FORMATS])
@pytest.mark.parametrize("way", SDK_WAYS)
def test_response_format(belljar: Belljar, way: str, response_format: dict[str, Any]) -> None:
    seen = ask(belljar.url, way, "test/json", "Answer in JSON.", response_format=response_format)
    assert json.loads(seen.content) == {"answer": 42}


@pytest.mark.parametrize("response_format", FORMATS[1:], ids=["object", "schema"])
@pytest.mark.parametrize("way", ["groq", "groq, streaming"])
def test_response_format_after_code(belljar: Belljar, way: str, response_format: dict[str, Any]) -> None:
    tools = [INTERPRETER]
    seen = ask(belljar.url, way, "test/json-after-code", "In JSON.", tools=tools, response_format=response_format)
    assert json.loads(seen.content) == {"answer": 42}
    assert texts(seen.tools[0]) == "42"


def test_parsed_by_the_openai_sdk(belljar: Belljar) -> None:
    class Answer(BaseModel):
        answer: int

    with openai_client(belljar.url) as client:
        completion = client.chat.completions.parse(
            model="test/json", messages=user("Answer in JSON."), response_format=Answer
        )
    assert completion.choices[0].message.parsed == Answer(answer=42)


# --- what is passed on ------------------------------------------------------------------------------------------------

OPTIONS = {
    "temperature": 0.5,
    "top_p": 0.9,
    "seed": 7,
    "stop": ["END"],
    "frequency_penalty": 0.1,
    "presence_penalty": 0.2,
    "logit_bias": {"5": 1},
    "user": "ann",
    "reasoning_effort": "low",
}


@pytest.mark.parametrize("client_of", [groq_client, openai_client])
def test_options_reach_the_upstream(belljar: Belljar, client_of: Any) -> None:
    with client_of(belljar.url) as client:
        completion = client.chat.completions.create(
            model="test/echo", messages=user("Hello."), max_completion_tokens=100, extra_body={"top_k": 5}, **OPTIONS
        )
    told = json.loads(completion.choices[0].message.content)
    assert told | OPTIONS | {"top_k": 5} == told
    assert 100 in (told.get("max_completion_tokens"), told.get("max_tokens"))  # under the name that the engine knows
    assert told["messages"] == user("Hello.")


# --- reasoning --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "content", "reasoning"),
    [
        ({}, "Thought.", "Let me think."),
        ({"reasoning_format": "parsed"}, "Thought.", "Let me think."),
        ({"reasoning_format": "hidden"}, "Thought.", ""),
        ({"include_reasoning": False}, "Thought.", ""),
        ({"include_reasoning": True}, "Thought.", "Let me think."),
        ({"reasoning_effort": "low"}, "Thought.", "Let me think."),
    ],
)
@pytest.mark.parametrize("way", GROQ_WAYS)
def test_reasoning(belljar: Belljar, way: str, options: dict[str, Any], content: str, reasoning: str) -> None:
    seen = ask(belljar.url, way, "test/thinks", **options)
    assert (seen.content, seen.reasoning) == (content, reasoning)


@pytest.mark.parametrize("way", GROQ_WAYS)
def test_raw_reasoning(belljar: Belljar, way: str) -> None:
    seen = ask(belljar.url, way, "test/thinks", reasoning_format="raw")
    assert seen.reasoning == ""
    assert seen.content.startswith("<think>")
    assert "Let me think." in seen.content
    assert seen.content.endswith("Thought.")
    assert "</think>" in seen.content


# --- what it cost, and who answered -----------------------------------------------------------------------------------


@pytest.mark.parametrize("way", GROQ_WAYS)
def test_usage_is_summed_over_turns(belljar: Belljar, way: str) -> None:
    seen = ask(belljar.url, way, "openai/gpt-oss-20b", "The square root of 12345?", tools=[INTERPRETER])
    counted = {name: seen.usage[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    assert counted == {"prompt_tokens": 22, "completion_tokens": 14, "total_tokens": 36}
    assert 0 < seen.usage["total_time"] < 30
    assert 0 <= seen.usage["queue_time"] < 30
    assert seen.x_groq["id"].startswith("req_")


@pytest.mark.parametrize("way", GROQ_WAYS)
def test_usage_details(belljar: Belljar, way: str) -> None:
    seen = ask(belljar.url, way, "test/thinks")
    assert seen.usage["completion_tokens_details"] == {"reasoning_tokens": 3}
    assert seen.usage["prompt_tokens_details"] == {"cached_tokens": 2}


def test_usage_in_the_last_chunk_of_an_openai_stream(belljar: Belljar) -> None:
    with openai_client(belljar.url) as client:
        chunks = list(
            client.chat.completions.create(
                model="test/thinks", messages=user("Think."), stream=True, stream_options={"include_usage": True}
            )
        )
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == 18
    assert all(chunk.usage is None for chunk in chunks[:-1])


def test_stream_helper_of_the_openai_sdk(belljar: Belljar) -> None:
    with (
        openai_client(belljar.url) as client,
        client.chat.completions.stream(model="test/thinks", messages=user("Think.")) as stream,
    ):
        kinds = {event.type for event in stream}
        assert stream.get_final_completion().choices[0].message.content == "Thought."
    assert {"chunk", "content.delta", "content.done"} <= kinds


def test_request_id_in_the_headers(belljar: Belljar) -> None:
    with groq_client(belljar.url) as client:
        raw = client.chat.completions.with_raw_response.create(model="test/thinks", messages=user("Think."))
        assert raw.headers["x-request-id"] == raw.parse().x_groq.id
        with client.chat.completions.with_streaming_response.create(
            model="test/thinks", messages=user("Think."), stream=True
        ) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            assert response.headers["cache-control"] == "no-cache"
            assert response.headers["x-request-id"].startswith("req_")
    with openai_client(belljar.url) as client:
        completion = client.chat.completions.create(model="test/thinks", messages=user("Think."))
        assert completion._request_id.startswith("req_")


# --- models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client_of", [groq_client, openai_client])
def test_models(belljar: Belljar, client_of: Any) -> None:
    with client_of(belljar.url) as client:
        models = {model.id: model for model in client.models.list().data}
        assert {"openai/gpt-oss-20b", "groq/compound", "groq/compound-mini", VERBATIM} <= set(models)
        for name in ("openai/gpt-oss-20b", "groq/compound", VERBATIM):
            model = client.models.retrieve(name)
            assert (model.id, model.object) == (name, "model")
            assert isinstance(model.created, int)
            assert model.owned_by


# --- compound's own options -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", GROQ_WAYS)
def test_compound_with_chosen_models(belljar: Belljar, way: str) -> None:
    models = {"reasoning_model": "openai/gpt-oss-20b", "answering_model": "test/stubborn"}
    custom = {"models": models, "tools": {"enabled_tools": ["code_interpreter"]}}
    seen = ask(belljar.url, way, "groq/compound", "Calculate the square root of 101", compound_custom=custom)
    assert seen.content == "I would rather not."
    assert len(seen.tools) == 1
    assert {entry["model"] for entry in seen.breakdown["models"]} == set(models.values())


# --- files ------------------------------------------------------------------------------------------------------------

CSV = "city,sales\nTokyo,3\nOslo,4\n"
READ = "```python\nimport glob\nfor name in sorted(glob.glob('/mnt/data/*')):\n    print(open(name).read())\n```"


def data_url(text: str, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(text.encode()).decode()}"


@pytest.mark.parametrize(
    "part",
    [
        {"type": "document", "document": {"data": {"csv": CSV}, "id": "sales"}},
        {"type": "file", "file": {"filename": "sales.csv", "file_data": data_url(CSV, "text/csv")}},
    ],
    ids=["document", "file"],
)
@pytest.mark.parametrize("way", ["groq", "openai", "openai, streaming"])
def test_files_reach_the_sandbox(belljar: Belljar, way: str, part: dict[str, Any]) -> None:
    seen = ask(belljar.url, way, VERBATIM, [part, {"type": "text", "text": READ}], tools=[INTERPRETER])
    [tool] = seen.tools.values()
    assert "Tokyo,3" in texts(tool)


def test_picture_reaches_model_and_sandbox(belljar: Belljar) -> None:
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{pixel}"}}
    code = "```python\nimport glob\nfor n in glob.glob('/mnt/data/*'):\n    print(n, open(n, 'rb').read(4))\n```"
    seen = ask(belljar.url, "groq", VERBATIM, [part, {"type": "text", "text": code}], tools=[INTERPRETER])
    [tool] = seen.tools.values()
    assert ".png" in texts(tool)
    assert "b'\\x89PNG'" in texts(tool)
