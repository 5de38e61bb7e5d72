"""The zygote's heap made cheap to fork: huge pages, and no holes that a guest's first objects would be put into.

A fork copies one page-table entry for each 4 KiB, or for 2 MiB; a guest pays 4 microseconds for each shared page that
it writes to first. Measured in notes/LOG.md.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile

from . import kernel as k

HUGE = 2 << 20
BYTES_OVERHEAD = 33
# "class size pools in-use free": the table that CPython prints about its small-object allocator
_CLASS_ROW = re.compile(r"^ *\d+ +(\d+) +\d+ +\d+ +(\d+)$", re.MULTILINE)


def collapse() -> int:
    """Put anonymous memory into huge pages now (Linux 6.1); how many bytes the kernel did it for."""
    done = 0
    with open("/proc/self/maps") as maps:
        lines = maps.readlines()
    for line in lines:
        fields = line.split()
        if fields[1] != "rw-p" or (len(fields) > 5 and fields[5] != "[heap]"):
            continue
        start, end = (int(word, 16) for word in fields[0].split("-"))
        start, end = -(-start // HUGE) * HUGE, end // HUGE * HUGE
        if end > start and k.collapse(start, end - start):
            done += end - start
    return done


def fill_holes() -> list[object]:
    """Objects that fill every free block of the pools in use; keep them. New objects then lie side by side in new
    pools.
    """
    filler: list[object] = []
    for size, free in ((int(a), int(b)) for a, b in _CLASS_ROW.findall(_allocator_table())):
        if size > BYTES_OVERHEAD + 8:
            filler += [bytes(size - BYTES_OVERHEAD - 8) for _ in range(free)]
        else:
            filler += [object() if size <= 16 else float(number) for number in range(free)]
    return filler


def _allocator_table() -> str:
    """What sys._debugmallocstats prints, which goes to descriptor 2; empty where this Python has no such function."""
    report = getattr(sys, "_debugmallocstats", None)
    if report is None:
        return ""
    with tempfile.TemporaryFile() as file:
        stderr = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            report()
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        file.seek(0)
        return file.read().decode(errors="replace")
