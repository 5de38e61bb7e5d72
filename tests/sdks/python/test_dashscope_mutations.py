"""A thousand valid requests to each of Qwen's forms, each made wrong in some way, over real connections.

Every answer is a success or an error of the vendor's shape, never a 500, and the server answers on.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import random
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from belljar.dialects.dashscope import MULTIMODAL_PATH, TEXT_PATH
from sdks.mutants import mutate
from sdks.qwen import KEY, PLUS, WEATHER, qwen_server, user
from servers import Belljar

REQUESTS = 1000
SEED = 20_260_123
SECONDS = 10.0
OURS = {502, 503, 504}  # answers that may be the upstream's fault, or the host's; 500 never is
COMPATIBLE_PATH = "/compatible-mode/v1/chat/completions"
TALK = [
    {"role": "system", "content": "Be short."},
    *user("12**3?"),
    {"role": "assistant", "content": "1728."},
    *user("Sure?"),
]
PARTS = [{"role": "user", "content": [{"text": "What is it?"}, {"image": "data:image/png;base64,iVBORw0KGgo="}]}]
RUN = {"enable_code_interpreter": True, "enable_thinking": True}

NATIVE: list[Any] = [
    {"model": PLUS, "input": {"messages": user("Hi.")}, "parameters": {"result_format": "message"}},
    {"model": PLUS, "input": {"messages": TALK}, "parameters": RUN | {"incremental_output": True, "seed": 7}},
    {
        "model": PLUS,
        "input": {"messages": PARTS},
        "parameters": {"max_tokens": 50, "temperature": 0.5, "stop": ["END"]},
    },
    {"model": PLUS, "input": {"prompt": "Hi."}, "parameters": {"result_format": "text", "top_p": 0.9, "top_k": 5}},
    {
        "model": "qwen-weather",
        "input": {"messages": user("Weather?")},
        "parameters": {"result_format": "message", "tools": [WEATHER], "tool_choice": "auto"},
    },
]
COMPATIBLE: list[Any] = [
    {"model": PLUS, "messages": TALK, "stream": True, "stream_options": {"include_usage": True}} | RUN,
    {"model": PLUS, "messages": user("Hi."), "temperature": 0.5, "thinking_budget": 100},
    {"model": "qwen-weather", "messages": user("Weather?"), "tools": [WEATHER], "tool_choice": "auto"},
]


def native_fine(status: int, media_type: str, body: bytes) -> bool:
    """Whether this is an answer, or an error, as DashScope writes them."""
    if status == 200 and media_type.startswith("text/event-stream"):
        frames = [frame for frame in body.decode().split("\n\n") if "data:" in frame]
        told = [json.loads(frame.partition("data:")[2]) for frame in frames]
        return (
            bool(told) and all("output" in each for each in told[:-1]) and ("output" in told[-1] or "code" in told[-1])
        )
    answer = json.loads(body)
    if status == 200:
        return "output" in answer
    return isinstance(answer["code"], str) and sound(answer["message"]) and isinstance(answer["request_id"], str)


def compatible_fine(status: int, media_type: str, body: bytes) -> bool:
    """The same for the compatible mode."""
    if status == 200 and media_type.startswith("text/event-stream"):
        frames = [frame for frame in body.decode().split("\n\n") if "data: " in frame]
        return bool(frames) and (frames[-1] == "data: [DONE]" or '"error"' in frames[-1])
    answer = json.loads(body)
    return answer["object"] == "chat.completion" if status == 200 else sound(answer["error"]["message"])


def sound(message: Any) -> bool:
    return isinstance(message, str) and bool(message) and "Traceback" not in message


FORMS: dict[str, tuple[str, list[Any], Callable[[int, str, bytes], bool]]] = {
    "text": (TEXT_PATH, NATIVE, native_fine),
    "multimodal": (MULTIMODAL_PATH, NATIVE, native_fine),
    "compatible": (COMPATIBLE_PATH, COMPATIBLE, compatible_fine),
}


@pytest.fixture(scope="module")
def qwen(no_proxy: None) -> Iterator[Belljar]:
    with qwen_server() as running:
        yield running


@pytest.mark.timeout(90)
@pytest.mark.parametrize("form", FORMS)
def test_mutated_requests(qwen: Belljar, form: str, caplog: pytest.LogCaptureFixture) -> None:
    path, valid, is_fine = FORMS[form]
    statuses: dict[int, int] = {}
    connection = http.client.HTTPConnection(urlsplit(qwen.url).netloc, timeout=SECONDS)
    with contextlib.closing(connection):
        for number in range(REQUESTS):
            dice = random.Random(SEED + number)
            data = mutate(dice, valid)
            headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
            if dice.random() < 0.5:
                headers["x-dashscope-sse"] = "enable"
            connection.request("POST", path, data, headers)
            response = connection.getresponse()
            body = response.read()
            statuses[response.status] = statuses.get(response.status, 0) + 1
            allowed = response.status == 200 or 400 <= response.status < 500 or response.status in OURS
            good = allowed and is_fine(response.status, response.headers["content-type"], body)
            assert good, f"mutant {number}: {data[:500]!r}\n{response.status} {body[:1000]!r}"
    assert sum(statuses.values()) == REQUESTS
    assert statuses[200] > 50, f"mutants are too wrong to say much: {statuses}"
    assert statuses[400] > 200, f"mutants are too right to say much: {statuses}"
    assert not [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    qwen.until(lambda: qwen.in_use == 0, 1.0)
