"""OpenAI's Files and Uploads APIs through its own SDK, unchanged; and beside Google's, over the same files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import openai
import pytest
from google import genai
from google.genai import types

from sdks.responses import connect, python
from sdks.ways import VERBATIM
from servers import Belljar

CSV = b"city,people\nRome,3\nOslo,1\n"
HOUR, DAY = 3600, 86400
# The SDK's asynchronous client subclasses another library's class.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")


@pytest.fixture
def client(belljar: Belljar) -> Iterator[openai.OpenAI]:
    with connect(belljar.url) as made:
        for file in made.files.list():
            made.files.delete(file.id)
        yield made


def google(url: str) -> genai.Client:
    options = types.HttpOptions(base_url=url, api_version="v1")
    return genai.Client(api_key="any-key", vertexai=False, http_options=options)


def upload(client: openai.OpenAI, data: bytes = CSV, name: str = "people.csv", **more: Any) -> Any:
    return client.files.create(file=(name, data), **{"purpose": "user_data", **more})


def test_a_file_is_made_shown_read_and_deleted(client: openai.OpenAI) -> None:
    file = upload(client)
    assert file.id.startswith("file-")
    assert (file.object, file.bytes, file.filename, file.purpose) == ("file", len(CSV), "people.csv", "user_data")
    assert file.status == "processed"
    assert file.expires_at - file.created_at == 720 * HOUR
    assert client.files.retrieve(file.id) == file
    content = client.files.content(file.id)
    assert content.read() == CSV
    assert content.response.headers["content-type"] == "text/csv"
    assert content.response.headers["content-disposition"] == 'attachment; filename="people.csv"'
    deleted = client.files.delete(file.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (file.id, "file", True)
    for gone in (client.files.retrieve, client.files.delete, client.files.content):
        with pytest.raises(openai.NotFoundError) as caught:
            gone(file.id)
        assert caught.value.body == {
            "message": f"No such File object: {file.id}",
            "type": "invalid_request_error",
            "param": "id",
            "code": None,
        }


def test_under_groqs_base(belljar: Belljar, client: openai.OpenAI) -> None:
    with connect(belljar.url, path="/openai/v1") as other:
        assert client.files.retrieve(upload(other).id).bytes == len(CSV)


@pytest.mark.parametrize("purpose", ["assistants", "batch", "fine-tune", "vision", "user_data", "evals"])
def test_whatever_the_purpose_it_can_be_read(client: openai.OpenAI, purpose: Any) -> None:
    file = upload(client, purpose=purpose)
    assert file.purpose == purpose
    assert client.files.content(file.id).read() == CSV


def test_a_time_of_its_own(client: openai.OpenAI) -> None:
    for seconds, kept in ((HOUR, HOUR), (30 * DAY, 720 * HOUR)):
        file = upload(client, expires_after={"anchor": "created_at", "seconds": seconds})
        assert file.expires_at - file.created_at == kept


def test_pages(client: openai.OpenAI) -> None:
    ids = [upload(client, name=f"{n}.txt").id for n in range(5)]
    evals = upload(client, purpose="evals").id
    page = client.files.list(limit=2, purpose="user_data")
    assert ([file.id for file in page.data], page.has_more) == ([ids[4], ids[3]], True)
    assert [file.id for file in client.files.list(limit=2, purpose="user_data")] == ids[::-1]
    assert [file.id for file in client.files.list(limit=4, order="asc")] == [*ids, evals]
    assert [file.id for file in client.files.list(after=ids[1], order="asc", purpose="user_data")] == ids[2:]
    assert [file.id for file in client.files.list(purpose="evals")] == [evals]
    assert client.files.list(purpose="batch").data == []


NAMES = [
    ("Übersicht (1).csv", "_bersicht (1).csv"),
    ('a "quoted" name.txt', "a _quoted_ name.txt"),
    ("../../etc/passwd", "../../etc/passwd"),
    ("semi;colon=x.txt", "semi;colon=x.txt"),
    ("表.xlsx", "_.xlsx"),
    ("no ending", "no ending"),
    ("x" * 500, "x" * 500),
]


def test_odd_names(client: openai.OpenAI) -> None:
    parts: list[Any] = []
    for name, plain in NAMES:
        file = upload(client, name=name)
        assert file.filename == name
        assert f'filename="{plain}"' in client.files.content(file.id).response.headers["content-disposition"]
        parts.append({"type": "input_file", "file_id": file.id})
    code = python("import json, os; print(json.dumps(os.listdir('/mnt/data')))")
    ran: Any = client.responses.create(
        model=VERBATIM,
        input=[{"role": "user", "content": [*parts, {"type": "input_text", "text": code}]}],
        tools=[{"type": "code_interpreter", "container": {"type": "auto"}}],
        include=["code_interpreter_call.outputs"],
    )
    [call] = [item for item in ran.output if item.type == "code_interpreter_call"]
    inside = json.loads(call.outputs[0].logs)
    assert len(inside) == len(NAMES)
    for name in inside:
        assert 0 < len(name.encode()) <= 120
        assert not {"/", "\\", '"', ";"} & set(name)


def test_an_empty_file(client: openai.OpenAI) -> None:
    file = upload(client, b"")
    assert file.bytes == 0
    assert client.files.content(file.id).read() == b""


def test_a_file_over_the_bound_of_other_bodies(client: openai.OpenAI) -> None:
    data = hashlib.sha256(b"seed").digest() * (33 << 15)
    assert len(data) > 32 << 20
    file = upload(client, data, "big.bin")
    got = client.files.content(file.id).read()
    assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()


async def test_asynchronously(belljar: Belljar) -> None:
    async with openai.AsyncOpenAI(api_key="any-key", base_url=f"{belljar.url}/v1") as client:
        file = await client.files.create(file=("a.txt", b"hello"), purpose="user_data")
        assert (await client.files.content(file.id)).read() == b"hello"
        await client.files.delete(file.id)


REFUSED: list[tuple[Callable[[openai.OpenAI], object], str | None, str]] = [
    (lambda c: upload(c, purpose="poetry"), "purpose", "'poetry' is not one of"),
    (lambda c: upload(c, expires_after={"anchor": "last_used", "seconds": HOUR}), "expires_after.anchor", "created_at"),
    (lambda c: upload(c, expires_after={"anchor": "created_at", "seconds": 60}), "expires_after.seconds", "3600"),
    (lambda c: upload(c, name="x" * 513), "file", "512"),
    (lambda c: c.files.list(limit=0), "limit", "from 1 to 10000"),
    (lambda c: c.files.list(order="up"), "order", "`asc`"),  # type: ignore[arg-type]
    (lambda c: c.files.list(purpose="poetry"), "purpose", "is not one of"),
    (lambda c: c.files.list(after="file-none"), "after", "file-none"),
]


@pytest.mark.parametrize(("call", "param", "said"), REFUSED)
def test_refusals(client: openai.OpenAI, call: Callable[[openai.OpenAI], object], param: str, said: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        call(client)
    assert (caught.value.param, caught.value.type) == (param, "invalid_request_error")
    assert said in caught.value.message


# --- keys -------------------------------------------------------------------------------------------------------------


def test_two_keys(belljar: Belljar) -> None:
    url = belljar.listen(api_key=("one", "two"))
    with connect(url, "one") as one, connect(url, "two") as two, connect(url, "three") as stranger:
        file = upload(one)
        assert [found.id for found in one.files.list()] == [file.id]
        assert two.files.list().data == []
        for look in (two.files.retrieve, two.files.content, two.files.delete):
            with pytest.raises(openai.NotFoundError):
                look(file.id)
        with pytest.raises(openai.BadRequestError):
            two.files.list(after=file.id)
        with pytest.raises(openai.AuthenticationError):
            upload(stranger)
        announced = one.uploads.create(bytes=3, filename="a.txt", mime_type="text/plain", purpose="user_data")
        with pytest.raises(openai.NotFoundError):
            two.uploads.cancel(announced.id)
        with pytest.raises(openai.NotFoundError):
            two.uploads.parts.create(announced.id, data=b"abc")
        one.uploads.cancel(announced.id)
        one.files.delete(file.id)


# --- beside Google's API ----------------------------------------------------------------------------------------------


def test_both_vendors_see_the_same_files(belljar: Belljar, client: openai.OpenAI) -> None:
    with google(belljar.url) as other:
        mine = upload(client)
        theirs = other.files.upload(
            file=__file__, config=types.UploadFileConfig(display_name="Their file", name="their-file")
        )
        assert {file.id for file in client.files.list(purpose="user_data")} == {mine.id, "file-their-file"}
        assert {file.name for file in other.files.list()} == {f"files/{mine.id.removeprefix('file-')}", theirs.name}
        assert client.files.retrieve("file-their-file").filename == "Their file"
        assert other.files.get(name=f"files/{mine.id.removeprefix('file-')}").display_name == "people.csv"
        told = client.responses.create(
            model="test/echo",
            input=[{"role": "user", "content": [{"type": "input_file", "file_id": "file-their-file"}]}],
        )
        assert "OpenAI's Files and Uploads APIs" in json.loads(told.output_text)["messages"][-1]["content"]
        other.files.delete(name="files/their-file")
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve("file-their-file")


def test_the_path_that_both_have(belljar: Belljar) -> None:
    """`/v1/files` is Google's for Google's clients, and OpenAI's for others."""
    assert httpx.get(f"{belljar.url}/v1/files").json()["object"] == "list"
    assert "object" not in httpx.get(f"{belljar.url}/v1/files", headers={"x-goog-api-key": "k"}).json()
    assert httpx.get(f"{belljar.url}/v1/files/x?key=k").json()["error"]["status"] == "PERMISSION_DENIED"


