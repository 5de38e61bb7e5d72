"""The log: one line a request, which tells neither what was said nor who may ask."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import pytest

from belljar.errors import AtCapacity
from belljar.events import Failed
from belljar.server import logs
from belljar.server.settings import LOG_FORMATS, Settings

from .fakes import FakeService, serving, turn


@pytest.fixture
def restored() -> Iterator[None]:
    """The root logger as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in logs.QUIET}
    yield
    root.handlers[:], root.level = handlers, level
    for name, value in levels.items():
        logging.getLogger(name).setLevel(value)
    logging.getLogger().manager._clear_cache()  # type: ignore[attr-defined]


@contextmanager
def captured(form: str, level: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logs.configure(form, level)
    yield stream


def told(stream: io.StringIO) -> list[str]:
    """All lines so far, those that wait for others as well."""
    for handler in logging.getLogger().handlers:
        handler.flush()
    return stream.getvalue().splitlines()


async def ask(url: str, body: dict[str, Any], **headers: str) -> None:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{url}/toy/ask", json=body, headers=names) as response,
    ):
        await response.read()


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("form", LOG_FORMATS)
async def test_one_line_a_request(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = FakeService(turn("top secret"))
    with captured(form, "info", monkeypatch) as stream:
        async with serving(service, Settings(api_key=("hush",))) as (url, _):
            await ask(url, {"prompt": "private"}, authorization="Bearer hush", x_request_id="abc-1")
            await ask(url, {"stream": True}, authorization="Bearer hush")
            await ask(url, {}, authorization="Bearer wrong-key")
            service.steps = [Failed(error=AtCapacity("full"))]
            await ask(url, {}, authorization="Bearer hush")
    lines = told(stream)
    assert len(lines) == 4
    for word in ("secret", "private", "hush", "wrong-key", "Traceback"):
        assert word not in stream.getvalue()
    if form == "text":
        assert " info belljar.access: request " in lines[0]
        assert "status=200 outcome=ok" in lines[0]
        assert "client_request=abc-1" in lines[0]
        assert "status=503 outcome=at_capacity" in lines[3]
        return
    records = [json.loads(line) for line in lines]
    first = records[0]
    assert first["request"].startswith("req_")
    assert (first["dialect"], first["action"], first["model"], first["turns"]) == ("toy", "generate", "m", 1)
    assert (first["prompt_tokens"], first["completion_tokens"]) == (3, 2)
    assert first["client_request"] == "abc-1"
    assert first["ms"] >= first["first_ms"] >= 0
    assert [record["outcome"] for record in records] == ["ok", "ok", "unauthorized", "at_capacity"]
    assert [record["status"] for record in records] == [200, 200, 401, 503]
    assert records[1]["stream"] is True
    assert {record["level"] for record in records} == {"INFO"}
    assert all(record["time"] for record in records)


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("form", LOG_FORMATS)
async def test_what_clients_chose_breaks_no_line(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = "a\nb outcome=forged \x1b[31m" + "x" * 500
    with captured(form, "info", monkeypatch) as stream:
        async with serving() as (url, _):
            await ask(url, {"model": model})
    (line,) = told(stream)
    assert "\x1b" not in line
    assert " outcome=forged" not in line
    assert len(line) < 600


@pytest.mark.usefixtures("restored")
async def test_quieter(monkeypatch: pytest.MonkeyPatch) -> None:
    with captured("text", "warning", monkeypatch) as stream:
        async with serving() as (url, _):
            await ask(url, {})
    assert told(stream) == []


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("form", LOG_FORMATS)
def test_tracebacks(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with captured(form, "info", monkeypatch) as stream:
        try:
            raise ValueError("of ours")
        except ValueError:
            logging.getLogger("belljar.x").exception("it\nfailed")
    text = "\n".join(told(stream))
    assert "ValueError: of ours" in text
    if form == "text":
        assert "it\\nfailed" in text.splitlines()[0]
    else:
        assert len(text.splitlines()) == 1
