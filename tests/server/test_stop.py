"""The server's life as a process: the port, the start, signals, and that the stop is bounded."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from belljar.errors import HostError
from belljar.server.serve import listen, url_of

ROOT = Path(__file__).resolve().parents[2]
Start = Callable[..., "Process"]


class Process:
    """The stand-in, running."""

    def __init__(self, told: dict[str, Any]) -> None:
        told = {"settings": {"port": 0, "log_format": "json"} | told.pop("settings", {})} | told
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "tests.server.stand_in", json.dumps(told)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": f"{ROOT}/src:{ROOT}:{ROOT}/tests"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def port(self) -> int:
        assert self.popen.stdout is not None
        return int(json.loads(self.popen.stdout.readline())["url"].rpartition(":")[2])

    def connect(self, port: int) -> socket.socket:
        return socket.create_connection(("127.0.0.1", port), timeout=10)

    def end(self, *signals: int, pause: float = 0.1) -> tuple[int, float, str, str]:
        """Send signals; exit code, seconds, and what it said."""
        start = time.monotonic()
        for index, number in enumerate(signals):
            if index:
                time.sleep(pause)
            self.popen.send_signal(number)
        out, err = self.popen.communicate(timeout=15)
        return self.popen.returncode, time.monotonic() - start, out, err


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[Process] = []

    def begin(**told: Any) -> Process:
        started.append(Process(told))
        return started[-1]

    yield begin
    for process in started:
        if process.popen.poll() is None:
            process.popen.kill()
        process.popen.communicate(timeout=15)


def request(stream: bool = True, path: str = "/toy/ask") -> bytes:
    body = json.dumps({"stream": stream}).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def read_until(connection: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        chunk = connection.recv(65536)
        assert chunk, data
        data += chunk
    return data


def read_all(connection: socket.socket) -> bytes:
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    return data


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle_it_ends_at_once(start: Start, number: int) -> None:
    process = start()
    idle = process.connect(process.port())
    code, seconds, out, err = process.end(number)
    assert code == 0
    assert seconds < 2
    assert json.loads(out) == {"closed": True, "open": 0}
    assert err == ""
    assert idle.recv(1) == b""
    idle.close()


def test_what_runs_may_end(start: Start) -> None:
    process = start(seconds=1, settings={"grace": 10})
    with process.connect(process.port()) as connection:
        connection.sendall(request())
        assert b"200 OK" in connection.recv(1000)
        code, seconds, _, _ = process.end(signal.SIGTERM)
        assert read_all(connection).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
    assert code == 0
    assert seconds < 4


@pytest.mark.parametrize("stream", [True, False])
def test_what_does_not_end_is_ended_with_an_error(start: Start, stream: bool) -> None:
    process = start(seconds=60, settings={"grace": 0.3, "heartbeat": 0.1})
    port = process.port()
    with process.connect(port) as connection:
        connection.sendall(request(stream))
        assert b"200 OK" in connection.recv(1000)
        code, seconds, out, _ = process.end(signal.SIGTERM)
        rest = read_all(connection)
    assert b"the server is stopping" in rest
    assert rest.endswith(b"0\r\n\r\n")
    assert (code, json.loads(out)["open"]) == (0, 0)
    assert seconds < 4


def test_new_requests_are_refused_while_it_stops(start: Start) -> None:
    process = start(seconds=1.5, settings={"grace": 10})
    port = process.port()
    with process.connect(port) as running, process.connect(port) as kept:
        running.sendall(request())
        assert running.recv(1000)
        kept.sendall(b"GET /toy/models HTTP/1.1\r\nhost: localhost\r\n\r\n")
        read_until(kept, b'"a/b/c"]')
        process.popen.send_signal(signal.SIGTERM)
        time.sleep(0.4)
        with pytest.raises(ConnectionRefusedError):
            process.connect(port)
        kept.sendall(request())
        answer = read_all(kept)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"connection: close" in answer
        assert b"the server is stopping" in answer
        assert read_all(running).endswith(b"0\r\n\r\n")
    assert process.end()[0] == 0


def test_a_second_signal_skips_the_grace(start: Start) -> None:
    process = start(seconds=60, settings={"grace": 60})
    with process.connect(process.port()) as connection:
        connection.sendall(request())
        assert connection.recv(1000)
        code, seconds, out, _ = process.end(signal.SIGINT, signal.SIGINT, pause=0.4)
        assert b"the server is stopping" in read_all(connection)
    assert (code, json.loads(out)["open"]) == (130, 0)
    assert seconds < 5


def test_clean_up_that_hangs_does_not_keep_it(start: Start) -> None:
    process = start(seconds=60, settings={"grace": 0.1}, service={"cleanup": 60.0})
    with process.connect(process.port()) as connection:
        connection.sendall(request())
        assert connection.recv(1000)
        code, seconds, _, _ = process.end(signal.SIGTERM)
    assert code == 0
    assert seconds < 8


def test_a_signal_while_it_starts(start: Start) -> None:
    process = start(service={"start_seconds": 60.0}, settings={"port": (port := free_port())})
    deadline = time.monotonic() + 10
    while True:  # health is answered before the service has started
        try:
            with process.connect(port) as connection:
                connection.sendall(b"GET /toy/models HTTP/1.1\r\nhost: localhost\r\n\r\n")
                assert connection.recv(1000).startswith(b"HTTP/1.1 503 ")
                break
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    code, seconds, out, _ = process.end(signal.SIGTERM)
    assert (code, json.loads(out)) == (0, {"closed": True, "open": 0})
    assert seconds < 3


def test_under_load_it_ends_cleanly(start: Start) -> None:
    process = start(seconds=0.2, settings={"grace": 2})
    port = process.port()
    stop, bad = threading.Event(), []

    def client() -> None:
        while not stop.is_set():
            try:
                with process.connect(port) as connection:
                    connection.sendall(request(path="/toy/ask").replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
                    answer = read_all(connection)
            except OSError:
                return
            if answer and not answer.endswith(b"0\r\n\r\n") and b"503" not in answer:
                bad.append(answer)

    threads = [threading.Thread(target=client) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    code, seconds, out, _ = process.end(signal.SIGTERM)
    stop.set()
    for thread in threads:
        thread.join(timeout=10)
    assert (code, json.loads(out)["open"], bad) == (0, 0, [])
    assert seconds < 5


# --- the port ---------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(HostError, match=rf"cannot listen at 127\.0\.0\.1:{port}: Address already in use"):
            listen("127.0.0.1", port)


def test_addresses() -> None:
    for host, shown in {"127.0.0.1": "127.0.0.1", "localhost": "localhost"}.items():
        sockets = listen(host, 0)
        port = sockets[0].getsockname()[1]
        assert port
        assert {each.getsockname()[1] for each in sockets} == {port}
        assert url_of(sockets[0], host) == f"http://{shown}:{port}"
        for each in sockets:
            each.close()
    for host in ("no.such.host.invalid", "192.0.2.1"):
        with pytest.raises(HostError, match="cannot listen"):
            listen(host, 0)
