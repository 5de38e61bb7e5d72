"""The birth of a guest, as the host sees it: fork, who is it, into its group, go, ready.

Promises: the guest waits for `go` before it puts up its walls, so that everything it ever allocates counts to its
group; its pid comes from the kernel (SO_PASSCRED), not from the guest. Whatever fails, no descriptor and no process is
left.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import signal
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any

from belljar.errors import IsolationUnavailable, SandboxFailed
from belljar.guest import kernel
from belljar.guest.frames import FrameError, FrameReader, write_frame
from belljar.sandbox.cgroup import Group
from belljar.sandbox.handle import Guest
from belljar.sandbox.zygote import Zygote

HELLO_LIMIT = 1 << 16
CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7))
ANCILLARY = socket.CMSG_SPACE(CREDENTIALS.size) + socket.CMSG_SPACE(4)

Attach = Callable[[int], Awaitable[Group | None]]


async def bear(zygote: Zygote, request: dict[str, Any], attach: Attach, owner: int | None) -> Guest:
    """A guest that stands behind all its walls and waits for code.

    `attach` puts a pid into its group; `owner` is the uid that its files get. Raises IsolationUnavailable,
    SandboxFailed.
    """
    with contextlib.ExitStack() as stack:
        ours, theirs = socket.socketpair()
        stack.callback(ours.close)
        with theirs, contextlib.ExitStack() as handed_over:
            ends = []
            for _ in range(2):
                ends.append(os.pipe2(os.O_CLOEXEC))
                stack.callback(os.close, ends[-1][0])
                handed_over.callback(os.close, ends[-1][1])
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            status = zygote.fork(request, [theirs.fileno(), *(end for _, end in ends)])
        hello = Hello(ours)
        stack.callback(hello.close)
        await hello.expect("born", status)
        pidfd = kernel.pidfd_open(hello.pid)
        stack.callback(os.close, pidfd)
        stack.callback(_kill, pidfd)
        group = await attach(hello.pid)
        ours.send(write_frame({"op": "go"}))
        await hello.expect("ready", status)
        if len(hello.fds) != 1:
            raise SandboxFailed("a guest came without its folder")
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        stack.pop_all()
        return Guest(
            session=ours,
            stdout=ends[0][0],
            stderr=ends[1][0],
            pid=hello.pid,
            pidfd=pidfd,
            folder=hello.fds[0],
            status=status,
            group=group,
            uid=owner,
            zygote_lives=lambda: zygote.alive,
        )


class Hello:
    """The first frames of a guest, with the credentials and descriptors that the kernel delivers beside them."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._reader = FrameReader(HELLO_LIMIT)
        self.pid = 0
        self.fds: list[int] = []

    def close(self) -> None:
        """Close what came with the frames."""
        while self.fds:
            os.close(self.fds.pop())

    async def expect(self, op: str, status: asyncio.Future[int]) -> None:
        """Wait for the frame `op`. Raises IsolationUnavailable where the guest refuses, SandboxFailed where it ends."""
        while True:
            await _readable(self._sock)
            for head, _ in self._receive(status):
                if head.get("op") == op:
                    return
                if head.get("op") == "folder":  # came with the descriptor
                    continue
                if head.get("op") == "refused":
                    raise IsolationUnavailable(f"wall {head.get('wall')!r} cannot be put up here: {head.get('reason')}")
                raise SandboxFailed(f"a guest said {head.get('op')!r} where {op!r} was due")

    def _receive(self, status: asyncio.Future[int]) -> list[tuple[dict[str, Any], bytes]]:
        try:
            data, ancillary, _, _ = self._sock.recvmsg(HELLO_LIMIT, ANCILLARY, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return []
        except OSError:
            data, ancillary = b"", []
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                self.pid = CREDENTIALS.unpack(content[: CREDENTIALS.size])[0]
            elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received = array.array("i")
                received.frombytes(content[: len(content) - len(content) % received.itemsize])
                self.fds += received
        if not data:
            if status.done() and status.exception() is not None:
                raise SandboxFailed(str(status.exception()))
            raise SandboxFailed("a guest died before it was ready")
        try:
            return self._reader.feed(data)
        except FrameError as error:
            raise SandboxFailed(f"a guest began with {error}") from None


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_reader(sock)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)


def _kill(pidfd: int) -> None:
    with contextlib.suppress(OSError):
        kernel.pidfd_send_signal(pidfd, signal.SIGKILL)
