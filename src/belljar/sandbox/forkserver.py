"""Sandboxes by forking zygotes: what the full and the container profile have in common.

Promises: every session comes from a zygote that lives; dead zygotes are replaced; groups, folders and processes are
gone after `close`, and what an earlier host left is swept at `start`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from belljar.errors import BelljarError, IsolationUnavailable, SandboxFailed
from belljar.guest import kernel
from belljar.sandbox import cgroup, plan
from belljar.sandbox.base import Limits, host_cpus
from belljar.sandbox.birth import Attach, bear
from belljar.sandbox.handle import Guest
from belljar.sandbox.image import Image
from belljar.sandbox.session import GuestSession
from belljar.sandbox.threads import in_thread
from belljar.sandbox.watchdog import Watchdog
from belljar.sandbox.zygote import Zygote, next_id

SPAWN_SECONDS = 20.0
RESTART_SECONDS = (0.05, 0.2, 1.0, 5.0)  # between attempts to replace a zygote that died
REMOVAL_TRIES = 100

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a fork server is run. `preload` None means the image's own list; `zygotes` 0 means one for each processor,
    at most 2.
    """

    limits: Limits = field(default_factory=Limits)
    preload: Sequence[str] | None = None
    zygotes: int = 0


class ForkServer:
    """Zygotes of one image and the sessions forked from them. Subclasses say what a profile needs beyond that."""

    profile = ""

    def __init__(self, image: Image, options: Options) -> None:
        self._image = image
        self._options = options
        self._limits = options.limits
        self._zygotes: list[Zygote] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._sessions: set[GuestSession] = set()
        self._removals: set[asyncio.Task[None]] = set()
        self._place: cgroup.Place | None = None
        self._spec: dict[str, Any] = {}
        self._next = 0
        self._closing = False
        self._watchdog: Watchdog | None = None
        self._is_root = os.geteuid() == 0 and _owns_ids()
        self.limiter = ""

    async def start(self) -> None:
        """Get ready. Raises IsolationUnavailable, ImageError, SandboxFailed."""
        try:
            await in_thread(self._prepare)
            count = self._options.zygotes or min(2, host_cpus())
            self._zygotes = [self._make_zygote() for _ in range(count)]
            async with asyncio.TaskGroup() as group:
                for zygote in self._zygotes:
                    group.create_task(zygote.start())
        except BaseException as error:
            await self.close()
            raise _first_of(error) from None
        self._keepers = [asyncio.create_task(self._keep(i)) for i in range(len(self._zygotes))]

    def _prepare(self) -> None:
        abi = kernel.landlock_abi()
        if abi < (needed := plan.LANDLOCK_MINIMUM[self.profile]):
            raise IsolationUnavailable(f"profile {self.profile!r} needs Landlock ABI {needed}, this kernel has {abi}")
        self._place, self.limiter = cgroup.find_place()
        if self._place is not None:
            try:
                cgroup.sweep(self._place)
                cgroup.create(self._place)
            except OSError as error:  # looked possible, is not
                self._place, self.limiter = None, f"{self.limiter}: {error}"
        if self._place is None:
            self.limiter = f"rlimits and a watchdog ({self.limiter})"
        if watch := self._unlimited():
            self._watchdog = Watchdog(watch)
        preload = self._image.preload if self._options.preload is None else self._options.preload
        self._spec = plan.zygote_spec(
            self._image,
            self.profile,
            preload=preload,
            landlock_abi=abi,
            is_root=self._is_root,
            cgroups=[str(folder) for folder in self._place.distinct] if self._place else [],
            scratch=self._scratch(),
        )

    async def session(self, memory: int | None = None) -> GuestSession:
        """A fresh session, ready to run; `memory` in bytes, None for that of all. Raises IsolationUnavailable,
        SandboxFailed.
        """
        number = next_id()
        limits = self._limits_with(memory)
        uid = 1 + number % (plan.ROOT_ID_COUNT - 1) if self._is_root else 0
        owner = plan.ROOT_ID_BASE + uid if self._is_root else None
        folder = await in_thread(self._make_folder, number, owner) if self._needs_folder else ""
        request = self._request(number, uid if self.profile == "full" or owner is None else owner, folder, limits)
        try:
            async with asyncio.timeout(SPAWN_SECONDS):
                guest = await bear(self._living_zygote(), request, self._attach(number, limits), owner)
        except BaseException as error:
            place = self._place
            self._discard(None if place is None else cgroup.Group(place=place, name=f"s{number}"), folder)
            if isinstance(error, TimeoutError):
                raise SandboxFailed(f"a sandbox was not ready in {SPAWN_SECONDS:.0f} s") from None
            raise
        guest.end = self._ender(guest)
        session = GuestSession(guest, limits, lambda ended: self._forget(ended, guest.group, folder))
        self._sessions.add(session)
        if self._watchdog is not None:
            self._watchdog.add(session)
        return session

    async def close(self) -> None:
        """End every session, zygote and group. Never raises."""
        self._closing = True
        for task in self._keepers:
            task.cancel()
        if self._watchdog is not None:
            self._watchdog.close()
        await asyncio.gather(*(zygote.close() for zygote in self._zygotes), return_exceptions=True)
        await asyncio.gather(*(session.close() for session in list(self._sessions)), return_exceptions=True)
        await asyncio.gather(*self._removals, *self._keepers, return_exceptions=True)
        if self._place is not None:
            await in_thread(cgroup.remove_place, self._place)
            self._place = None
        await in_thread(self._clean_up)

    @property
    def imports(self) -> dict[str, float]:
        """What the zygote has imported, and how long each import took, in milliseconds."""
        return self._zygotes[0].imports if self._zygotes else {}

    @property
    def zygote_pids(self) -> list[int]:
        """Pids of the launchers; the zygotes are below them."""
        return [zygote.pid for zygote in self._zygotes]

    def _unlimited(self) -> frozenset[str]:
        """The limits for which the kernel has no means here: RLIMIT_NPROC counts by user namespace, each guest has its
        own.
        """
        return frozenset() if self._place is not None else frozenset({"memory"})

    # What a profile without namespaces does beyond this.
    _needs_folder = False

    def _make_zygote(self) -> Zygote:
        return Zygote(self._image, self._spec)

    def _scratch(self) -> str:
        return ""

    def _make_folder(self, number: int, owner: int | None) -> str:
        return ""

    def _remove_folder(self, folder: str) -> None:
        pass

    def _ender(self, guest: Guest) -> Callable[[], None] | None:
        return None

    def _clean_up(self) -> None:
        pass

    def _living_zygote(self) -> Zygote:
        for _ in self._zygotes:
            self._next += 1
            zygote = self._zygotes[self._next % len(self._zygotes)]
            if zygote.alive:
                return zygote
        raise SandboxFailed("no zygote is alive; they are being started again")

    def _limits_with(self, memory: int | None) -> Limits:
        return self._limits if memory is None else dataclasses.replace(self._limits, memory=memory)

    def _request(self, number: int, uid: int, folder: str, limits: Limits) -> dict[str, Any]:
        return {
            "id": number,
            "uid": uid,
            "workdir": folder,
            "files_bytes": limits.files_bytes,
            "files_inodes": limits.files_count,
            "results_bytes": limits.results_bytes,
            "rlimits": plan.rlimits(limits, memory_by_kernel=self._place is not None),
        }

    def _attach(self, number: int, limits: Limits) -> Attach:
        async def attach(pid: int) -> cgroup.Group | None:
            if self._place is None:
                return None
            try:
                return await in_thread(cgroup.attach, self._place, f"s{number}", pid, limits)
            except FileNotFoundError:  # somebody has tidied our empty parent group away
                await in_thread(cgroup.create, self._place)
                return await in_thread(cgroup.attach, self._place, f"s{number}", pid, limits)

        return attach

    def _forget(self, session: GuestSession, group: cgroup.Group | None, folder: str) -> None:
        self._sessions.discard(session)
        if self._watchdog is not None:
            self._watchdog.discard(session)
        self._discard(group, folder)

    def _discard(self, group: cgroup.Group | None, folder: str) -> None:
        if group is not None or folder:
            task = asyncio.create_task(self._remove(group, folder))
            self._removals.add(task)
            task.add_done_callback(self._removals.discard)

    async def _remove(self, group: cgroup.Group | None, folder: str) -> None:
        for _ in range(REMOVAL_TRIES):
            if group is None or await in_thread(group.remove):
                break
            await asyncio.sleep(0.05)
        if folder:
            await in_thread(self._remove_folder, folder)

    async def _keep(self, index: int) -> None:
        """Replace a zygote whenever it ends."""
        while not self._closing:
            await self._zygotes[index].wait_ended()
            await self._zygotes[index].close()
            for pause in itertools.chain(RESTART_SECONDS, itertools.repeat(RESTART_SECONDS[-1])):
                await asyncio.sleep(pause)
                try:
                    if self._place is not None:
                        await in_thread(cgroup.create, self._place)
                    zygote = self._make_zygote()
                    await zygote.start()
                except (BelljarError, OSError) as error:
                    log.error("a zygote could not be started again: %s", error)
                    continue
                self._zygotes[index] = zygote
                break


def _owns_ids() -> bool:
    """Whether our user namespace has the ids that guests of root get: a rootless container's root has not."""
    with open("/proc/self/uid_map") as lines:
        spans = [tuple(map(int, line.split())) for line in lines]
    return any(inside <= plan.ROOT_ID_BASE < inside + count - plan.ROOT_ID_COUNT for inside, _, count in spans)


def _first_of(error: BaseException) -> BaseException:
    """The error inside a task group's, since callers catch by kind."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
