"""A thousand requests of Gemini's, each made wrong in some way, over real connections.

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

from sdks.gemini import TOOL, ask
from sdks.mutants import mutate
from servers import Belljar

REQUESTS = 1000
SEED = 20_250_512
SECONDS = 10.0
OURS = {502, 503, 504}  # answers that may be the upstream's fault, or the host's; 500 never is
MODELS = ("openai/gpt-oss-20b", "test/json", "test/mixes", "test/thinks", "no-such-model")
PATHS = (
    "/v1beta/models/{model}:generateContent",
    "/v1beta/models/{model}:streamGenerateContent?alt=sse",
    "/v1/models/{model}:streamGenerateContent",
    "/v1beta1/projects/p/locations/l/publishers/google/models/{model}:generateContent",
    "/v1/publishers/google/models/{model}:countTokens",
)
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER = {
    "name": "get_weather",
    "description": "x",
    "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING", "nullable": True}}},
}
VALID: list[Any] = [
    {"contents": [{"role": "user", "parts": [{"text": "Hello."}]}]},
    {"contents": {"parts": {"text": "The square root of 12345?"}}, "tools": [{"code_execution": {}}]},
    {
        "contents": [
            {"role": "user", "parts": [{"text": "Hi."}, {"inlineData": {"mimeType": "image/png", "data": PIXEL}}]},
            {
                "role": "model",
                "parts": [
                    {"text": "Hm.", "thought": True, "thoughtSignature": "AA=="},
                    {"executableCode": {"id": "a", "language": "PYTHON", "code": "1+1"}},
                    {"codeExecutionResult": {"id": "a", "outcome": "OUTCOME_OK", "output": "2\n"}},
                    {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
                    {"functionCall": {"id": "c", "name": "get_weather", "args": {"city": "Tokyo"}}},
                ],
            },
            {"role": "user", "parts": [{"functionResponse": {"id": "c", "name": "get_weather", "response": {"a": 1}}}]},
            {"role": "user", "parts": [{"inlineData": {"mimeType": "text/csv", "data": "YSxiCg=="}}]},
        ],
        "tools": [{"codeExecution": {}}, {"functionDeclarations": [WEATHER]}],
        "toolConfig": {"functionCallingConfig": {"mode": "AUTO"}},
        "systemInstruction": {"parts": [{"text": "Be short."}]},
        "generationConfig": {"temperature": 0.5, "topP": 0.9, "topK": 40, "maxOutputTokens": 100, "seed": 7},
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
    },
    {
        "contents": [{"role": "user", "parts": [{"text": "Answer in JSON."}]}],
        "generationConfig": {
            "responseMimeType": "application/json",
            "responseSchema": {"type": "OBJECT", "properties": {"answer": {"type": "INTEGER"}}},
            "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 100},
            "stopSequences": ["END"],
        },
    },
]


def well_formed(status: int, media_type: str, body: bytes) -> bool:
    """Whether this is an answer, or an error, as the vendor writes them."""
    if status == 200 and media_type.startswith("text/event-stream"):
        frames = [frame for frame in body.decode().split("\r\n\r\n") if frame.strip()]
        return all(frame.startswith("data: ") and is_answer(json.loads(frame[6:])) for frame in frames)
    answer = json.loads(body)
    answers = answer if isinstance(answer, list) else [answer]
    if status == 200:
        return bool(answers) and all(is_answer(one) for one in answers)
    return (400 <= status < 500 or status in OURS) and len(answers) == 1 and is_error(answers[0], status)


def is_answer(answer: Any) -> bool:
    """A response, a chunk of one, a count, or the error that ends a stream."""
    if "error" in answer:
        return is_error(answer, answer["error"]["code"])
    if "totalTokens" in answer:
        return answer["totalTokens"] > 0
    return bool(answer["candidates"][0]["content"]["parts"])


def is_error(answer: Any, status: int) -> bool:
    """The shape of an error, without a traceback in it."""
    error = answer["error"]
    named = bool(error["message"]) and error["status"].isupper() and isinstance(error["details"], list)
    return named and error["code"] == status and "Traceback" not in error["message"]


@pytest.mark.timeout(90)
def test_mutated_requests(belljar: Belljar, caplog: pytest.LogCaptureFixture) -> None:
    statuses: dict[int, int] = {}
    connection = http.client.HTTPConnection(urlsplit(belljar.url).netloc, timeout=SECONDS)
    with contextlib.closing(connection):
        for number in range(REQUESTS):
            dice = random.Random(SEED + number)
            data = mutate(dice, VALID)
            path = dice.choice(PATHS).format(model=dice.choice(MODELS))
            connection.request("POST", path, data, {"content-type": "application/json", "x-goog-api-key": "x"})
            response = connection.getresponse()
            body = response.read()
            statuses[response.status] = statuses.get(response.status, 0) + 1
            good = well_formed(response.status, response.headers["content-type"], body)
            assert good, f"mutant {number}: {path} {data[:500]!r}\n{response.status} {body[:1000]!r}"
    assert sum(statuses.values()) == REQUESTS
    assert statuses[200] > 50, "mutants are too wrong to say much"
    assert statuses[400] > 200, "mutants are too right to say much"
    assert not [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    belljar.until(lambda: belljar.in_use == 0, 1.0)
    seen = ask(belljar.url, "whole", "openai/gpt-oss-20b", "The square root of 12345?", tools=[TOOL])
    assert seen.text == "111.1080555135405"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD", "POST"])
@pytest.mark.parametrize(
    "path",
    [
        "/v1beta/models/",
        "/v1beta/models/:generateContent",
        "/v1beta/models/m:",
        "/v1beta/models/m:generateContent/",
        "/v1beta/models/%00:generateContent",
        "/v1beta/models/%ff%fe",
        "/v1alpha/models/no%2Fsuch%2Fmodel",
        "/v1/projects/p/locations/l/publishers/google/models",
        "/v1/publishers/google/models/x" + "x" * 4000,
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
        assert is_error(json.loads(body), response.status)
