"""The runner of one session: takes code from the host, runs it in IPython, sends what came of it.

Promises: state stays between executions; standard output goes through descriptors 1 and 2, everything else as frames on
the session's socket. Nothing here is a wall: the code that runs can alter every object in this file, and harms itself
only. Frames host to guest: `go`, `run` (id, code). Guest to host: `born`, `refused`, `ready`, `result`, `done`.
"""

from __future__ import annotations

import builtins
import json
import os
import signal
import socket
import sys
import threading
import time
from typing import Any

from . import output
from .charts_model import CHART
from .frames import FrameReader, write_frame
from .shell import Shell
from .tracebacks import describe

SESSION_FD = 3
SAME_SECONDS = 0.5  # the host repeats an interrupt for less than this
READ_BYTES = 1 << 16
JSON_COST = 4  # how much more than others a byte of JSON counts, as the host reckons (sandbox/capture.py)
COMMAND_LIMIT = 64 << 20
_reader = FrameReader(COMMAND_LIMIT, COMMAND_LIMIT)


def take_descriptors(fds: list[int]) -> socket.socket:
    """Make the three descriptors that came with a fork request the guest's own; everything else stays for the walls."""
    session, out, err = fds
    null = os.open("/dev/null", os.O_RDONLY)
    spare = os.dup(session)
    for source, target in ((null, 0), (out, 1), (err, 2)):
        os.dup2(source, target)
    os.dup2(spare, SESSION_FD, inheritable=False)
    return socket.socket(fileno=SESSION_FD)


def send(session: socket.socket, head: dict[str, Any], blob: bytes = b"") -> None:
    """One frame to the host. Raises OSError when it has gone."""
    session.sendall(write_frame(head, blob))


def receive_one(session: socket.socket) -> tuple[dict[str, Any], bytes]:
    """The next command. Raises ConnectionError when the host has gone."""
    frames = _reader.feed(b"")
    while not frames:
        data = session.recv(READ_BYTES)
        if not data:
            raise ConnectionError("the host has gone")
        frames = _reader.feed(data)
    return frames[0]  # the host sends the next command only after this one's answer


class Guest:
    """The interpreter of a sandbox: made in the zygote, forked, then serving one session."""

    def __init__(self, spec: dict[str, Any]) -> None:
        builtins.input = _no_input
        self._running = False
        self._sending = False
        self._interrupted = False
        self._raised_at = 0.0  # when the last interrupt became an exception
        self._lock = threading.RLock()
        self._session: socket.socket | None = None
        self._execution = 0
        self._results_left = 0
        self._channels: output.Channels | None = None
        self._library = tuple(spec["library_folders"])
        self._shell = Shell.instance(emit=self._emit)

    def rehearse(self, codes: list[str]) -> None:
        """Run code whose traces are wanted in every guest (caches, lazy imports), then forget its names."""
        for code in codes:
            self._shell.run(code)
        self._shell.forget()

    def serve(self, session: socket.socket, request: dict[str, Any]) -> None:
        """Announce the session and run what comes, until the host closes it."""
        self._channels = output.Channels(SESSION_FD)
        self._results_limit = int(request["results_bytes"])
        output.open_streams(self._channels)
        signal.signal(signal.SIGINT, self._interrupt)
        self._shell.touch()
        self._session = session
        send(session, {"op": "ready"})
        while True:
            command, code = receive_one(session)
            self._run(command["id"], code.decode("utf-8", "surrogatepass"))

    def _run(self, number: int, code: str) -> None:
        self._execution, self._results_left = number, self._results_limit
        signal.signal(signal.SIGINT, self._interrupt)
        self._interrupted = False
        self._raised_at = 0.0
        self._running = True
        try:
            try:
                self._send({"op": "started", "id": number})
                error = self._shell.run(code)
            finally:
                self._running = False
        except KeyboardInterrupt as interrupt:  # it came between the code's end and ours
            error = interrupt
        output.flush()
        head: dict[str, Any] = {"op": "done", "id": number, "count": self._shell.execution_count - 1}
        if error is not None:
            head["error"] = describe(error, self._library)
        self._send(head)

    def _interrupt(self, *_: object) -> None:
        if self._sending:
            self._interrupted = True  # half a frame would be the end of the session: when it is out
        elif self._running and time.monotonic() - self._raised_at > SAME_SECONDS:
            self._raised_at = time.monotonic()
            raise KeyboardInterrupt

    def _emit(self, texts: dict[str, str], values: dict[str, Any], blobs: dict[str, bytes], main: bool) -> None:
        """Send one result; called by the shell's display hooks."""
        if self._session is None:
            return  # a rehearsal in the zygote
        parts = [(kind, data, "bytes") for kind, data in blobs.items()]
        parts += [(kind, text.encode("utf-8", "replace"), "text") for kind, text in texts.items()]
        parts += [(kind, json.dumps(value).encode(), "json") for kind, value in values.items()]
        size = _cost(parts)
        if size > self._results_left:
            parts = [part for part in parts if part[0] != CHART]  # rather the picture alone than none
            size = _cost(parts) if parts else size
        if size > self._results_left or not parts:
            note = f"[a result of {size:,} bytes left out: {self._results_left:,} of {self._results_limit:,} were free]"
            parts = [("text/plain", note.encode(), "text")]
        self._results_left -= min(size, self._results_left)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        if self._channels is not None:
            self._channels.settle(SESSION_FD)
        head = {"op": "result", "id": self._execution, "main": main, "text": {}, "json": {}}
        head["blobs"] = [[kind, len(data), form] for kind, data, form in parts]
        self._send(head, b"".join(data for _, data, _ in parts))

    def _send(self, head: dict[str, Any], blob: bytes = b"") -> None:
        """One frame, whole: threads take turns, and an interrupt of the main thread waits."""
        if self._session is None:
            return
        main = threading.current_thread() is threading.main_thread()
        with self._lock:
            self._sending = main
            try:
                send(self._session, head, blob)
            finally:
                self._sending = False
        if main and self._interrupted and self._running:
            self._interrupted = False
            self._raised_at = time.monotonic()
            raise KeyboardInterrupt


def _cost(parts: list[tuple[str, bytes, str]]) -> int:
    """What a result counts of the budget for results, in bytes."""
    return sum(len(data) * (JSON_COST if form == "json" else 1) for _, data, form in parts)


def _no_input(prompt: object = "") -> str:
    raise EOFError("this sandbox has no standard input: input() cannot be answered; put the value into the code")
