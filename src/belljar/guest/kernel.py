"""The kernel's facilities that Python 3.11 has no name for: one thin ctypes call each, errors as OSError.

Covered: namespaces, mounts, capabilities, prctl, seccomp, Landlock, openat2, pidfd signals, madvise.
Not covered: policy. What to do with these calls is written in `walls`, `root` and `zygote`.
Sources: the manual page of each call (section 2), and Documentation/userspace-api/landlock.rst.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_python = ctypes.PyDLL(None, use_errno=True)  # keeps the interpreter's lock during the call

# name -> (x86_64, aarch64): arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h
SYSCALLS = {
    "setfsuid": (122, 151),
    "setfsgid": (123, 152),
    "capset": (126, 91),
    "pivot_root": (155, 41),
    "seccomp": (317, 277),
    "pidfd_send_signal": (424, 424),
    "pidfd_open": (434, 434),
    "openat2": (437, 437),
    "mount_setattr": (442, 442),
    "landlock_create_ruleset": (444, 444),
    "landlock_add_rule": (445, 445),
    "landlock_restrict_self": (446, 446),
}
ARCHES = {"x86_64": 0, "aarch64": 1}

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
MNT_DETACH = 2

MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 1, 2, 4, 8
AT_FDCWD, AT_RECURSIVE = -100, 0x8000

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP = 1, 4, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 36, 38, 47
PR_CAP_AMBIENT_CLEAR_ALL = 4

RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH = 1, 2, 4, 8

MADV_COLLAPSE = 25
SECCOMP_SET_MODE_FILTER = 1
LANDLOCK_CREATE_RULESET_VERSION = 1
LANDLOCK_RULE_PATH_BENEATH = 1

# Right -> bit, in the order in which the ABI grew (linux/landlock.h).
LANDLOCK_FS = {
    name: 1 << bit
    for bit, name in enumerate(
        [
            "execute",
            "write_file",
            "read_file",
            "read_dir",
            "remove_dir",
            "remove_file",
            "make_char",
            "make_dir",
            "make_reg",
            "make_sock",
            "make_fifo",
            "make_block",
            "make_sym",
            "refer",
            "truncate",
            "ioctl_dev",
        ]
    )
}
LANDLOCK_NET = {"bind_tcp": 1, "connect_tcp": 2}
LANDLOCK_SCOPE = {"abstract_unix_socket": 1, "signal": 2}


def _number(name: str) -> int:
    try:
        return SYSCALLS[name][ARCHES[platform.machine()]]
    except KeyError:
        raise OSError(38, f"{name}: no syscall number for {platform.machine()}") from None


def _checked(name: str, value: int) -> int:
    if value < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return value


def _syscall(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _checked(name, _libc.syscall(ctypes.c_long(_number(name)), *wide))


def fork() -> int:
    """fork(2) without Python's hooks: the child of a process with one thread needs none of the locks made anew.

    os.fork runs every hook that an import has registered, and they write to 250 pages that would be shared otherwise
    (1 ms and 0.7 MB a guest). What they would do for us, new random state, `reseed` does. The C library's own
    pthread_atfork handlers run as always. Raises OSError.
    """
    return _checked("fork", _python.fork())


def unshare(flags: int) -> None:
    """Move this process (for pids: its children) into new namespaces. Raises OSError."""
    _checked("unshare", _libc.unshare(ctypes.c_int(flags)))


def setns(fd: int, flags: int) -> None:
    """Enter the namespace that `fd` names. Raises OSError."""
    _checked("setns", _libc.setns(ctypes.c_int(fd), ctypes.c_int(flags)))


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """mount(2). Raises OSError that names the target."""
    words = [w.encode() if w is not None else None for w in (source, target, kind, options)]
    done = _libc.mount(words[0], words[1], words[2], ctypes.c_ulong(flags), words[3])
    _checked(f"mount {kind or source} at {target}", done)


def unmount(target: str, flags: int = MNT_DETACH) -> None:
    """umount2(2). Raises OSError."""
    _checked(f"umount {target}", _libc.umount2(target.encode(), ctypes.c_int(flags)))


def pivot_root(new: str, old: str) -> None:
    """Make `new` the root of this mount namespace and put the old root at `old`. Raises OSError."""
    _syscall("pivot_root", new.encode(), old.encode())


def mount_setattr(path: str, attributes: int) -> None:
    """Set mount attributes on a whole mount tree (Linux 5.12). Raises OSError."""
    attr = struct.pack("=QQQQ", attributes, 0, 0, 0)
    _syscall("mount_setattr", AT_FDCWD, path.encode(), AT_RECURSIVE, attr, len(attr))


def prctl(option: int, *values: int) -> int:
    """prctl(2). Raises OSError."""
    wide = [ctypes.c_ulong(v) for v in (*values, 0, 0, 0, 0)[:4]]
    return _checked(f"prctl {option}", _libc.prctl(ctypes.c_int(option), *wide))


def drop_capabilities() -> None:
    """Empty every capability set of this thread, the bounding and the ambient one too. Raises OSError."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    prctl_may = _libc.prctl
    for capability in range(64):
        if prctl_may(ctypes.c_int(PR_CAPBSET_DROP), ctypes.c_ulong(capability), 0, 0, 0) < 0:
            if ctypes.get_errno() == 1 and not _has_no_capability():
                raise OSError(1, "capability bounding set: Operation not permitted")
            break  # EINVAL: past the last capability of this kernel
    clear_capabilities()


