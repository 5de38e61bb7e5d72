"""Which interpreters of containers nobody uses now, and which of them are to end.

Promises: what is in use, or waited for, is not named; who holds most loses first, the longest idle one. Threads and
processes that code left behind may go on in an idle interpreter, but not keep a processor busy. Not covered: gVisor,
whose processes the host does not see.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable

from belljar.sandbox.threads import in_thread
from belljar.sandbox.watchdog import processor_seconds
from belljar.server.container_files import Home

BUSY = 0.1  # of a processor that an idle interpreter may use


def idle_ones(homes: Iterable[Home]) -> list[Home]:
    """Those whose interpreter lives and is not in use, the one that has been so longest first."""
    idle = [home for home in homes if home.session is not None and not home.users]
    return sorted(idle, key=lambda home: home.idle_since)


def next_to_go(homes: Iterable[Home]) -> Home | None:
    """The one that makes room: the longest idle one of the owner who has most of them; None where there is none."""
    idle = idle_ones(homes)
    if not idle:
        return None
    most, _ = Counter(home.row.owner for home in idle).most_common(1)[0]
    return next(home for home in idle if home.row.owner == most)


async def restless_ones(homes: Iterable[Home]) -> list[Home]:
    """Idle ones that have gone on computing since they were looked at last."""
    looked = [(home, home.session) for home in idle_ones(homes) if home.session is not None and home.session.visible]
    if not looked:
        return []
    times = await in_thread(processor_seconds, [session.pid for _, session in looked])
    now = time.monotonic()
    restless = []
    for (home, session), seconds in zip(looked, times, strict=True):
        if home.session is session and not home.users:
            before, home.used = home.used, (seconds, now)
            if before is not None and seconds - before[0] > BUSY * (now - before[1]):
                restless.append(home)
    return restless
