"""A thousand interactions, each made wrong in some way, over real connections; and uploads of files made wrong.

Every answer is a success or an error of the vendor's shape, never a 500, and the server answers on.
"""

from __future__ import annotations

import http.client
import json
import random
from typing import Any
from urllib.parse import urlsplit

import pytest

from sdks.mutants import ODD, mutate
from servers import Belljar

REQUESTS = 1000
UPLOADS = 300
SEED = 20_251_121
SECONDS = 10.0
OURS = {502, 503, 504}  # answers that may be the upstream's fault, or the host's; 500 never is
MODELS = ("openai/gpt-oss-20b", "test/json", "test/mixes", "test/thinks", "no-such-model")
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "x",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}
CODE = {"type": "code_execution"}
VALID: list[Any] = [
    {"input": "Hello."},
    {"input": "The square root of 12345?", "tools": [CODE], "stream": True, "previous_interaction_id": "v1_none"},
    {
        "input": [
            {"type": "user_input", "content": [{"type": "text", "text": "Hi."}, {"type": "image", "data": PIXEL}]},
            {"type": "thought", "signature": "AA=="},
            {"type": "code_execution_call", "id": "a", "arguments": {"language": "python", "code": "1+1"}},
            {"type": "code_execution_result", "call_id": "a", "result": "2\n", "is_error": False},
            {"type": "function_call", "id": "c", "name": "get_weather", "arguments": {"city": "Tokyo"}},
            {"type": "function_result", "call_id": "c", "result": [{"type": "text", "text": "sunny"}]},
            {"type": "model_output", "content": [{"type": "text", "text": "Sunny."}]},
            {"type": "document", "data": "YSxiCg==", "mime_type": "text/csv"},
        ],
        "tools": [CODE, WEATHER],
        "system_instruction": "Be short.",
        "generation_config": {"temperature": 0.5, "top_p": 0.9, "max_output_tokens": 100, "tool_choice": "auto"},
        "stream": True,
    },
    {
        "input": {"type": "text", "text": "Answer in JSON."},
        "response_format": {
            "type": "text",
            "mime_type": "application/json",
            "schema": {"type": "object", "properties": {"answer": {"type": "integer"}}},
        },
        "generation_config": {"thinking_summaries": "auto", "stop_sequences": ["END"], "thinking_level": "low"},
        "store": False,
    },
]


def well_formed(status: int, media_type: str, body: bytes) -> bool:
    """Whether this is an answer, or an error, as the vendor writes them."""
    if status == 200 and media_type.startswith("text/event-stream"):
        frames = body.decode().split("\n\n")[:-1]
        return frames[0].startswith("event: interaction.created\n") and all("\ndata: " in frame for frame in frames)
    answer = json.loads(body)
    if status == 200:
        return answer["object"] == "interaction" and isinstance(answer["steps"], list)
    error = answer["error"]
    return error.keys() == {"message", "code"} and bool(error["message"]) and isinstance(error["code"], str)


@pytest.mark.timeout(300)
def test_mutated_interactions(belljar: Belljar) -> None:
    dice = random.Random(SEED)
    connection = http.client.HTTPConnection(urlsplit(belljar.url).netloc, timeout=SECONDS)
    statuses: dict[int, int] = {}
    for number in range(REQUESTS):
        body = mutate(dice, [{"model": dice.choice(MODELS)} | body for body in VALID])
        connection.request("POST", "/v1beta/interactions", body, {"content-type": "application/json"})
        reply = connection.getresponse()
        content = reply.read()
        statuses[reply.status] = statuses.get(reply.status, 0) + 1
        about = f"request {number}: {body[:500]!r} -> {reply.status} {content[:500]!r}"
        assert reply.status == 200 or 400 <= reply.status < 500 or reply.status in OURS, about
        assert well_formed(reply.status, reply.headers.get("content-type", ""), content), about
    connection.close()
    assert statuses[200] > REQUESTS / 20  # else nothing was tried but the first check
    assert statuses[400] > REQUESTS / 5
    belljar.until(lambda: belljar.in_use == 0, 20.0)


def test_mutated_uploads(belljar: Belljar) -> None:
    dice = random.Random(SEED)
    connection = http.client.HTTPConnection(urlsplit(belljar.url).netloc, timeout=SECONDS)
    words = ["", "-1", "0", "7", "x", "start", "upload, finalize", "resumable", "raw", "multipart", "text/csv", "é" * 9]
    words += ["multipart/related; boundary=x", str(10**30)]
    names = ["Protocol", "Command", "Offset", "Header-Content-Length", "Header-Content-Type", "File-Name"]
    for number in range(UPLOADS):
        headers = {"X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": "start"}
        for name in dice.sample(names, dice.randrange(3)):
            headers[f"X-Goog-Upload-{name}"] = dice.choice(words)
        if dice.random() < 0.3:
            headers["Content-Type"] = dice.choice(words)
        about: Any = {"file": {"display_name": "x", "mime_type": "text/csv", "name": "files/x"}}
        about["file"][dice.choice(["display_name", "mime_type", "name", "displayName"])] = dice.choice(ODD)
        body = json.dumps(about).encode() if dice.random() < 0.8 else dice.randbytes(30)
        connection.request("POST", "/upload/v1beta/files", body, {n: v.encode("latin-1") for n, v in headers.items()})
        reply = connection.getresponse()
        content = reply.read()
        assert reply.status in (200, 400, 413), f"upload {number}: {headers} {body!r} -> {reply.status} {content!r}"
        if reply.status != 200:
            assert json.loads(content)["error"]["status"] == "INVALID_ARGUMENT"
    connection.close()
