"""Large bodies on their way to the disk, and files on their way back: bounds, ends, and what is left behind.

What the API says to OpenAI's own clients is tested with the SDKs.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from tests.server.fakes import FakeService, connected, serving

from belljar import registry
from belljar.server import exchange as exchanges
from belljar.server.files import FileStore
from belljar.server.settings import HttpLimits, Keep, Settings
from belljar.store.store import Store

DIALECTS = registry.find("belljar.dialects", "DIALECT")
MOST = 3 << 20  # bytes of a file
SETTINGS: dict[str, Any] = {"max_body": 1 << 20, "http": HttpLimits(drain_seconds=0.1)}
HASTY: dict[str, Any] = {"http": HttpLimits(body_seconds=0.5), "heartbeat": 0.2}


@dataclass
class Filing(FakeService):
    """The fake service with a store of files."""

    store: Store = field(default_factory=lambda: Store(None))
    files: Any = None
    app: Any = None

    def __post_init__(self) -> None:
        self.files = FileStore(self.store, Keep(keep_file=MOST))


@asynccontextmanager
async def filing(**settings: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Filing]]:
    """A server with the APIs of files, and a client of it."""
    service = Filing()
    await service.store.open()
    try:
        async with (
            serving(service, Settings(**SETTINGS | settings), dialects=DIALECTS) as (url, service.app),
            httpx.AsyncClient(base_url=url, trust_env=False) as client,
        ):
            yield client, service
    finally:
        await service.files.close()
        await service.store.close()


def left(service: Filing) -> int:
    """Uploads under way, and their files."""
    return len(list(service.store.blobs.parts.iterdir())) + len(service.files._uploads)


async def until_nothing_is_left(service: Filing) -> None:
    async with asyncio.timeout(5):
        while left(service):
            await asyncio.sleep(0.005)


def form(data: bytes, purpose: str = "user_data") -> dict[str, Any]:
    return {"data": {"purpose": purpose}, "files": {"file": ("a.bin", data)}}


HEAD = (
    b"POST /v1/files HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: multipart/form-data; boundary=xy\r\n"
    b"content-length: 1000000\r\n\r\n"
    b'--xy\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + bytes(10_000)
)


async def test_a_file_over_the_bound_of_other_bodies() -> None:
    async with filing() as (client, service):
        data = bytes(range(256)) * (MOST // 256)
        made = (await client.post("/v1/files", **form(data))).json()
        assert made["bytes"] == MOST
        assert (await client.get(f"/v1/files/{made['id']}/content")).content == data
        raw = await client.post("/upload/v1beta/files", content=data, headers={"x-goog-upload-protocol": "raw"})
        assert raw.json()["file"]["sizeBytes"] == str(MOST)
        assert (await client.post("/v1/conversations", content=b" " * (1 << 20) + b" {}")).status_code == 413
        assert left(service) == 0


async def test_too_large() -> None:
    async with filing() as (client, service):
        announced = await client.post("/v1/files", **form(bytes(MOST + 1)))
        assert (announced.status_code, announced.json()["error"]["type"]) == (413, "invalid_request_error")
        async with connected(str(client.base_url).rstrip("/")) as (reader, writer):
            writer.write(HEAD.replace(b"1000000", b"%d" % (1 << 50)))
            assert b" 413 " in await reader.readline()

        async def endless() -> AsyncIterator[bytes]:
            yield b'--xy\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
            while True:
                yield bytes(1 << 16)

        kind = {"content-type": "multipart/form-data; boundary=xy"}
        with suppress(httpx.TransportError):  # the server may end the connection before all of it is sent
            assert (await client.post("/v1/files", content=endless(), headers=kind)).status_code == 413
        for protocol in ({"x-goog-upload-protocol": "raw"}, {"x-goog-upload-protocol": "multipart"}):
            reply = await client.post("/upload/v1beta/files", content=bytes(MOST + 1), headers=protocol)
            assert reply.status_code in (400, 413)
            assert "status" in reply.json()["error"]
        await until_nothing_is_left(service)
        assert (await client.get("/v1/files")).json()["data"] == []


async def test_gzip() -> None:
    async with filing() as (client, _):
        request = client.build_request("POST", "/v1/files", **form(bytes(MOST)))
        packed = gzip.compress(await request.aread())
        kind = {"content-type": request.headers["content-type"], "content-encoding": "gzip"}
        made = await client.post("/v1/files", content=packed, headers=kind)
        assert made.json()["bytes"] == MOST
        for body, headers, status in (
            (packed[:-9], kind, 400),
            (b"no gzip", kind, 400),
            (packed, kind | {"content-encoding": "br"}, 415),
            (gzip.compress(bytes(MOST + (3 << 20))), kind, 400),
        ):
            reply = await client.post("/v1/files", content=body, headers=headers)
            assert reply.status_code == status, reply.text
        bomb = gzip.compress(await client.build_request("POST", "/", **form(bytes(20 << 20))).aread())
        assert (await client.post("/v1/files", content=bomb, headers=kind)).status_code in (400, 413)


WRONG = [
    (form(b"x", "poetry"), "purpose"),
    ({"files": {"file": ("a", b"x")}}, "purpose"),
    ({"data": {"purpose": "user_data"}, "files": {"other": ("a", b"x")}}, "file"),
    ({"files": {"purpose": (None, b"user_data")}}, "file"),
]


async def test_what_is_refused_leaves_nothing() -> None:
    async with filing() as (client, service):
        for body, param in WRONG:
            reply = await client.post("/v1/files", **body)
            assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
            assert left(service) == 0


async def test_a_client_that_goes_away_leaves_nothing() -> None:
    async with filing() as (client, service):
        async with connected(str(client.base_url).rstrip("/")) as (_, writer):
            writer.write(HEAD)
            async with asyncio.timeout(5):
                while not service.files._uploads:
                    await asyncio.sleep(0.001)
        await until_nothing_is_left(service)


async def test_a_client_that_is_too_slow() -> None:
    async with filing(**HASTY) as (client, service), connected(str(client.base_url).rstrip("/")) as (reader, writer):
        writer.write(HEAD)
        async with asyncio.timeout(5):
            assert b" 408 " in await reader.readline()
        await until_nothing_is_left(service)


async def test_a_client_that_is_slow_but_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that comes at more than the slowest pace may take longer than the time for others."""
    monkeypatch.setattr(exchanges, "SLOWEST", 10_000)
    async with filing(**HASTY) as (client, _):
        request = client.build_request("POST", "/v1/files", **form(bytes(20_000)))
        body = await request.aread()

        async def slowly() -> AsyncIterator[bytes]:
            yield body[:-100]
            await asyncio.sleep(0.8)
            yield body[-100:]

        kind = {"content-type": request.headers["content-type"]}
        assert (await client.post("/v1/files", content=slowly(), headers=kind)).json()["bytes"] == 20_000


