"""Outside a gVisor sandbox: starts `runsc`, waits, and cleans up behind it.

Promises: when the host dies, however it dies, the sandbox, its folder and its cgroups are gone soon after. The host's
end is seen on a socket of its own; `runsc` and its two processes die with this one (PR_SET_PDEATHSIG, theirs and ours).
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import sys
import time
from typing import Any, NoReturn

from . import kernel as k
from .launch import CLEAN_UP_SECONDS, die_with_parent, end_descendants, remove_cgroups


def main() -> None:
    """`gvisor-keeper LIFE CONTROL PLAN`: two descriptors, and the plan as JSON: command, folder, cgroups."""
    life, control = int(sys.argv[2]), int(sys.argv[3])
    plan: dict[str, Any] = json.loads(sys.argv[4])
    k.prctl(k.PR_SET_CHILD_SUBREAPER, 1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    folders = [os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) for path in plan["cgroups"]]
    gate, opener = os.pipe()
    keeper = os.getpid()
    runsc = os.fork()
    if runsc == 0:
        os.close(opener)
        _run(plan["command"], control, keeper, gate)
    os.close(control)
    os.close(gate)
    os.write(life, str(runsc).encode())  # the host puts it into a group, and says go
    if os.read(life, 1):
        os.write(opener, b"g")
    in_order = _wait(runsc, life)
    end_descendants()
    shutil.rmtree(plan["folder"], ignore_errors=True)
    if not in_order:
        _remove_groups(folders, plan["cgroups"])
    os._exit(0)


def _run(command: list[str], control: int, keeper: int, gate: int) -> NoReturn:
    try:
        die_with_parent(keeper)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        if os.read(gate, 1):
            os.dup2(control, 0)
            os.closerange(3, 1 << 16)
            os.execv(command[0], command)
    finally:
        os._exit(127)


def _wait(runsc: int, life: int) -> bool:
    """Until `runsc` has ended, or the host wants that or has gone; False where it has gone without a word."""
    poll = select.poll()
    poll.register(os.pidfd_open(runsc), select.POLLIN)
    poll.register(life, select.POLLIN)
    poll.poll()
    with contextlib.suppress(ProcessLookupError):
        os.kill(runsc, signal.SIGKILL)
    os.waitpid(runsc, 0)
    return not _is_closed(life) or _said_bye(life)


def _said_bye(life: int) -> bool:
    with contextlib.suppress(OSError):
        return bool(os.read(life, 1))
    return False


def _is_closed(life: int) -> bool:
    poll = select.poll()
    poll.register(life, select.POLLIN)
    return any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0))


def _remove_groups(folders: list[int], paths: list[str]) -> None:
    deadline = time.monotonic() + CLEAN_UP_SECONDS
    for folder, path in zip(folders, paths, strict=True):
        while not remove_cgroups(folder, path) and time.monotonic() < deadline:
            time.sleep(0.05)
