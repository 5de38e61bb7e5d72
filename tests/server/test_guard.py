"""Who may ask: API keys, names of hosts, pages of other sites."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from belljar.dialects.base import Incoming, read_bearer
from belljar.errors import Forbidden, HostError, Unauthorized
from belljar.server.guard import Guard, host_name
from belljar.server.keys import Keys, is_shared, read_keys
from belljar.server.settings import Settings, is_loopback

from .fakes import FakeService, serving

SITE = "https://example.org"


async def request(url: str, method: str = "POST", **headers: str) -> tuple[int, dict[str, str], bytes]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, data=b"{}" if method == "POST" else None, headers=names) as response,
    ):
        return response.status, {k.lower(): v for k, v in response.headers.items()}, await response.read()


# --- keys -------------------------------------------------------------------------------------------------------------


def test_keys() -> None:
    keys = Keys(("one", "two", "one"))
    assert len(keys) == 2
    keys.check("one")
    keys.check("two")
    for wrong in (None, "", "three", "on", "oneone", "ONE", "ö"):
        with pytest.raises(Unauthorized):
            keys.check(wrong)
    Keys(()).check(None)
    assert "one" not in repr(vars(keys))


def test_keys_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# for the team\n first \n\nsecond\n")
    keys = read_keys(Settings(api_key=("third",), api_keys_file=str(file)))
    assert len(keys) == 3
    for key in ("first", "second", "third"):
        keys.check(key)
    file.chmod(0o644)
    assert is_shared(str(file))
    file.chmod(0o600)
    assert not is_shared(str(file))


@pytest.mark.parametrize("content", [None, b"", b"# none\n", b"a b\n", b"\xff\n"])
def test_files_that_hold_no_keys(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(HostError):
        read_keys(Settings(api_keys_file=str(file)))


def test_bearer() -> None:
    cases = {"Bearer k": "k", "bearer k": "k", "Basic k": None, "k": None, "": None, "Bearer": None, "Bearer  k ": "k"}
    for header, key in cases.items():
        assert read_bearer(Incoming(method="GET", path="/", headers={"authorization": header})) == key


async def test_a_server_with_keys() -> None:
    service = FakeService()
    async with serving(service, Settings(api_key=("secret",))) as (url, _):
        for headers in ({}, {"authorization": "Bearer wrong"}):
            status, _, body = await request(f"{url}/toy/ask", **headers)
            assert (status, "API key" in json.loads(body)["toy"]) == (401, True)
            assert (await request(f"{url}/toy/models", "GET", **headers))[0] == 401
            assert (await request(f"{url}/metrics", "GET", **headers))[0] == 401
            assert (await request(f"{url}/healthz", "GET", **headers))[0] == 200
            assert json.loads((await request(f"{url}/readyz", "GET", **headers))[2]) == {"status": "ready"}
        assert not service.asked
        key = {"authorization": "Bearer secret"}
        assert (await request(f"{url}/toy/ask", **key))[0] == 200
        assert (await request(f"{url}/metrics", "GET", **key))[0] == 200
        assert "sandboxes" in json.loads((await request(f"{url}/readyz", "GET", **key))[2])


async def test_a_wrong_key_is_told_before_the_body_is_read() -> None:
    async with serving(settings=Settings(api_key=("secret",), max_body=10)) as (url, _):
        assert (await request(f"{url}/toy/ask", content_length="2"))[0] == 401


async def test_open_metrics() -> None:
    async with serving(settings=Settings(api_key=("secret",), metrics_open=True)) as (url, _):
        assert (await request(f"{url}/metrics", "GET"))[0] == 200


# --- settings ---------------------------------------------------------------------------------------------------------

LOOPBACK = {
    "127.0.0.1": True,
    "127.8.9.1": True,
    "::1": True,
    "[::1]": True,
    "localhost": True,
    "LOCALHOST.": True,
    "a.localhost": True,
    "0.0.0.0": False,
    "::": False,
    "10.0.0.1": False,
    "127.0.0.1.example.org": False,
    "localhost.example.org": False,
    "example.org": False,
    "": False,
}


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback(host: str) -> None:
    assert is_loopback(host) is LOOPBACK[host]


def test_others_need_a_key() -> None:
    with pytest.raises(ValueError, match=r"host: 0\.0\.0\.0 .*BELLJAR_SERVE_API_KEY"):
        Settings(host="0.0.0.0").check_exposure()
    with pytest.raises(ValueError, match=r"cors_origin: \*"):
        Settings(cors_origin=("*",)).check_exposure()
    Settings(host="0.0.0.0", cors_origin=("*",), api_key=("k",)).check_exposure()
    Settings().check_exposure()


WRONG: list[dict[str, Any]] = [
    {"port": -1},
    {"port": 65536},
    {"max_body": 0},
    {"heartbeat": 0.0},
    {"grace": -1.0},
    {"cors_origin": ("example.org",)},
    {"cors_origin": ("https://example.org/",)},
    {"cors_origin": ("https://example.org, https://example.com",)},
]


@pytest.mark.parametrize("fields", WRONG, ids=str)
def test_settings_that_cannot_be(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(fields))}: "):
        Settings(**fields)


# --- web pages --------------------------------------------------------------------------------------------------------

HOSTS = {
    "127.0.0.1:8787": True,
    "localhost": True,
    "localhost:1": True,
    "[::1]:8787": True,
    "LocalHost:8787": True,
    "evil.example.org": False,
    "evil.example.org:8787": False,
    "127.0.0.1.nip.io:8787": False,
    "": False,
    "[::1": True,
}


@pytest.mark.parametrize("host", HOSTS)
def test_hosts_without_keys(host: str) -> None:
    guard = Guard(Settings(), has_keys=False)
    if HOSTS[host]:
        guard.check({"host": host})
    else:
        with pytest.raises(Forbidden):
            guard.check({"host": host})
    Guard(Settings(), has_keys=True).check({"host": host})


def test_names_of_hosts() -> None:
    assert host_name("[::1]:80") == "::1"
    assert host_name("A.example.:80") == "a.example"
    Guard(Settings(host="127.0.0.1"), has_keys=False).check({})  # HTTP/1.0: no browser


async def test_pages_of_other_sites() -> None:
    async with serving(settings=Settings(cors_origin=(SITE,))) as (url, _):
        for origin in ("https://evil.example", "null", url, f"{SITE}:444", "http://localhost:3000"):
            status, headers, body = await request(f"{url}/toy/ask", origin=origin)
            assert status == 403
            assert "--cors-origin" in json.loads(body)["toy"]
            assert "access-control-allow-origin" not in headers
        status, headers, _ = await request(f"{url}/toy/ask", origin=SITE)
        assert (status, headers["access-control-allow-origin"], headers["vary"]) == (200, SITE, "origin")
        assert (await request(f"{url}/toy/ask", host="evil.example:80"))[0] == 403


async def test_errors_can_be_read_by_an_allowed_page() -> None:
    async with serving(settings=Settings(cors_origin=(SITE,))) as (url, _):
        status, headers, _ = await request(f"{url}/toy/nothing", origin=SITE)
    assert (status, headers["access-control-allow-origin"]) == (404, SITE)


async def test_preflights() -> None:
    wanted = {
        "access_control_request_method": "POST",
        "access_control_request_headers": "authorization, content-type",
        "access_control_request_private_network": "true",
    }
    async with serving(settings=Settings(cors_origin=(SITE,), api_key=("k",))) as (url, _):
        status, headers, _ = await request(f"{url}/toy/ask", "OPTIONS", origin=SITE, **wanted)
        assert status == 204
        assert headers["access-control-allow-origin"] == SITE
        assert "POST" in headers["access-control-allow-methods"]
        assert headers["access-control-allow-headers"] == "authorization, content-type"
        assert headers["access-control-allow-private-network"] == "true"
        _, headers, _ = await request(f"{url}/toy/ask", "OPTIONS", origin="https://evil.example", **wanted)
        assert not [name for name in headers if name.startswith("access-control")]
    async with serving(settings=Settings(cors_origin=("*",), api_key=("k",))) as (url, _):
        _, headers, _ = await request(f"{url}/toy/ask", "OPTIONS", origin="https://any.example", **wanted)
        assert headers["access-control-allow-origin"] == "https://any.example"
