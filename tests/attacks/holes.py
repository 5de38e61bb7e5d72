"""Walls that are known to leak: attacks that succeed today. Each is a bug to be mended, not a limit to live with.

Name of the attack -> where (all these tags: a profile, a user, `cgroups` or `no-cgroups`) -> what is wrong. The suite
expects these to fail, and fails itself when one of them holds: then its line has to go. Limits by design are in
docs/security.md.
"""

from __future__ import annotations

from collections.abc import Iterable

PARSED = (
    "the host parses all JSON that a guest sends (24 MB at a time) in its event loop: a second of it, 600 MB, each time"
)
UNSEEN = "the watchdog adds up what it finds by walking the folders; this it does not find"
TOO_DEEP = "os.fwalk and shutil.rmtree call themselves for each level: RecursionError up to Python 3.12"
RUNS_ON = "a guest that closes its session is taken for dead, but not killed: it runs on until the session is closed"
CORE = (
    "RLIMIT_CORE is 0, which does not hold for a core_pattern that is a pipe (core(5)): a crash runs the host's "
    "handler as root; only 1 prevents it"
)
TEE = "IPython keeps all that is printed in its history (_tee): a flood of output ends as out_of_memory in the end"
SHARED = "shared anonymous memory is in neither RLIMIT_DATA nor what the watchdog counts (it leaves shmem out)"
BOMB = (
    "RLIMIT_NPROC is 2,000 above the limit; watchdog, deadline and keeper look and kill one by one. Before the attack was "
    "bounded, a loaded machine lost that race: 2,078 processes outlived deadline, session and host"
)
UNWATCHED = "the watchdog looks only while code runs; what a child takes afterwards is not seen"

HOLES: dict[str, dict[str, str]] = {
    "touch_host_device": {
        "full": "the bind of /dev/null is writable and utimensat is allowed: the times of the host's node are changed"
    },
    "spy_on_host_activity": {
        "full": "inotify is allowed, and shared files are the host's inodes: a guest sees when they are used, and so "
        "what others run and import"
    },
    "exhaust_watchers": {
        "full": "inotify instances count by user on the whole host (128): one guest takes all of them, root's where "
        "root started it"
    },
    "crash_into_host_core_handler": dict.fromkeys(("full", "container"), CORE),
    "draw_same_openssl": {
        "full": "OpenSSL notices a fork by the pid, and zygote and guests are all pid 1: where an import has started "
        "its generator, all guests draw the same",
        "gvisor": "as in the full profile",
    },
    "see_host_connections": {
        "container": "/proc/self/net shows the host's connections, listeners and Unix sockets with their paths"
    },
    "inflate_host_memory": dict.fromkeys(("full", "container", "gvisor"), PARSED),
    "stall_host_by_strays": dict.fromkeys(
        ("full", "container", "gvisor"), PARSED + "; frames of no execution cost it next to nothing"
    ),
    "run_on_after_closing_session": dict.fromkeys(("full", "container"), RUNS_ON),
    "run_on_after_shutdown": dict.fromkeys(("full", "container"), RUNS_ON),
    "run_on_as_another_program": dict.fromkeys(("full", "container"), RUNS_ON),
    "outlive_session_by_fork": {
        "container": "children of an interpreter that has ended run on until the session is closed"
    },
    "exhaust_descriptors_in_flight": {
        "user": "a guest sends its folder to the host behind its own RLIMIT_NOFILE; descriptors in flight count by "
        "user, so one guest stops all births (ETOOMANYREFS)"
    },
    "disk_flood_in_unlinked_files": {"container": UNSEEN},
    "disk_flood_in_hidden_folder": {"container user": UNSEEN},
    "blind_watchdog_by_depth": {"container no-cgroups": TOO_DEEP + "; the watchdog of all sandboxes ends with that"},
    "leave_folders_too_deep_to_remove": {
        "container": TOO_DEEP + "; the folder stays",
        "gvisor": "with 1,000 nested folders an execution does not end at its deadline, nor at all within 40 s",
    },
    "fill_memory_in_children": {
        "docker no-cgroups": "the watchdog reads smaps_rollup, which root without CAP_SYS_PTRACE may not for another "
        "user's process: it takes that for 0 bytes and never kills"
    },
    "keep_all_that_is_printed": dict.fromkeys(("full", "container", "gvisor"), TEE),
    "fill_memory_in_background": {"no-cgroups": UNWATCHED},
    "fill_shared_memory": dict.fromkeys(("full no-cgroups", "container no-cgroups"), SHARED),
}


# The same for walls that hold most of the time: they lost a race at least once, and are holes whatever this run has seen.
RACES: dict[str, dict[str, str]] = {"fork_bomb_in_python": {"container no-cgroups": BOMB}}


def maybe_hole(attack: str, tags: Iterable[str], table: dict[str, dict[str, str]] = HOLES) -> str | None:
    """What is known to be wrong with the wall that this attack tries, where these tags hold."""
    present = set(tags)
    return next((why for where, why in table.get(attack, {}).items() if set(where.split()) <= present), None)
