"""A thousand requests of the Responses API and of what stands beside it (containers, files, conversations), each made
wrong in some way, over real connections.

Every answer is a success or an error of the vendor's shape, never a 500, and the server answers on.
"""

from __future__ import annotations

import http.client
import json
import random
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest

from sdks.mutants import ODD, cut_off, flip, insert, mutate
from sdks.responses import connect
from servers import Belljar

REQUESTS = 1000
OTHERS = 300
SEED = 20_260_311
SECONDS = 10.0
OURS = {502, 503, 504}  # answers that may be the upstream's fault, or the host's; 500 never is
MODELS = ("openai/gpt-oss-20b", "test/json", "test/mixes", "test/thinks", "no-such-model")
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
CODE = {"type": "code_interpreter", "container": {"type": "auto"}}
WEATHER = {"type": "function", "name": "get_weather", "parameters": {"type": "object"}, "strict": True}
VALID: list[Any] = [
    {"input": "Hello."},
    {
        "input": "The square root of 12345?",
        "tools": [CODE | {"container": {"type": "auto", "file_ids": ["file-none"], "memory_limit": "1g"}}],
        "include": ["code_interpreter_call.outputs"],
        "stream": True,
        "previous_response_id": "resp_none",
    },
    {
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Hi."}]},
            {
                "role": "user",
                "content": [
                    {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "low"},
                    {"type": "input_file", "filename": "x.csv", "file_data": "data:text/csv;base64,YSxiCg=="},
                ],
            },
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "Hm."}]},
            {
                "type": "code_interpreter_call",
                "id": "ci_1",
                "code": "1+1",
                "container_id": "cntr_none",
                "status": "completed",
                "outputs": [{"type": "logs", "logs": "2"}, {"type": "image", "url": f"data:image/png;base64,{PIXEL}"}],
            },
            {"type": "function_call", "call_id": "c", "name": "get_weather", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "sunny"}]},
            {"type": "custom_tool_call", "call_id": "d", "name": "query", "input": "x"},
            {"type": "custom_tool_call_output", "call_id": "d", "output": "none"},
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "Sunny.", "annotations": []}],
            },
        ],
        "tools": [CODE, WEATHER, {"type": "custom", "name": "query"}],
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "code_interpreter"}]},
        "instructions": "Be short.",
        "temperature": 0.5,
        "top_p": 0.9,
        "max_output_tokens": 100,
        "max_tool_calls": 3,
        "stream": True,
        "stream_options": {"include_obfuscation": False},
        "store": False,
    },
    {
        "input": "Answer in JSON.",
        "text": {
            "format": {
                "type": "json_schema",
                "name": "a",
                "schema": {"type": "object", "properties": {"answer": {"type": "integer"}}},
            },
            "verbosity": "low",
        },
        "reasoning": {"effort": "low", "summary": "auto"},
        "metadata": {"a": "b"},
        "truncation": "disabled",
        "parallel_tool_calls": False,
        "background": True,
    },
    {"input": [{"type": "item_reference", "id": "msg_none"}], "conversation": {"id": "conv_none"}},
]


@pytest.fixture
def connection(belljar: Belljar) -> Iterator[http.client.HTTPConnection]:
    with closing(http.client.HTTPConnection(urlsplit(belljar.url).netloc, timeout=SECONDS)) as made:
        yield made


def is_error(answer: Any) -> bool:
    """The shape of an error, without a traceback in it."""
    error = answer["error"]
    texts = isinstance(error["message"], str) and isinstance(error["type"], str)
    fields = {"message", "type", "code"} <= error.keys() <= {"message", "type", "param", "code"}
    return texts and fields and "Traceback" not in error["message"]


def well_formed(status: int, media_type: str, body: bytes) -> bool:
    """Whether this is an answer, or an error, as the vendor writes them."""
    if status == 200 and media_type.startswith("text/event-stream"):
        frames = body.decode().split("\n\n")[:-1]
        last = json.loads(frames[-1].partition("data: ")[2])
        return frames[0].startswith("event: response.created\n") and last["type"].startswith("response.")
    answer = json.loads(body)
    if status == 200:
        return answer["object"] == "response" and isinstance(answer["output"], list)
    return is_error(answer)


