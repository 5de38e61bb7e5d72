"""The container profile: for hosts that refuse namespaces, such as an ordinary container.

Weaker than the full profile, and named so: guests share the host's view of processes and of paths (names and sizes of
files can be learnt), files are kept apart by Landlock and, where the host is root, by a uid for each guest; there is
no network at all.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from belljar.errors import IsolationUnavailable
from belljar.guest import kernel
from belljar.guest.launch import descendants
from belljar.guest.trees import remove_tree
from belljar.sandbox.base import Limits
from belljar.sandbox.cgroup import is_alive, pid_namespace, process_mark
from belljar.sandbox.forkserver import ForkServer
from belljar.sandbox.handle import Guest, has_ended

PREFIX = "belljar-"
SWEEPS = 50
BACKSTOP = 4  # times a guest's own limit: others of the same user may start processes meanwhile


class Container(ForkServer):
    """Needs Landlock ABI 6 (Linux 6.12) for the scope of signals."""

    profile = "container"
    _needs_folder = True
    _base = ""

    def _prepare(self) -> None:
        if self._is_root:
            for path in (self._image.path, self._image.base_prefix, Path(tempfile.gettempdir())):
                _check_reachable(path)
        super()._prepare()

    def _unlimited(self) -> frozenset[str]:
        """No tmpfs of its own for files. Processes are counted by uid, which guests share where the host is no root."""
        return super()._unlimited() | {"files"} | (frozenset() if self._is_root else frozenset({"processes"}))

    def _request(self, number: int, uid: int, folder: str, limits: Limits) -> dict[str, Any]:
        request = super()._request(number, uid, folder, limits)
        if not self._is_root:  # a backstop; the watchdog is quicker
            request["rlimits"]["RLIMIT_NPROC"] = _tasks_of_user() + BACKSTOP * limits.processes
        return request

    def _scratch(self) -> str:
        _sweep_folders()
        self._base = tempfile.mkdtemp(prefix=f"{PREFIX}{process_mark(os.getpid())}-{pid_namespace()}-")
        os.chmod(self._base, 0o711)  # passed through, not listed
        scratch = f"{self._base}/zygote"
        os.mkdir(scratch, 0o700)
        return scratch

    def _make_folder(self, number: int, owner: int | None) -> str:
        folder = f"{self._base}/{number}-{os.urandom(8).hex()}"
        os.mkdir(folder, 0o700)
        if owner is not None:
            os.chown(folder, owner, owner)
        return folder

    def _ender(self, guest: Guest) -> Callable[[], None] | None:
        return lambda: _end_processes(guest, {zygote.pid: zygote.own_pid for zygote in self._zygotes})

    def _remove_folder(self, folder: str) -> None:
        remove_tree(folder)

    def _clean_up(self) -> None:
        if self._base:
            remove_tree(self._base)


def _tasks_of_user() -> int:
    """Processes and threads of this user: what RLIMIT_NPROC counts."""
    tasks = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == os.getuid():
                tasks += len(os.listdir(folder / "task"))
    return tasks


def _check_reachable(path: Path) -> None:
    """A guest of root runs under an id of its own, and sees the host's folders as any stranger does."""
    for folder in (path, *path.parents):
        if not folder.stat().st_mode & 0o001:
            hint = (
                "keep image, interpreter and TMPDIR in folders open to others (images: BELLJAR_HOME=/var/lib/belljar)"
            )
            raise IsolationUnavailable(f"{path} cannot be reached by the ids of sandboxes: {folder} is closed; {hint}")


def _end_processes(guest: Guest, zygotes: Mapping[int, int]) -> None:
    """End a guest and all that it started. Its orphans are below it, as its first process is their subreaper; where
    that has died, they are below the zygote's keeper, which has no other child but the zygote. `zygotes`: keeper ->
    zygote. Its pid means the guest only as long as the pidfd says that it lives: the number may be another's then.
    """

    def members() -> set[int]:
        return set() if has_ended(guest.pidfd) else descendants(guest.pid)

    def orphans() -> set[int]:
        return {pid for pair in zygotes.items() for pid in _orphans(*pair)}

    with contextlib.suppress(OSError):
        kernel.pidfd_send_signal(guest.pidfd, signal.SIGSTOP)
    _stop_all(members)
    for _ in range(SWEEPS):
        left = members() | orphans()
        for pid in left:
            _send(pid, signal.SIGKILL)
        if not left:
            break
    with contextlib.suppress(OSError):
        kernel.pidfd_send_signal(guest.pidfd, signal.SIGKILL)
    for pid in orphans():
        _send(pid, signal.SIGKILL)


def _stop_all(find: Callable[[], set[int]]) -> None:
    """Stop processes until no new ones appear, so that none can start another while they are ended one by one."""
    stopped: set[int] = set()
    for _ in range(SWEEPS):
        new = find() - stopped
        if not new:
            return
        for pid in new:
            _send(pid, signal.SIGSTOP)
        stopped |= new


def _orphans(keeper: int, zygote: int) -> set[int]:
    """Processes below a keeper that are neither its zygote nor below it."""
    return descendants(keeper) - descendants(zygote) - {zygote}


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, number)


def _sweep_folders() -> None:
    """Remove what hosts that no longer live have left."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*-*-*-*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == os.geteuid() and not is_alive(folder.name.removeprefix(PREFIX)):
                remove_tree(str(folder))
