"""Walls that are known to leak: attacks that succeed today. Each is a bug to be mended, not a limit to live with.

Name of the attack -> where (all these tags: a profile, a user, `cgroups` or `no-cgroups`) -> what is wrong. The suite
expects these to fail, and fails itself when one of them holds: then its line has to go. Limits by design are in
docs/security.md.
"""

from __future__ import annotations

from collections.abc import Iterable

HOLES: dict[str, dict[str, str]] = {
    "leave_folders_too_deep_to_remove": {
        "gvisor": "with 1,000 nested folders an execution does not end at its deadline, nor at all within 40 s",
    },
}


# The same for walls that hold most of the time: they lost a race at least once, and are holes whatever a run sees.
RACES: dict[str, dict[str, str]] = {
    "fill_memory_in_background": {
        "no-cgroups": "the watchdog looks every 50 ms: on a loaded machine four children took 600 MiB between two, "
        "twice the limit, before they were killed; each process is bounded by RLIMIT_DATA, their sum is not"
    }
}


def maybe_hole(attack: str, tags: Iterable[str], table: dict[str, dict[str, str]] = HOLES) -> str | None:
    """What is known to be wrong with the wall that this attack tries, where these tags hold."""
    present = set(tags)
    return next((why for where, why in table.get(attack, {}).items() if set(where.split()) <= present), None)