async def test_a_file_that_is_deleted_under_way() -> None:
    async with filing() as (client, service):
        made = (await client.post("/v1/files", **form(bytes(MOST)))).json()["id"]
        path = f"/v1/files/{made}/content"
        async with client.stream("GET", path) as reply:
            assert (await client.delete(f"/v1/files/{made}")).json()["deleted"]
            assert len(await reply.aread()) == MOST
        assert (await client.get(path)).status_code == 404
        made = (await client.post("/v1/files", **form(b"x"))).json()["id"]
        file = await service.files.get("", made.removeprefix("file-"))
        service.files.path(file).unlink()
        gone = await client.get(f"/v1/files/{made}/content")
        assert (gone.status_code, gone.json()["error"]["message"]) == (404, "the file has been deleted")


async def test_who_goes_away_while_a_file_is_sent(caplog: pytest.LogCaptureFixture) -> None:
    async with filing() as (client, service):
        made = (await client.post("/v1/files", **form(bytes(MOST)))).json()["id"]
        async with connected(str(client.base_url).rstrip("/"), limit=1 << 10) as (reader, writer):
            writer.write(f"GET /v1/files/{made}/content HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())
            assert b" 200 " in await reader.readline()
            writer.transport.abort()
        async with asyncio.timeout(5):
            while service.app.running:
                await asyncio.sleep(0.005)
        assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_only_the_head() -> None:
    async with filing() as (client, _):
        made = (await client.post("/v1/files", **form(bytes(1000)))).json()["id"]
        reply = await client.head(f"/v1/files/{made}/content")
        assert (reply.status_code, reply.headers["content-length"], reply.content) == (200, "1000", b"")


KINDS = ["text/html\r\nX-Evil: 1", "text/plain\N{SNOWMAN}", "no type", "text/html"]


async def test_a_media_type_is_no_way_into_the_head() -> None:
    start = {"x-goog-upload-protocol": "resumable", "x-goog-upload-command": "start"}
    async with filing() as (client, _):
        for kind in KINDS:
            about = {"file": {"mimeType": kind, "displayName": "<b>\r\nX-Evil: 1\N{SNOWMAN}"}}
            begun = await client.post("/upload/v1beta/files", json=about, headers=start)
            url = begun.headers["x-goog-upload-url"]
            done = await client.post(url, content=b"x", headers={"x-goog-upload-command": "upload, finalize"})
            made = "file-" + done.json()["file"]["name"].removeprefix("files/")
            reply = await client.get(f"/v1/files/{made}/content")
            assert (reply.status_code, reply.content) == (200, b"x")
            assert "x-evil" not in reply.headers
            assert reply.headers["content-type"] in ("text/html", "application/octet-stream")
            assert reply.headers["content-disposition"].startswith("attachment; ")
            assert reply.headers["x-content-type-options"] == "nosniff"