# --- in parts ---------------------------------------------------------------------------------------------------------


def test_a_file_in_parts(client: openai.OpenAI) -> None:
    data = bytes(range(256)) * 40
    made = client.uploads.upload_file_chunked(
        file=data,
        filename="parts.bin",
        bytes=len(data),
        mime_type="application/octet-stream",
        purpose="user_data",
        part_size=4096,
        md5=hashlib.md5(data, usedforsecurity=False).hexdigest(),
    )
    assert (made.status, made.bytes) == ("completed", len(data))
    assert made.file is not None
    assert (made.file.filename, made.file.bytes) == ("parts.bin", len(data))
    assert client.files.content(made.file.id).read() == data
    with pytest.raises(openai.NotFoundError, match="No such Upload"):
        client.uploads.cancel(made.id)


def test_parts_in_their_own_order(client: openai.OpenAI) -> None:
    announced = client.uploads.create(
        bytes=10,
        filename="a.txt",
        mime_type="text/plain",
        purpose="assistants",
        expires_after={"anchor": "created_at", "seconds": HOUR},
    )
    assert (announced.status, announced.object) == ("pending", "upload")
    second, first = (client.uploads.parts.create(announced.id, data=data) for data in (b"world", b"hello"))
    assert (first.object, first.upload_id) == ("upload.part", announced.id)
    for wrong in ([first.id], [first.id, first.id], [first.id, "part_none"], []):
        with pytest.raises(openai.BadRequestError):
            client.uploads.complete(announced.id, part_ids=wrong)
    with pytest.raises(openai.BadRequestError, match="more"):
        client.uploads.parts.create(announced.id, data=b"!")
    done = client.uploads.complete(announced.id, part_ids=[first.id, second.id])
    assert done.file is not None
    assert client.files.content(done.file.id).read() == b"helloworld"
    assert done.file.expires_at is not None
    assert done.file.expires_at - done.file.created_at == HOUR


def test_an_upload_that_is_not_what_it_should_be(client: openai.OpenAI) -> None:
    def announce() -> Any:
        return client.uploads.create(bytes=3, filename="a.txt", mime_type="text/plain", purpose="user_data")

    announced = announce()
    part = client.uploads.parts.create(announced.id, data=b"abc")
    with pytest.raises(openai.BadRequestError, match="MD5"):
        client.uploads.complete(announced.id, part_ids=[part.id], md5="0" * 32)
    cancelled = client.uploads.cancel(announce().id)
    assert cancelled.status == "cancelled"
    for name in (cancelled.id, announced.id, "upload_none", "none"):
        with pytest.raises(openai.NotFoundError, match="No such Upload"):
            client.uploads.parts.create(name, data=b"abc")
    with pytest.raises(openai.APIStatusError) as caught:
        client.uploads.create(bytes=1 << 40, filename="a", mime_type="text/plain", purpose="user_data")
    assert caught.value.status_code == 413
