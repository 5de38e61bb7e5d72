"""Containers and files, through OpenAI's SDK: made, filled, used by responses, listed, deleted; and over a restart."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from sdks.responses import OUTPUTS, connect, connect_async, container_of, logs, python
from sdks.ways import VERBATIM
from servers import Belljar, start_belljar

REQUESTS = 50
CSV = b"name,age\nAnn,30\n"


@pytest.fixture
def client(belljar: Belljar) -> Iterator[openai.OpenAI]:
    with connect(belljar.url) as made:
        yield made


def run(client: openai.OpenAI, container: Any, code: str, **more: Any) -> Any:
    """Code in a container."""
    tool = {"type": "code_interpreter", "container": container}
    asked = {"model": VERBATIM, "input": python(code), "tools": [tool], "include": [OUTPUTS]}
    return client.responses.create(**asked | more)


def printed(client: openai.OpenAI, container: Any, code: str, **more: Any) -> str:
    return logs(run(client, container, code, **more)).strip()


def test_a_container(client: openai.OpenAI) -> None:
    made = client.containers.create(name="mine", expires_after={"anchor": "last_active_at", "minutes": 5})
    assert (made.name, made.object, made.status) == ("mine", "container", "running")
    assert made.expires_after is not None
    assert (made.expires_after.anchor, made.expires_after.minutes) == ("last_active_at", 5)
    assert printed(client, made.id, "kept = 41") == ""
    assert printed(client, made.id, "print(kept + 1)") == "42"
    assert client.containers.retrieve(made.id).name == "mine"
    assert made.id in [one.id for one in client.containers.list(limit=1)]
    client.containers.delete(made.id)
    for use in (lambda: client.containers.retrieve(made.id), lambda: run(client, made.id, "print(1)")):
        with pytest.raises(openai.NotFoundError):
            use()


def test_one_at_a_time(client: openai.OpenAI) -> None:
    """Requests at the same container take their turns; none loses what another one did."""
    made = client.containers.create(name="busy")
    code = "seen = globals().get('seen', 0)\nimport time\ntime.sleep(0.02)\nseen += 1\nprint(seen)"
    with ThreadPoolExecutor(8) as threads:
        told = list(threads.map(lambda _: printed(client, made.id, code), range(8)))
    assert sorted(told) == [str(number) for number in range(1, 9)]


def test_an_interpreter_that_has_ended(client: openai.OpenAI) -> None:
    made = client.containers.create(name="fragile")
    [call, _] = run(client, made.id, "open('n.txt', 'w').write('42')\nkept = 1\nimport os\nos._exit(3)").output
    assert call.type == "code_interpreter_call"
    after = printed(client, made.id, "print(open('n.txt').read(), 'kept' in globals())")
    assert after.startswith("42 False\n")
    assert "interpreter" in after
    assert printed(client, made.id, "print('again')") == "again"


def test_its_files(client: openai.OpenAI) -> None:
    made = client.containers.create(name="files")
    given = client.containers.files.create(made.id, file=("people.csv", CSV))
    assert (given.path, given.bytes, given.source) == ("/mnt/data/people.csv", len(CSV), "user")
    assert printed(client, made.id, "print(open('people.csv').read(), end='')") == CSV.decode().strip()
    run(client, made.id, "from pathlib import Path\nPath('out').mkdir()\nPath('out/n.txt').write_text('42')")
    files = {one.path: one for one in client.containers.files.list(made.id, limit=1)}
    assert files.keys() == {"/mnt/data/people.csv", "/mnt/data/out/n.txt"}
    left = files["/mnt/data/out/n.txt"]
    assert left.source == "assistant"
    assert client.containers.files.content.retrieve(left.id, container_id=made.id).read() == b"42"
    client.containers.files.delete(given.id, container_id=made.id)
    assert printed(client, made.id, "import os\nprint(os.path.exists('people.csv'))") == "False"
    with pytest.raises(openai.NotFoundError):
        client.containers.files.retrieve(given.id, container_id=made.id)


def test_uploaded_files(client: openai.OpenAI) -> None:
    """The vendor puts them at /mnt/data/<id>-<name>; a program that was given the name alone finds it, too."""
    file = client.files.create(file=("people.csv", CSV), purpose="user_data")
    assert (file.filename, file.bytes, file.purpose) == ("people.csv", len(CSV), "user_data")
    assert client.files.retrieve(file.id).id == file.id
    assert client.files.content(file.id).read() == CSV
    assert file.id in [one.id for one in client.files.list(limit=1, purpose="user_data")]
    listing = "import os\nprint(*sorted(os.listdir('/mnt/data')))"
    auto = {"type": "auto", "file_ids": [file.id]}
    assert f"{file.id}-people.csv" in printed(client, auto, listing)
    made = client.containers.create(name="given", file_ids=[file.id])
    assert f"{file.id}-people.csv" in printed(client, made.id, listing)
    again = client.containers.create(name="later")
    client.containers.files.create(again.id, file_id=file.id)
    assert "people.csv" in printed(client, again.id, listing)
    client.files.delete(file.id)
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)
    assert "people.csv" in printed(client, made.id, listing)  # the container has its own


def test_a_file_by_its_name_in_the_input(client: openai.OpenAI) -> None:
    file = client.files.create(file=io.BytesIO(CSV), purpose="user_data")
    code = {"type": "input_text", "text": python("import glob\nprint(open(glob.glob('/mnt/data/*')[0]).read())")}
    question: Any = [{"role": "user", "content": [{"type": "input_file", "file_id": file.id}, code]}]
    assert printed(client, {"type": "auto"}, "", input=question) == CSV.decode().strip()


def test_memory(client: openai.OpenAI) -> None:
    made = client.containers.create(name="small", memory_limit="1g")
    assert made.memory_limit == "1g"
    for limit in ("1g", "4g"):
        assert printed(client, {"type": "auto", "memory_limit": limit}, "print(1)") == "1"
    with pytest.raises(openai.BadRequestError):
        run(client, {"type": "auto", "memory_limit": "3g"}, "print(1)")


async def test_asynchronously(belljar: Belljar) -> None:
    async with connect_async(belljar.url) as client:
        made = await client.containers.create(name="async")
        given = await client.containers.files.create(made.id, file=("n.txt", b"42"))
        content = await client.containers.files.content.retrieve(given.id, container_id=made.id)
        assert content.read() == b"42"
        names = [one.path async for one in client.containers.files.list(made.id)]
        assert names == ["/mnt/data/n.txt"]
        await client.containers.delete(made.id)


def test_fifty_requests_and_a_restart(tmp_path: Path) -> None:
    """Files and stored responses are there again; that the interpreter is gone is said, once."""
    keep = {"data": tmp_path}
    said: list[str] = []
    with start_belljar({}, keep=keep) as belljar, connect(belljar.url) as client:
        made = client.containers.create(name="long")
        first = last = run(client, made.id, "count = 0\nopen('log.txt', 'w').close()")
        for number in range(REQUESTS // 2 - 1):
            code = f"count += 1\nopen('log.txt', 'a').write('{number} ')\nprint(count)"
            last = run(client, made.id, code, previous_response_id=last.id)
            said.append(logs(last).strip())
    assert said == [str(number + 1) for number in range(REQUESTS // 2 - 1)]
    with start_belljar({}, keep=keep) as belljar, connect(belljar.url) as client:
        assert logs(client.responses.retrieve(last.id, include=[OUTPUTS])) == logs(last)
        assert client.responses.retrieve(first.id).id == first.id
        after = run(client, made.id, "print('count' in globals())\nprint(len(open('log.txt').read().split()))")
        after_lines = logs(after).split("\n")
        assert "False" in after_lines
        assert str(REQUESTS // 2 - 1) in after_lines
        assert "interpreter" in logs(after)
        assert container_of(after) == made.id
        last = run(client, made.id, "count = 0", previous_response_id=last.id)
        assert "interpreter" not in logs(last)  # said once
        for number in range(REQUESTS // 2 - 2):
            last = run(client, made.id, "count += 1\nprint(count)", previous_response_id=last.id)
            assert logs(last).strip() == str(number + 1)
        [file] = client.containers.files.list(made.id)
        content = client.containers.files.content.retrieve(file.id, container_id=made.id).read()
        assert len(content.split()) == REQUESTS // 2 - 1