def clear_capabilities() -> None:
    """Empty the permitted, effective and inheritable sets of this thread. Raises OSError."""
    header = struct.pack("=Ii", 0x20080522, 0)
    _syscall("capset", header, struct.pack("=6I", 0, 0, 0, 0, 0, 0))


def _has_no_capability() -> bool:
    """Whether dropping is not needed: without CAP_SETPCAP it is refused, which no_new_privs makes harmless."""
    with open("/proc/self/status") as status:
        return any(line.startswith("CapEff:") and int(line.split()[1], 16) == 0 for line in status)


def load_seccomp(program: bytes) -> None:
    """Install a filter: an array of struct sock_filter. Raises OSError."""
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("=HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    _syscall("seccomp", SECCOMP_SET_MODE_FILTER, 0, header)


def landlock_abi() -> int:
    """The kernel's Landlock ABI version, 0 where there is none."""
    try:
        return _syscall("landlock_create_ruleset", None, 0, LANDLOCK_CREATE_RULESET_VERSION)
    except OSError:
        return 0


def landlock_ruleset(files: int, network: int, scopes: int) -> int:
    """A new ruleset that handles these rights; returns its descriptor. Raises OSError."""
    attr = struct.pack("=QQQ", files, network, scopes)
    return _syscall("landlock_create_ruleset", attr, len(attr), 0)


def landlock_allow(ruleset: int, path_fd: int, rights: int) -> None:
    """Allow `rights` beneath the file or folder that `path_fd` names. Raises OSError."""
    _syscall("landlock_add_rule", ruleset, LANDLOCK_RULE_PATH_BENEATH, struct.pack("=Qi", rights, path_fd), 0)


def landlock_restrict_self(ruleset: int) -> None:
    """Put this thread and its children under the ruleset. Raises OSError."""
    _syscall("landlock_restrict_self", ruleset, 0)


def openat2(folder: int, path: str, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """Open `path` beneath the folder descriptor under `resolve` rules (Linux 5.6). Raises OSError."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve)
    return _syscall("openat2", folder, os.fsencode(path), how, len(how))


def set_file_ids(uid: int, gid: int) -> None:
    """Make this thread, and no other, act on files as this user; only root can. Raises OSError where it did not
    happen.
    """
    for name, number in (("setfsgid", gid), ("setfsuid", uid)):
        _syscall(name, number)
        if _syscall(name, number) != number:  # it returns the id before; setfsuid(2)
            raise OSError(1, f"{name} {number}: {os.strerror(1)}")


def pidfd_open(pid: int) -> int:
    """A descriptor for a process. Raises OSError."""
    return _syscall("pidfd_open", pid, 0)


def pidfd_send_signal(pidfd: int, number: int) -> None:
    """Send a signal to the process that `pidfd` names. Raises OSError."""
    _syscall("pidfd_send_signal", pidfd, number, None, 0)


def collapse(start: int, length: int) -> bool:
    """Ask for huge pages under this range now (Linux 6.1); whether the kernel did it."""
    return bool(_libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), MADV_COLLAPSE) == 0)


def flush_c_streams() -> None:
    """fflush(NULL): what C code has printed and the C library still holds."""
    _libc.fflush(None)
