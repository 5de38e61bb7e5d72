"""The Containers and Container Files APIs as OpenAI's own SDK uses them; two clients with keys of their own."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import BadRequestError, NotFoundError, OpenAI
from tests.servers import Belljar, start_belljar

from belljar.dialects.attached import own_name
from belljar.model import Container

KEYS = ("first-key", "second-key")


@pytest.fixture(scope="module")
def belljar() -> Iterator[Belljar]:
    with start_belljar({}, settings={"api_key": KEYS}, ready=1, max_memory=4 << 30) as opened:
        yield opened


@pytest.fixture(scope="module")
def clients(belljar: Belljar) -> Iterator[list[OpenAI]]:
    opened = [OpenAI(base_url=f"{belljar.url}/v1", api_key=key, max_retries=0) for key in KEYS]
    yield opened
    for client in opened:
        client.close()


@pytest.fixture
def client(clients: list[OpenAI]) -> OpenAI:
    return clients[0]


def run(belljar: Belljar, client: OpenAI, container: str, code: str) -> Any:
    """Run code in a container, as a request would."""
    owner = next(iter({row.owner for row in rows(belljar) if f"cntr_{row.id}" == container}))

    async def work() -> Any:
        source = await belljar.service.containers.source(owner, Container(id=container.removeprefix("cntr_")))
        lease = await source.acquire()
        try:
            return await lease.run(code)
        finally:
            await lease.close()

    return belljar.call(work())


def rows(belljar: Belljar) -> list[Any]:
    homes = belljar.service.containers._homes
    found = [home.row for home in homes.values()]
    for key in KEYS:
        owner = belljar.call(owner_of(belljar, key))
        found += belljar.call(belljar.service.store.containers.page(owner, None, 100, False))[0]
    return found


async def owner_of(belljar: Belljar, key: str) -> str:
    return belljar._servers[0][0].app.keys.check(key)


def test_a_container_and_its_fields(client: OpenAI) -> None:
    made = client.containers.create(
        name="mine",
        expires_after={"anchor": "last_active_at", "minutes": 5},
        memory_limit="4g",
        network_policy={"type": "disabled"},
    )
    assert made.id.startswith("cntr_")
    assert (made.object, made.name, made.status, made.memory_limit) == ("container", "mine", "running", "4g")
    assert made.expires_after is not None
    assert (made.expires_after.anchor, made.expires_after.minutes) == ("last_active_at", 5)
    assert made.network_policy is not None
    assert made.network_policy.type == "disabled"
    assert client.containers.retrieve(made.id).model_dump() == made.model_dump()
    assert client.containers.delete(made.id) is None
    with pytest.raises(NotFoundError, match=f"Container with id '{made.id}' not found"):
        client.containers.retrieve(made.id)
    with pytest.raises(NotFoundError):
        client.containers.delete(made.id)


def test_lists_have_pages_and_names(client: OpenAI) -> None:
    made = [client.containers.create(name=f"page {n % 2}").id for n in range(5)]
    assert [each.id for each in client.containers.list(limit=2)] == made[::-1]  # the SDK goes on from page to page
    assert [each.id for each in client.containers.list(order="asc", limit=3)] == made
    assert [each.id for each in client.containers.list(name="page 1")] == [made[3], made[1]]
    page = client.containers.list(limit=2)
    assert (page.has_more, page.first_id, page.last_id) == (True, made[4], made[3])  # type: ignore[attr-defined]
    for query in ({"after": "cntr_none"}, {"limit": 0}, {"limit": 101}, {"order": "up"}):
        with pytest.raises(BadRequestError):
            client.containers.list(extra_query=query)
    for each in made:
        client.containers.delete(each)
    assert client.containers.list().data == []


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Makefile", "Makefile"),
        (".env", ".env"),
        ("my data (1).csv", "my data (1).csv"),
        ("../../etc/passwd", "passwd"),
        ("C:\\x\\日本.txt", "日本.txt"),
        ("a\nb\0c\u202e.txt", "abc.txt"),
        ("x" * 500 + ".csv", "x" * 116 + ".csv"),
        ("é" * 100 + ".md", "é" * 58 + ".md"),
        ("..", "file"),
        ("a/", "file"),
        ("", "file"),
    ],
)
def test_names_of_files(given: str, name: str) -> None:
    assert own_name(given) == name


def test_files_go_in_and_come_out(belljar: Belljar, client: OpenAI) -> None:
    container = client.containers.create(name="files").id
    sent = client.containers.files.create(container, file=('täglich & "so".csv', b"a,b\n1,2\n", "text/csv"))
    assert sent.id.startswith("cfile_")
    assert sent.path == '/mnt/data/täglich & "so".csv'
    assert (sent.object, sent.container_id, sent.bytes, sent.source) == ("container.file", container, 8, "user")
    assert client.containers.files.retrieve(sent.id, container_id=container).model_dump() == sent.model_dump()
    uploaded = client.files.create(file=("up.txt", b"uploaded"), purpose="user_data")
    copied = client.containers.files.create(container, file_id=uploaded.id)
    assert copied.path == f"/mnt/data/{uploaded.id}-up.txt"
    told = run(belljar, client, container, f"open({sent.path!r}).read() + open({copied.path!r}).read()")
    assert told.text == repr("a,b\n1,2\nuploaded")
    run(
        belljar, client, container, "import os; os.makedirs('out'); open('out/made.csv', 'wb').write(bytes(range(256)))"
    )
    made = client.containers.files.list(container).data[0]
    assert (made.path, made.source, made.bytes) == ("/mnt/data/out/made.csv", "assistant", 256)
    content = client.containers.files.content.retrieve(made.id, container_id=container)
    assert content.read() == bytes(range(256))
    assert content.response.headers["content-type"] == "text/csv"
    assert content.response.headers["content-disposition"] == 'attachment; filename="made.csv"'
    assert content.response.headers["x-content-type-options"] == "nosniff"
    client.containers.files.delete(made.id, container_id=container)
    for work in (client.containers.files.retrieve, client.containers.files.content.retrieve):
        with pytest.raises(NotFoundError, match=f"File {made.id} not found on container {container}"):
            work(made.id, container_id=container)
    assert run(belljar, client, container, "os.listdir('out')").text == "[]"
    assert [file.id for file in client.containers.files.list(container, order="asc", limit=1)] == [sent.id, copied.id]
    late = client.containers.files.create(container, file=("late.txt", b""))  # into the interpreter that lives
    assert run(belljar, client, container, f"os.path.getsize({late.path!r})").text == "0"
    client.containers.delete(container)


def test_a_container_is_made_with_uploaded_files(client: OpenAI) -> None:
    uploaded = client.files.create(file=("up.txt", b"uploaded"), purpose="user_data")
    container = client.containers.create(name="with", file_ids=[uploaded.id]).id
    client.files.delete(uploaded.id)
    (file,) = client.containers.files.list(container).data
    assert client.containers.files.content.retrieve(file.id, container_id=container).read() == b"uploaded"
    client.containers.delete(container)


REFUSED: dict[str, dict[str, Any]] = {
    "no name": {},
    "a name that is none": {"name": 3},
    "a name that is too long": {"name": "n" * 300},
    "an unknown field": {"name": "x", "colour": "red"},
    "no such memory": {"name": "x", "memory_limit": "2g"},
    "more memory than there is": {"name": "x", "memory_limit": "64g"},
    "no such anchor": {"name": "x", "expires_after": {"anchor": "created_at", "minutes": 5}},
    "no minutes": {"name": "x", "expires_after": {"anchor": "last_active_at"}},
    "no time": {"name": "x", "expires_after": {"anchor": "last_active_at", "minutes": 0}},
    "too long": {"name": "x", "expires_after": {"anchor": "last_active_at", "minutes": 100_000}},
    "a network": {"name": "x", "network_policy": {"type": "allowlist", "allowed_domains": ["example.org"]}},
    "skills": {"name": "x", "skills": [{"type": "skill_reference", "skill_id": "s"}]},
    "no such file": {"name": "x", "file_ids": ["file-none"]},
    "what is no file": {"name": "x", "file_ids": ["none"]},
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused(client: OpenAI, case: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        client.post("/containers", body=REFUSED[case], cast_to=object)
    assert refused.value.type == "invalid_request_error"
    assert refused.value.message
    assert client.containers.list().data == []


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{}"),
        ("application/json", b"["),
        ("application/json", b'{"file_id": "none"}'),
        ("application/json", b'{"file_id": "file-none"}'),
        ("text/plain", b"words"),
        ("multipart/form-data", b"words"),
        ("multipart/form-data; boundary=b", b'--b\r\ncontent-disposition: form-data; name="x"\r\n\r\n1\r\n--b--\r\n'),
        ("multipart/form-data; boundary=b", b'--b\r\ncontent-disposition: form-data; name="file"; filename="a'),
    ],
)
def test_a_file_that_is_none_is_refused(belljar: Belljar, client: OpenAI, kind: str, body: bytes) -> None:
    container = client.containers.create(name="x").id
    headers = {"content-type": kind, "authorization": f"Bearer {KEYS[0]}"}
    request = urllib.request.Request(f"{belljar.url}/openai/v1/containers/{container}/files", body, headers)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    with refused.value as reply:
        assert reply.code == 400
        assert json.load(reply)["error"]["type"] == "invalid_request_error"
    assert client.containers.files.list(container).data == []
    client.containers.delete(container)


def test_more_than_a_container_takes_is_refused(belljar: Belljar, client: OpenAI) -> None:
    container = client.containers.create(name="x").id
    limits = belljar.service.pool._limits
    belljar.service.pool._limits = type(limits)(files_bytes=1 << 20)
    try:
        with pytest.raises(openai.APIStatusError) as refused:
            client.containers.files.create(container, file=("large", bytes(2 << 20)))
        assert refused.value.status_code == 413
    finally:
        belljar.service.pool._limits = limits
        client.containers.delete(container)


def test_nobody_sees_or_touches_what_is_anothers(clients: list[OpenAI]) -> None:
    mine, other = clients
    container = mine.containers.create(name="mine").id
    file = mine.containers.files.create(container, file=("a", b"secret")).id
    uploaded = mine.files.create(file=("up.txt", b"uploaded"), purpose="user_data").id
    theirs = other.containers.create(name="theirs").id
    assert [each.id for each in other.containers.list()] == [theirs]
    for work in (
        lambda: other.containers.retrieve(container),
        lambda: other.containers.delete(container),
        lambda: other.containers.files.list(container),
        lambda: other.containers.files.create(container, file=("b", b"")),
        lambda: other.containers.files.retrieve(file, container_id=container),
        lambda: other.containers.files.retrieve(file, container_id=theirs),
        lambda: other.containers.files.content.retrieve(file, container_id=container),
        lambda: other.containers.files.content.retrieve(file, container_id=theirs),
        lambda: other.containers.files.delete(file, container_id=theirs),
    ):
        with pytest.raises(NotFoundError):
            work()
    for refused in (
        lambda: other.containers.files.create(theirs, file_id=uploaded),
        lambda: other.containers.create(name="x", file_ids=[uploaded]),
        lambda: other.containers.list(after=container),
    ):
        with pytest.raises(BadRequestError):
            refused()
    assert mine.containers.files.content.retrieve(file, container_id=container).read() == b"secret"
    for client in clients:
        for each in client.containers.list():
            client.containers.delete(each.id)


def test_an_expired_container_is_shown_as_such_and_cannot_be_used(belljar: Belljar, client: OpenAI) -> None:
    container = client.containers.create(name="old").id
    client.containers.files.create(container, file=("a", b""))
    containers = belljar.service.containers
    clock, containers._clock = containers._clock, lambda: clock() + 3600
    try:
        assert client.containers.retrieve(container).status == "expired"
        assert [each.status for each in client.containers.list()] == ["expired"]
        for work in (
            lambda: client.containers.files.list(container),
            lambda: client.containers.files.create(container, file=("b", b"")),
        ):
            with pytest.raises(BadRequestError) as refused:
                work()
            told = {"message": "Container is expired.", "type": "invalid_request_error", "param": None, "code": None}
            assert json.loads(refused.value.response.content)["error"] == told
    finally:
        containers._clock = clock
    client.containers.delete(container)
