"""The numbers of Linux system calls, from the table beside this file (`syscalls.tsv`, up to Linux 6.18).

Covered: x86_64 (without x32) and aarch64 (without 32-bit ARM). Nothing is read on import.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

ARCHES = ("x86_64", "aarch64")  # the order of the table's columns
TABLE = Path(__file__).with_name("syscalls.tsv")


@cache
def read_numbers() -> dict[str, dict[str, int]]:
    """Number of each call by architecture, then by name. Raises OSError if the table is gone, ValueError if broken."""
    numbers: dict[str, dict[str, int]] = {arch: {} for arch in ARCHES}
    for line in TABLE.read_text(encoding="ascii").splitlines():
        if line.startswith("#"):
            continue
        name, *columns = line.split("\t")
        for arch, column in zip(ARCHES, columns, strict=True):
            if column != "-":
                numbers[arch][name] = int(column)
    return numbers


@cache
def known_names() -> frozenset[str]:
    """Every call that the table knows on any architecture."""
    return frozenset(name for arch in read_numbers().values() for name in arch)