@pytest.mark.timeout(300)
def test_mutated_responses(
    belljar: Belljar, connection: http.client.HTTPConnection, caplog: pytest.LogCaptureFixture
) -> None:
    dice = random.Random(SEED)
    statuses: dict[int, int] = {}
    for number in range(REQUESTS):
        body = mutate(dice, [{"model": dice.choice(MODELS)} | body for body in VALID])
        connection.request("POST", "/v1/responses", body, {"content-type": "application/json"})
        reply = connection.getresponse()
        content = reply.read()
        statuses[reply.status] = statuses.get(reply.status, 0) + 1
        about = f"request {number}: {body[:900]!r} -> {reply.status} {content[:500]!r}"
        assert reply.status == 200 or 400 <= reply.status < 500 or reply.status in OURS, about
        assert well_formed(reply.status, reply.headers.get("content-type", ""), content), about
    print(statuses)
    assert statuses[200] > REQUESTS / 20  # else nothing was tried but the first check
    assert statuses[400] > REQUESTS / 5
    assert not [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    belljar.until(lambda: belljar.upstream.playing == 0, 20.0)


MESSAGE = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi."}]}
EXPIRES = {"anchor": "last_active_at", "minutes": 5}
BODIES: Sequence[tuple[str, Any]] = (
    ("/v1/containers", {"name": "x", "expires_after": EXPIRES, "file_ids": ["file-none"], "memory_limit": "1g"}),
    ("/v1/containers", {"name": "x", "expires_after": EXPIRES, "network_policy": {"type": "disabled"}}),
    ("/v1/containers/{box}/files", {"file_id": "file-none"}),
    ("/v1/conversations", {"items": [MESSAGE, MESSAGE | {"role": "assistant"}], "metadata": {"a": "b"}}),
    ("/v1/conversations/{talk}", {"metadata": {"a": "b"}}),
    ("/v1/conversations/{talk}/items", {"items": [MESSAGE, {"type": "item_reference", "id": "msg_none"}]}),
)
QUERIES = ("after", "limit", "order", "name", "purpose", "include[]", "stream", "starting_after", "")
LISTS = (
    *("/v1/containers", "/v1/containers/{box}/files", "/v1/conversations/{talk}/items", "/v1/files"),
    *("/v1/responses/{answer}", "/v1/responses/{answer}/input_items", "/v1/containers/{box}"),
)


@pytest.fixture
def names(belljar: Belljar) -> dict[str, str]:
    """One of each, to be asked for."""
    with connect(belljar.url) as client:
        box, talk = client.containers.create(name="x"), client.conversations.create()
        answer = client.responses.create(model="test/thinks", input="x")
    return {"box": box.id, "talk": talk.id, "answer": answer.id}


def told(connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None, kind: str) -> int:
    """Send it, and hold the answer to the vendor's shapes; its status."""
    connection.request(method, path, body, {"content-type": kind} if body is not None else {})
    reply = connection.getresponse()
    content = reply.read()
    about = f"{method} {path} {body!r} -> {reply.status} {content[:500]!r}"
    assert reply.status == 200 or 400 <= reply.status < 500, about
    if not reply.headers.get("content-type", "").startswith("text/event-stream"):
        assert reply.status == 200 or is_error(json.loads(content)), about
    return reply.status


def test_mutated_bodies(connection: http.client.HTTPConnection, names: dict[str, str]) -> None:
    """Of containers, their files and conversations."""
    dice = random.Random(SEED)
    statuses = []
    for _ in range(OTHERS):
        path, valid = dice.choice(BODIES)
        body = mutate(dice, [valid])
        statuses.append(told(connection, "POST", path.format(**names), body, "application/json"))
    assert statuses.count(200) > OTHERS / 20
    assert statuses.count(400) > OTHERS / 10


def test_mutated_queries(connection: http.client.HTTPConnection, names: dict[str, str]) -> None:
    dice = random.Random(SEED)
    words = [str(odd).encode("utf-8", "replace").hex() for odd in ODD]
    values = ["", "0", "1", "-1", "101", "x", "asc", "desc", "true", "%00", "%ff", "cfile_none", "9" * 30]
    values += ["".join(f"%{word[at : at + 2]}" for at in range(0, min(len(word), 60), 2)) for word in words]
    statuses = []
    for _ in range(OTHERS):
        query = "&".join(f"{dice.choice(QUERIES)}={dice.choice(values)}" for _ in range(dice.randrange(3)))
        path = dice.choice(LISTS).format(**names)
        if dice.random() < 0.1:
            path += dice.choice(["x", "/", "%00", "%ff", "/x/y", "/content", "0" * 200])
        statuses.append(told(connection, "GET", f"{path}?{query}", None, ""))
    assert statuses.count(200) > OTHERS / 20
    assert statuses.count(400) > OTHERS / 20


FORM = (
    b'--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
    b'--x\r\ncontent-disposition: form-data; name="file"; filename="a.csv"\r\ncontent-type: text/csv\r\n\r\n1,2\r\n'
    b"--x--\r\n"
)


def test_mutated_forms(connection: http.client.HTTPConnection, names: dict[str, str]) -> None:
    """Uploads, to the files and into a container."""
    dice = random.Random(SEED)
    kinds = ["multipart/form-data; boundary=x"] * 12 + ["multipart/form-data", "multipart/form-data; boundary=", "é"]
    statuses = []
    for _ in range(OTHERS):
        body = FORM
        for _ in range(dice.randrange(3)):
            body = dice.choice([flip, cut_off, insert])(dice, body or b"x")
        path = dice.choice(["/v1/files", "/v1/containers/{box}/files"]).format(**names)
        statuses.append(told(connection, "POST", path, body, dice.choice(kinds)))
    assert statuses.count(200) > OTHERS / 20
    assert statuses.count(400) > OTHERS / 20
