"""A thousand valid requests, each made wrong in some way, over real connections.

Every answer is a success or an error of the vendor's shape, never a 500, and the server answers on.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
from typing import Any
from urllib.parse import urlsplit

import pytest

from sdks.mutants import mutate
from sdks.ways import groq_client
from servers import Belljar

REQUESTS = 1000
SEED = 20_250_823
SECONDS = 10.0
PATHS = ("/openai/v1/chat/completions", "/v1/chat/completions")
OURS = {502, 503, 504}  # answers that may be the upstream's fault, or the host's; 500 never is

WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "x", "parameters": {"type": "object", "properties": {}}},
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
VALID: list[dict[str, Any]] = [
    {"model": "openai/gpt-oss-20b", "messages": [{"role": "user", "content": "Hello."}]},
    {
        "model": "openai/gpt-oss-20b",
        "messages": [{"role": "user", "content": "The square root of 12345?"}],
        "tools": [{"type": "code_interpreter"}, WEATHER],
        "tool_choice": "auto",
        "parallel_tool_calls": True,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 7,
        "stop": ["END"],
        "max_completion_tokens": 100,
    },
    {
        "model": "groq/compound",
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Hi.", "name": "Ann"}],
        "compound_custom": {
            "models": {"reasoning_model": "openai/gpt-oss-120b", "answering_model": "openai/gpt-oss-20b"},
            "tools": {"enabled_tools": ["code_interpreter"]},
        },
        "service_tier": "on_demand",
        "metadata": {"a": "b"},
        "user": "ann",
    },
    {
        "model": "openai/gpt-oss-120b",
        "messages": [
            {"role": "user", "content": "Hello."},
            {
                "role": "assistant",
                "content": "It is 2.",
                "reasoning": "Easy.",
                "executed_tools": [
                    {
                        "index": 0,
                        "type": "python",
                        "arguments": '{"code": "1+1"}',
                        "output": "2",
                        "search_results": {"results": []},
                        "code_results": [{"text": "2"}, {"png": PIXEL}],
                    },
                    {
                        "index": 1,
                        "type": "function",
                        "name": "python",
                        "arguments": "1+1",
                        "code_results": [{"text": "2"}],
                    },
                    {"index": 2, "type": "search", "arguments": "{}", "output": "found"},
                ],
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
                ],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "And this?"},
                    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}},
                    {"type": "document", "document": {"data": {"csv": "a,b\n1,2"}, "id": "d1"}},
                    {"type": "file", "file": {"filename": "x.csv", "file_data": "data:text/csv;base64,YSxiCg=="}},
                ],
            },
        ],
        "tools": [WEATHER],
        "documents": [{"id": "d2", "source": {"type": "text", "text": "Words."}}],
        "citation_options": "enabled",
        "reasoning_effort": "low",
        "reasoning_format": "parsed",
    },
    {
        "model": "test/json",
        "messages": [{"role": "developer", "content": "JSON."}, {"role": "user", "content": "Answer in JSON."}],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "a", "schema": {"type": "object", "properties": {"answer": {"type": "integer"}}}},
        },
        "logit_bias": {"5": 1},
        "frequency_penalty": 0.1,
        "presence_penalty": 0.1,
        "n": 1,
        "logprobs": False,
    },
]


def mutant(number: int) -> tuple[bytes, dict[str, str]]:
    """A body and headers, always the same for a number."""
    dice = random.Random(SEED + number)
    data = mutate(dice, VALID)
    headers = {"content-type": "application/json", "authorization": "Bearer x"}
    if dice.random() < 0.05:
        headers["groq-model-version"] = dice.choice(["latest", "2025-07-23", "", "yesterday", "é"])
    return data, headers


def well_formed(status: int, media_type: str, body: bytes) -> bool:
    """Whether this is an answer, or an error, as the vendor writes them."""
    if status == 200 and media_type.startswith("text/event-stream"):
        frames = [frame for frame in body.decode().split("\n\n") if frame and not frame.startswith(":")]
        if frames[-1].startswith("event: error\ndata: "):
            return is_error(json.loads(frames[-1].partition("data: ")[2]))
        chunks = [json.loads(frame.removeprefix("data: ")) for frame in frames[:-1]]
        return frames[-1] == "data: [DONE]" and all(chunk["object"] == "chat.completion.chunk" for chunk in chunks)
    answer = json.loads(body)
    if status == 200:
        message = answer["choices"][0]["message"]
        return answer["object"] == "chat.completion" and message["role"] == "assistant"
    return (400 <= status < 500 or status in OURS) and is_error(answer)


def is_error(answer: Any) -> bool:
    """The shape of an error, without a traceback in it."""
    error = answer["error"]
    message = error["message"]
    return bool(message) and isinstance(message, str) and isinstance(error["type"], str) and "Traceback" not in message


@pytest.mark.timeout(90)
def test_mutated_requests(belljar: Belljar, caplog: pytest.LogCaptureFixture) -> None:
    statuses: dict[int, int] = {}
    connection = http.client.HTTPConnection(urlsplit(belljar.url).netloc, timeout=SECONDS)
    with contextlib.closing(connection):
        for number in range(REQUESTS):
            data, headers = mutant(number)
            connection.request("POST", PATHS[number % 2], data, headers)
            response = connection.getresponse()
            body = response.read()
            statuses[response.status] = statuses.get(response.status, 0) + 1
            good = well_formed(response.status, response.headers["content-type"], body)
            assert good, f"mutant {number}: {data[:500]!r}\n{response.status} {body[:1000]!r}"
    print(statuses)
    assert sum(statuses.values()) == REQUESTS
    assert statuses[200] > 50, "mutants are too wrong to say much"
    assert statuses[400] > 200, "mutants are too right to say much"
    assert not [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    belljar.until(lambda: belljar.in_use == 0, 1.0)
    with groq_client(belljar.url) as client:
        question = [{"role": "user", "content": "Calculate the square root of 101"}]
        completion = client.chat.completions.create(model="groq/compound", messages=question)
    assert "10.04987562112089" in completion.choices[0].message.content


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "POST"])
@pytest.mark.parametrize(
    "path",
    [
        "/openai/v1/chat/completions",
        "/openai/v1/chat/completions/",
        "/openai/v1/chat",
        "/openai/v1/",
        "/openai/v1/models",
        "/openai/v1/models/",
        "/openai/v1/models/%00",
        "/openai/v1/models/%ff%fe",
        "/openai/v1/models/no%2Fsuch%2Fmodel",
        "/openai/v1/embeddings",
        "/v1/../v1/models/x",
        "/v1//models",
        "/v1/models/" + "x" * 4000,
    ],
)
def test_odd_paths(belljar: Belljar, method: str, path: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(belljar.url).netloc, timeout=SECONDS)
    with contextlib.closing(connection):
        connection.request(method, path, b"" if method == "POST" else None)
        response = connection.getresponse()
        body = response.read()
    assert response.status in (200, 400, 404, 405)
    if response.status != 200 and method != "HEAD":
        assert is_error(json.loads(body))
