"""Run a command as an ordinary container would: a seccomp filter refuses namespaces and mounts.

`python refuse_namespaces.py COMMAND...`: unshare, setns, mounts and clone with CLONE_NEW* get EPERM, clone3 ENOSYS.
"""

from __future__ import annotations

import os
import platform
import struct
import sys

from belljar.guest import kernel as k
from belljar.sandbox.syscalls import read_numbers

LOAD, EQUAL, ANY_BIT, RETURN = 0x20, 0x15, 0x45, 0x06
NUMBER, FIRST_ARGUMENT = 0, 16
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
EPERM, ENOSYS = 1, 38
REFUSED = {
    **dict.fromkeys(
        ("unshare", "setns", "mount", "umount2", "pivot_root", "mount_setattr", "fsopen", "open_tree"), EPERM
    ),
    "clone3": ENOSYS,
}
NEW_NAMESPACES = 0x7E020080


def program() -> bytes:
    numbers = read_numbers()[platform.machine()]
    lines = [(LOAD, 0, 0, NUMBER)]
    for name, error in REFUSED.items():
        lines += [(EQUAL, 0, 1, numbers[name]), (RETURN, 0, 0, ERRNO | error)]
    lines += [(EQUAL, 0, 3, numbers["clone"]), (LOAD, 0, 0, FIRST_ARGUMENT), (ANY_BIT, 0, 1, NEW_NAMESPACES)]
    lines += [(RETURN, 0, 0, ERRNO | EPERM), (RETURN, 0, 0, ALLOW)]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


if __name__ == "__main__":
    k.prctl(k.PR_SET_NO_NEW_PRIVS, 1)
    k.load_seccomp(program())
    os.execvp(sys.argv[1], sys.argv[1:])
