"""What a worker is before it starts Belljar: root, an ordinary user, or root in an ordinary container.

Covered: uid and gids; for the container, what Docker's defaults do to namespaces and mounts: its capabilities, and a
seccomp filter that answers as Docker's does; control groups that cannot be written. Not covered: Docker's other rules.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from pathlib import Path

from belljar.guest import kernel
from belljar.sandbox.syscalls import read_numbers

USER = 54321  # an id that no account has
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
EPERM, ENOSYS = 1, 38
NAMESPACE_FLAGS = 0x7E020000
# Docker's default profile, as far as it concerns isolation: what a container without CAP_SYS_ADMIN is refused.
REFUSED = (  # noqa: SIM905 -- a table of words
    "unshare setns mount umount2 pivot_root fsopen fsconfig fsmount fspick move_mount open_tree mount_setattr "
    "bpf perf_event_open keyctl add_key request_key userfaultfd kexec_load kexec_file_load init_module "
    "finit_module delete_module swapon swapoff reboot sethostname setdomainname quotactl acct syslog "
    "open_by_handle_at fanotify_init lookup_dcookie io_uring_setup io_uring_enter io_uring_register"
).split()
# CHOWN DAC_OVERRIDE FOWNER FSETID KILL SETGID SETUID SETPCAP NET_BIND_SERVICE NET_RAW SYS_CHROOT MKNOD AUDIT_WRITE
# SETFCAP
KEPT_CAPABILITIES = (0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31)


def become_user(home: Path, place: Path) -> None:
    """Become an ordinary user for good. The images at `home` are shown at `place`, should their folder be private.

    Raises OSError where this process may not.
    """
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
    kernel.mount(str(home), str(place), None, kernel.MS_BIND)
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 1)


def become_container() -> None:
    """Become a process in an ordinary container, for good. Raises OSError where this process may not."""
    if os.geteuid() == 0:
        kernel.unshare(kernel.CLONE_NEWNS)
        kernel.mount(None, "/", None, kernel.MS_REC | kernel.MS_PRIVATE)
        for path in _group_mounts():
            kernel.mount(None, path, None, kernel.MS_REMOUNT | kernel.MS_BIND | kernel.MS_RDONLY)
        _drop_capabilities()
    else:
        kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.load_seccomp(container_filter())


def _group_mounts() -> list[str]:
    """Where control groups are mounted (proc_pid_mountinfo(5))."""
    lines = (line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines())
    return [words[4] for words in lines if words[words.index("-") + 1] in ("cgroup", "cgroup2")]


def _drop_capabilities() -> None:
    """The bounding set now; the others by `keep_capabilities`, once the filter is in, which needs CAP_SYS_ADMIN."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in set(range(41)) - set(KEPT_CAPABILITIES):
        libc.prctl(kernel.PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0)


def keep_capabilities() -> None:
    """Drop every capability that a container's root does not have. Raises OSError."""
    kept = sum(1 << capability for capability in KEPT_CAPABILITIES) if os.geteuid() == 0 else 0
    kernel._syscall("capset", struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", kept, kept, 0, 0, 0, 0))


def container_filter() -> bytes:
    """The filter as an array of struct sock_filter (linux/filter.h)."""
    numbers = read_numbers()[platform.machine()]
    answers = {numbers[name]: ERRNO | EPERM for name in REFUSED if name in numbers} | {
        numbers["clone3"]: ERRNO | ENOSYS
    }
    code = [(0x20, 0, 0, 4), (0x15, 1, 0, AUDIT_ARCH[platform.machine()]), (0x06, 0, 0, ALLOW), (0x20, 0, 0, 0)]
    for number, answer in answers.items():
        code += [(0x15, 0, 1, number), (0x06, 0, 0, answer)]
    code += [
        (0x15, 0, 3, numbers["clone"]),
        (0x20, 0, 0, 16),
        (0x45, 0, 1, NAMESPACE_FLAGS),
        (0x06, 0, 0, ERRNO | EPERM),
    ]
    code.append((0x06, 0, 0, ALLOW))
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in code)
