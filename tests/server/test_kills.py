"""A server that is killed in the middle of writing loses nothing of what it has acknowledged."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest
from openai import OpenAI

SERVERS = Path(__file__).with_name("killable.py")
KILLS = 20
WRITES = (2, 15)  # acknowledged between a start and the kill
SECONDS = 10.0  # for that
MODEL = "belljar/verbatim"


class Servers:
    """One server at a time over one folder, each killed at its end."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process, self._folder = process, folder

    @contextmanager
    def one(self) -> Iterator[str]:
        """Its URL. It is killed at the end of the block."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{self._folder}\n")
        self._process.stdin.flush()
        pid, url = self._process.stdout.readline().split()
        try:
            yield f"{url}/v1"
        finally:
            os.kill(int(pid), signal.SIGKILL)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, str(SERVERS)], text=True, **pipes) as process:  # type: ignore[call-overload]
        yield Servers(process, tmp_path / "kept")
        process.stdin.close()


class Writers:
    """Threads that write for as long as the server answers, and remember what it has acknowledged."""

    def __init__(self) -> None:
        self.responses: dict[str, str] = {}  # id -> its text
        self.files: dict[str, str] = {}  # id -> digest
        self.copies: dict[tuple[str, str], str] = {}  # container and file -> digest
        self.items: dict[str, list[str]] = {}  # conversation -> ids of its items
        self.gone: set[str] = set()  # deleted responses
        self._client = OpenAI(base_url="http://127.0.0.1:9", api_key="none", max_retries=0, timeout=10)

    def at(self, url: str) -> OpenAI:
        return self._client.with_options(base_url=url)

    def run(self, url: str) -> list[threading.Thread]:
        client = self.at(url)
        ways: list[Callable[[OpenAI], None]] = [self.respond, self.upload, self.put, self.converse]
        threads = [threading.Thread(target=self._loop, args=(way, client)) for way in ways]
        for thread in threads:
            thread.start()
        return threads

    def wait_for(self, more: int) -> None:
        """Until so many more writes have been acknowledged."""
        wanted, deadline = self.count() + more, time.monotonic() + SECONDS
        while self.count() < wanted:
            assert time.monotonic() < deadline, "the server acknowledges nothing"
            time.sleep(0.001)

    def count(self) -> int:
        return len(self.responses) + len(self.files) + len(self.copies) + sum(map(len, self.items.values()))

    def _loop(self, way: Callable[[OpenAI], None], client: OpenAI) -> None:
        while True:
            try:
                way(client)
            except openai.APIConnectionError:
                return

    def respond(self, client: OpenAI) -> None:
        response = client.responses.create(model=MODEL, input=random.randbytes(200).hex())
        if random.random() < 0.2:
            client.responses.delete(response.id)
            self.gone.add(response.id)
        else:
            self.responses[response.id] = response.output_text

    def upload(self, client: OpenAI) -> None:
        data = random.randbytes(random.randrange(200_000))
        file = client.files.create(file=("data.bin", data), purpose="user_data")
        self.files[file.id] = hashlib.sha256(data).hexdigest()

    def put(self, client: OpenAI) -> None:
        container = client.containers.create(name="box")
        for name in ("a.bin", "b.bin", "c.bin"):
            data = random.randbytes(random.randrange(50_000))
            file = client.containers.files.create(container.id, file=(name, data))
            self.copies[container.id, file.id] = hashlib.sha256(data).hexdigest()

    def converse(self, client: OpenAI) -> None:
        conversation = client.conversations.create().id
        for _ in range(3):
            item = {"type": "message", "role": "user", "content": "hello"}
            added = client.conversations.items.create(conversation, items=[item])  # type: ignore[list-item]
            self.items.setdefault(conversation, []).extend(str(each.id) for each in added.data)

    def check(self, client: OpenAI) -> None:
        """Everything is there, and whole."""
        for identity, text in self.responses.items():
            assert client.responses.retrieve(identity).output_text == text
        for identity in self.gone:
            try:
                client.responses.retrieve(identity)
            except openai.NotFoundError:
                continue
            raise AssertionError("a deleted response is there again")
        for identity, digest in self.files.items():
            assert hashlib.sha256(client.files.content(identity).content).hexdigest() == digest
        for (box, identity), digest in self.copies.items():
            content = client.containers.files.content.retrieve(identity, container_id=box).content
            assert hashlib.sha256(content).hexdigest() == digest
        for conversation, ids in self.items.items():
            found = [item.id for item in client.conversations.items.list(conversation, order="asc")]
            assert found[: len(ids)] == ids


def test_kills_in_the_middle_of_writes(servers: Servers) -> None:
    writers = Writers()
    for _ in range(KILLS):
        with servers.one() as url:
            threads = writers.run(url)
            writers.wait_for(random.randint(*WRITES))
        for thread in threads:
            thread.join()
    assert min(len(each) for each in (writers.responses, writers.files, writers.copies, writers.items)) >= KILLS / 2
    with servers.one() as url:
        writers.check(writers.at(url))
