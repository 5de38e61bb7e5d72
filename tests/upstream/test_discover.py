"""What is found on this machine and in the environment, and what must never be taken for an upstream."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from belljar.scripted import ScriptedUpstream, plain, unused_url
from belljar.upstream.discover import ENGINES, PROVIDERS, Engine, Provider, describe, find_upstreams
from belljar.upstream.settings import UpstreamSettings

KEY = "sk-secret-0123456789"


@asynccontextmanager
async def answering(
    body: Any = None, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> AsyncIterator[tuple[str, list[web.Request]]]:
    """A server that gives this body, JSON or bytes, whatever it is asked; its base URL, and what it was asked."""
    asked: list[web.Request] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request)
        if isinstance(body, bytes):
            return web.Response(body=body, status=status, headers=headers)
        return web.json_response(body, status=status, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", asked
    finally:
        await runner.cleanup()


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port
    return port


async def find(
    *urls: str, environ: Mapping[str, str] | None = None, providers: tuple[Provider, ...] = PROVIDERS
) -> list[UpstreamSettings]:
    """Search with engines "e0", "e1" ... at the ports of these URLs."""
    engines = [Engine(name=f"e{place}", title=f"Engine {place}", port=port_of(url)) for place, url in enumerate(urls)]
    return await find_upstreams(environ or {}, engines=engines, providers=providers)


def models(*names: str, owner: str = "library") -> dict[str, Any]:
    return {"object": "list", "data": [{"id": name, "object": "model", "owned_by": owner} for name in names]}


async def test_engines_that_answer_are_found_in_order() -> None:
    async with ScriptedUpstream(plain()) as first, ScriptedUpstream(plain()) as second:
        found = await find(first.url, unused_url(), second.url)
        assert [(settings.name, settings.url) for settings in found] == [("e0", first.url), ("e2", second.url)]
        assert describe(found[0]) == (f"e0 at {urlsplit(first.url).netloc} (something answers at the port of Engine 0)")


# What it is: what a server answers that is no engine.
NO_ENGINES: dict[str, tuple[Any, int, Mapping[str, str]]] = {
    "a web site": (b"<html>It works!</html>", 200, {}),
    "JSON of another kind": ({"status": "ok"}, 200, {}),
    "a list of something else": ({"data": [{"name": "x"}]}, 200, {}),
    "a list of texts": ({"data": ["x"]}, 200, {}),
    "no list": ({"data": "x"}, 200, {}),
    "a bare list": ([{"id": "x"}], 200, {}),
    "no model": ({"object": "list", "data": []}, 200, {}),
    "no model, as Ollama says it": ({"object": "list", "data": None}, 200, {}),
    "not found": (models("x"), 404, {}),
    "a key is wanted": ({"error": "no key"}, 401, {}),
    "a redirect": (b"", 302, {"location": "http://127.0.0.1:9/v1/models"}),
    "Belljar by its header": (models("x"), 200, {"server": "belljar/0.1"}),
    "Belljar by its model": (
        {"object": "list", "data": [*models("x")["data"], *models("y", owner="belljar")["data"]]},
        200,
        {},
    ),
    "nested too deeply": (b"[" * 100_000, 200, {}),
    "too large": (b'{"data": "' + b"x" * (5 << 20) + b'"}', 200, {}),
}


@pytest.mark.parametrize("case", NO_ENGINES)
async def test_what_is_no_engine(case: str) -> None:
    body, status, headers = NO_ENGINES[case]
    async with answering(body, status=status, headers=headers) as (url, asked):
        assert await find(url) == []
        assert [request.path for request in asked] == ["/v1/models"]


async def test_a_server_that_hangs_takes_no_time() -> None:
    async with ScriptedUpstream(plain()) as engine:
        with socket.create_server(("127.0.0.1", 0)) as silent:  # nobody accepts
            ports = {"silent": silent.getsockname()[1], "e": port_of(engine.url)}
            engines = [Engine(name=name, title="?", port=port) for name, port in ports.items()]
            began = time.monotonic()
            found = await find_upstreams({}, engines=engines, seconds=0.2)
            assert time.monotonic() - began < 2
            assert [settings.name for settings in found] == ["e"]


async def test_nothing_is_found_where_nothing_is() -> None:
    assert await find(unused_url()) == []


@pytest.mark.parametrize(
    "address", ["127.0.0.1:{port}", "0.0.0.0:{port}", ":{port}", "http://127.0.0.1:{port}", "localhost:{port}/"]
)
async def test_ollamas_own_variable(address: str) -> None:
    async with answering(models("llama3")) as (url, _):
        port = port_of(url)
        environ = {"OLLAMA_HOST": address.format(port=port)}
        found = await find_upstreams(environ, engines=ENGINES[:1])
        assert [(settings.name, port_of(settings.url)) for settings in found] == [("ollama", port)]
        assert describe(found[0]).endswith("(OLLAMA_HOST is set)")


async def test_ollamas_variable_without_a_port() -> None:
    async with answering(models("llama3")) as (url, _):
        engine = Engine(name="ollama", title="Ollama", port=port_of(url), variable="OLLAMA_HOST")
        for address in ("127.0.0.1", "0.0.0.0", ""):
            found = await find_upstreams({"OLLAMA_HOST": address}, engines=[engine])
            assert [settings.url for settings in found] == [url]


# --- hosted providers -------------------------------------------------------------------------------------------------


async def test_a_key_is_enough_and_is_told_to_nobody() -> None:
    environ = {name: KEY for provider in PROVIDERS for name in provider.keys}
    found = await find(environ=environ)
    assert [settings.name for settings in found] == [provider.name for provider in PROVIDERS]
    for settings, provider in zip(found, PROVIDERS, strict=True):
        assert settings.url == provider.url
        assert settings.key == KEY
        assert settings.url.startswith("https://")
        for text in (describe(settings), repr(settings), str(settings)):
            assert KEY not in text
    assert describe(found[0]) == "openai at api.openai.com (OPENAI_API_KEY is set)"


async def test_engines_come_before_providers() -> None:
    async with ScriptedUpstream(plain()) as engine:
        found = await find(engine.url, environ={"GROQ_API_KEY": KEY})
        assert [settings.name for settings in found] == ["e0", "groq"]


@pytest.mark.parametrize("value", ["", "  ", "two words", "line\nbreak", "kéy"])
async def test_a_key_that_is_none(value: str, caplog: pytest.LogCaptureFixture) -> None:
    assert await find(environ={"OPENAI_API_KEY": value}) == []
    assert value.strip() == "" or ("OPENAI_API_KEY" in caplog.text and value not in caplog.text)


async def test_a_key_with_a_line_break_behind_it() -> None:
    assert [settings.key for settings in await find(environ={"OPENAI_API_KEY": f"{KEY}\n"})] == [KEY]


# What it is: the environment, and the URL.
OVERRIDES = {
    "a proxy": ({"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "https://proxy.example/v1/"}, "https://proxy.example/v1"),
    "the old name": ({"OPENAI_API_KEY": KEY, "OPENAI_API_BASE": "https://proxy.example/x"}, "https://proxy.example/x"),
    "a bare host": ({"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": "https://proxy.example"}, "https://proxy.example/v1"),
    "Groq's bare host": (
        {"GROQ_API_KEY": KEY, "GROQ_BASE_URL": "https://groq.example/"},
        "https://groq.example/openai/v1",
    ),
    "no key": ({"OPENAI_BASE_URL": "http://gpu.example:8000/v1"}, "http://gpu.example:8000/v1"),
    "empty": ({"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": ""}, "https://api.openai.com/v1"),
}


@pytest.mark.parametrize("case", OVERRIDES)
async def test_base_urls_of_the_environment(case: str) -> None:
    environ, url = OVERRIDES[case]
    assert [settings.url for settings in await find(environ=environ)] == [url]


async def test_a_base_url_that_is_none(caplog: pytest.LogCaptureFixture) -> None:
    for url in ("gpu:8000", "http://[::1", "http://[::1/v1", "://", "http://x:y"):
        assert await find(environ={"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": url}) == []
        assert await find_upstreams({"OLLAMA_HOST": "[::1"}, engines=ENGINES[:1]) == []
    assert "OPENAI_BASE_URL" in caplog.text
    assert KEY not in caplog.text


async def test_a_base_url_on_this_machine_is_asked_with_its_key() -> None:
    async with ScriptedUpstream(plain(), key=KEY) as server:
        environ = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": server.url}
        found = await find(server.url, environ=environ)  # as an engine it answers 401
        assert [(settings.name, settings.key) for settings in found] == [("openai", KEY)]
        assert await find(environ={**environ, "OPENAI_API_KEY": "wrong"}) == []


async def test_one_server_is_found_once() -> None:
    async with ScriptedUpstream(plain()) as server:
        for host in ("127.0.0.1", "localhost"):
            environ = {"OPENAI_BASE_URL": f"http://{host}:{port_of(server.url)}/v1"}
            assert [settings.name for settings in await find(server.url, environ=environ)] == ["e0"]


async def test_a_base_url_of_belljar_itself_is_no_upstream() -> None:
    async with answering(models("m"), headers={"server": "belljar"}) as (url, _):
        environ = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": url, "GROQ_API_KEY": KEY, "GROQ_BASE_URL": url}
        assert await find(environ=environ) == []
    assert await find(environ=environ) == []  # nor where it is only about to start


async def test_hosted_providers_are_sent_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def spy(_session: Any, settings: UpstreamSettings) -> bool:
        asked.append(settings.url)
        return False

    monkeypatch.setattr("belljar.upstream.discover._is_engine", spy)
    environ = {name: KEY for provider in PROVIDERS for name in provider.keys}
    environ["MISTRAL_BASE_URL"] = "http://127.0.0.1:1/v1"  # no variable of ours
    await find_upstreams(environ)
    assert sorted(asked) == sorted(f"http://127.0.0.1:{engine.port}/v1" for engine in ENGINES)
