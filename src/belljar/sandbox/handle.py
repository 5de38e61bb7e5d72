"""What the host holds of a guest: descriptors and facts, and what the kernel says of its life."""

from __future__ import annotations

import asyncio
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass

from belljar.sandbox.cgroup import Group


@dataclass(kw_only=True)
class Guest:
    """What the host holds of a guest: descriptors and facts. `uid` is set where files must be given to another user.

    `end` ends all its processes where the death of the first does not take the others with it; it blocks.
    """

    session: socket.socket
    stdout: int
    stderr: int
    pid: int
    pidfd: int
    folder: int
    status: asyncio.Future[int]
    group: Group | None = None
    uid: int | None = None
    end: Callable[[], None] | None = None
    zygote_lives: Callable[[], bool] = lambda: True


def has_ended(pidfd: int) -> bool:
    """A pidfd becomes readable when its process ends; pidfd_open(2)."""
    if pidfd < 0:
        return False
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))
