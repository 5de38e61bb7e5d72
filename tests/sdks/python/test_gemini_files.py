"""Google's Files API through its own SDK, unchanged: uploading, listing, using by URI, deleting."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from google import genai
from google.genai import types
from google.genai.errors import ClientError

from servers import Belljar

CSV = b"city,people\nRome,3\nOslo,1\n"
CODE = types.GenerateContentConfig(tools=[types.Tool(code_execution=types.ToolCodeExecution())])
PIECE = 8 << 20  # bytes that the SDK sends at a time
# The SDK's asynchronous client subclasses another library's class.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")


def connect(url: str, key: str = "any-key", version: str = "v1beta") -> genai.Client:
    return genai.Client(api_key=key, vertexai=False, http_options=types.HttpOptions(base_url=url, api_version=version))


@pytest.fixture
def client(belljar: Belljar) -> Iterator[genai.Client]:
    with connect(belljar.url) as made:
        yield made
        for file in made.files.list():
            made.files.delete(name=str(file.name))


def upload(client: genai.Client, data: bytes = CSV, kind: str = "text/csv", title: str | None = None) -> types.File:
    config = types.UploadFileConfig(mime_type=kind, display_name=title)
    return client.files.upload(file=io.BytesIO(data), config=config)


def test_a_file_on_disk(client: genai.Client, belljar: Belljar, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_bytes(CSV)
    file = client.files.upload(file=path)
    assert file.name is not None
    assert file.name.startswith("files/")
    assert file.uri == f"{belljar.url}/v1beta/{file.name}"
    assert (file.mime_type, file.size_bytes) == ("text/csv", len(CSV))
    assert file.sha256_hash == base64.b64encode(hashlib.sha256(CSV).hexdigest().encode()).decode()
    assert (file.state, file.source) == (types.FileState.ACTIVE, types.FileSource.UPLOADED)
    assert file.expiration_time is not None
    assert file.create_time is not None
    assert file.expiration_time - file.create_time == timedelta(hours=48)
    assert client.files.get(name=file.name) == file


def test_a_file_in_several_pieces(client: genai.Client) -> None:
    data = bytes(range(256)) * (2 * PIECE // 256) + b"the end"
    file = upload(client, data, "application/octet-stream", "big")
    assert (file.size_bytes, file.display_name) == (len(data), "big")
    assert file.sha256_hash == base64.b64encode(hashlib.sha256(data).hexdigest().encode()).decode()


def test_a_file_of_whole_pieces(client: genai.Client) -> None:
    assert upload(client, b"x" * PIECE).size_bytes == PIECE


def test_an_empty_file(client: genai.Client) -> None:
    assert not upload(client, b"", "text/plain").size_bytes


def test_listing(client: genai.Client) -> None:
    names = [str(upload(client).name) for _ in range(5)]
    pager = client.files.list(config=types.ListFilesConfig(page_size=2))
    assert [file.name for file in pager.page] == names[:2:-1]
    assert [file.name for file in client.files.list(config={"page_size": 2})] == names[::-1]
    client.files.delete(name=names[0])
    assert [file.name for file in client.files.list()] == names[:0:-1]


def test_a_name_of_ones_own(client: genai.Client) -> None:
    config = types.UploadFileConfig(mime_type="text/csv", name="my-people")
    assert client.files.upload(file=io.BytesIO(CSV), config=config).name == "files/my-people"
    with pytest.raises(ClientError, match="already"):
        client.files.upload(file=io.BytesIO(CSV), config=config)


def test_code_reads_an_uploaded_file(client: genai.Client) -> None:
    """What the model is told of it is where the code finds it."""
    file = upload(client, title="people.csv")
    answer = client.models.generate_content(model="test/echo", contents=[file, "How many?"], config=CODE)
    told = json.loads(str(answer.text))["messages"][-1]["content"]
    assert "[Attached file: /mnt/data/people.csv (text/csv, 26 bytes)]" in told
    code = "```python\nprint(open('/mnt/data/people.csv').read(), end='')\n```"
    ran = client.models.generate_content(model="belljar/verbatim", contents=[file, code], config=CODE)
    assert ran.code_execution_result == CSV.decode()


def test_text_is_told_where_there_is_no_code(client: genai.Client) -> None:
    answer = client.models.generate_content(model="test/echo", contents=[upload(client), "How many?"])
    assert CSV.decode() in json.loads(str(answer.text))["messages"][-1]["content"]


def test_in_an_interaction(client: genai.Client) -> None:
    file = upload(client, title="people.csv")
    code = {"type": "text", "text": "```python\nprint(open('/mnt/data/people.csv').read())\n```"}
    document = {"type": "document", "uri": file.uri, "mime_type": "text/csv"}
    tools = [{"type": "code_execution"}]
    first = client.interactions.create(model="belljar/verbatim", input=[document, code], tools=tools)
    assert first.steps[1].result == CSV.decode() + "\n"
    second = client.interactions.create(
        model="belljar/verbatim", input=[code], tools=tools, previous_interaction_id=first.id
    )
    assert second.steps[1].result == CSV.decode() + "\n"


def test_what_is_gone(client: genai.Client) -> None:
    file = upload(client)
    name = str(file.name)
    client.files.delete(name=name)
    for gone in (lambda: client.files.get(name=name), lambda: client.files.delete(name=name)):
        with pytest.raises(ClientError) as caught:
            gone()
        assert (caught.value.code, caught.value.status) == (403, "PERMISSION_DENIED")
    with pytest.raises(ClientError, match="no uploaded file"):
        client.models.generate_content(model="test/echo", contents=[file, "How many?"])


def test_what_was_uploaded_is_not_downloaded(client: genai.Client) -> None:
    name = str(upload(client).name)
    with pytest.raises(ClientError, match="only generated files"):
        client.files.download(file=name)


async def test_asynchronously(client: genai.Client) -> None:
    file = await client.aio.files.upload(file=io.BytesIO(CSV), config={"mime_type": "text/csv"})
    assert (await client.aio.files.get(name=str(file.name))) == file
    assert [found.name async for found in await client.aio.files.list()] == [file.name]
    await client.aio.files.delete(name=str(file.name))
    await client.aio.aclose()


@pytest.mark.parametrize("version", ["v1", "v1beta", "v1beta1", "v1alpha"])
def test_versions(belljar: Belljar, version: str) -> None:
    with connect(belljar.url, version=version) as client:
        file = upload(client)
        assert file.uri == f"{belljar.url}/{version}/{file.name}"
        client.files.delete(name=str(file.name))


def test_owners_are_apart(belljar: Belljar) -> None:
    url = belljar.listen(api_key=("one", "two"))
    with connect(url, "one") as one, connect(url, "two") as two:
        file = upload(one)
        assert [found.name for found in one.files.list()] == [file.name]
        assert list(two.files.list()) == []
        with pytest.raises(ClientError, match="403"):
            two.files.get(name=str(file.name))
        with pytest.raises(ClientError, match="no uploaded file"):
            two.models.generate_content(model="test/echo", contents=[file, "x"])
        one.files.delete(name=str(file.name))
    with connect(url, "three") as stranger, pytest.raises(ClientError, match="401"):
        upload(stranger)


# --- as REST clients do -----------------------------------------------------------------------------------------------

START = {"X-Goog-Upload-Protocol": "resumable", "X-Goog-Upload-Command": "start"}


def begin(belljar: Belljar, **headers: str) -> str:
    reply = httpx.post(f"{belljar.url}/upload/v1beta/files", headers=START | headers, json={"file": {}})
    assert (reply.status_code, reply.headers["x-goog-upload-status"]) == (200, "active")
    return reply.headers["x-goog-upload-url"]


def send(url: str, command: str, data: bytes = b"", offset: int = 0) -> httpx.Response:
    headers = {"X-Goog-Upload-Command": command, "X-Goog-Upload-Offset": str(offset)}
    return httpx.post(url, headers=headers, content=data)


def test_resuming(belljar: Belljar) -> None:
    url = begin(belljar)
    assert send(url, "upload", b"hello ").headers["x-goog-upload-status"] == "active"
    asked = send(url, "query")
    assert (asked.headers["x-goog-upload-status"], asked.headers["x-goog-upload-size-received"]) == ("active", "6")
    refused = send(url, "upload", b"again", 0)
    assert (refused.status_code, refused.headers["x-goog-upload-status"]) == (400, "final")
    send(url, "upload", b"world", 6)
    done = send(url, "finalize")
    assert done.headers["x-goog-upload-status"] == "final"
    assert done.json()["file"]["sizeBytes"] == "11"
    assert send(url, "query").status_code == 404


def test_giving_up(belljar: Belljar) -> None:
    url = begin(belljar)
    assert send(url, "cancel").headers["x-goog-upload-status"] == "cancelled"
    assert send(url, "upload, finalize", b"x").status_code == 404


MULTIPART = (
    b'--x y\r\nContent-Type: application/json\r\n\r\n{"file": {"displayName": "My file"}}\r\n'
    b"--x y\r\nContent-Type: text/csv\r\n\r\na\r\n\nb\r\n--x y--\r\n"
).replace(b"x y", b"xy")
WHOLE = [
    ({"X-Goog-Upload-Protocol": "raw", "Content-Type": "text/csv"}, b"a,b\n", "4", None),
    (
        {"X-Goog-Upload-Protocol": "multipart", "Content-Type": "multipart/related; boundary=xy"},
        MULTIPART,
        "5",
        "My file",
    ),
    ({"Content-Type": 'multipart/related; boundary="xy"'}, MULTIPART.replace(b"\r\n", b"\n"), "4", "My file"),
]


@pytest.mark.parametrize(("headers", "body", "size", "title"), WHOLE)
def test_at_once(belljar: Belljar, headers: dict[str, str], body: bytes, size: str, title: str | None) -> None:
    file = httpx.post(f"{belljar.url}/upload/v1beta/files", headers=headers, content=body).json()["file"]
    assert (file["mimeType"], file["sizeBytes"], file.get("displayName")) == ("text/csv", size, title)


REFUSED: list[tuple[dict[str, str], bytes]] = [
    ({}, b"{}"),
    (START, b"["),
    (START, b'{"file": 7}'),
    (START, b'{"file": {"name": "files/NOT OK"}}'),
    (START | {"X-Goog-Upload-Header-Content-Length": "-1"}, b"{}"),
    (START | {"X-Goog-Upload-Header-Content-Length": "999999999999"}, b"{}"),
    ({"Content-Type": "multipart/related"}, b""),
    ({"Content-Type": "multipart/related; boundary=xy"}, b"--xy--"),
]


@pytest.mark.parametrize(("headers", "body"), REFUSED)
def test_refusals(belljar: Belljar, headers: dict[str, str], body: bytes) -> None:
    reply = httpx.post(f"{belljar.url}/upload/v1beta/files", headers=headers, content=body)
    assert reply.status_code in (400, 413)
    assert reply.json()["error"]["status"] == "INVALID_ARGUMENT"


def test_pages_that_are_none(belljar: Belljar) -> None:
    for query in ("pageSize=x", "pageToken=nope"):
        assert httpx.get(f"{belljar.url}/v1beta/files?{query}").status_code == 400
