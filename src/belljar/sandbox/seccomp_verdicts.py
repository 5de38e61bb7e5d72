"""The vocabulary of the seccomp policy: actions, checks of arguments, and every verdict that looks at arguments.

Argument values that are allowed stand in tables, each with its reason; the verdicts are made from the tables. Which
call gets which verdict is in `seccomp_policy`. Numbers are the kernel's (include/uapi/linux, include/uapi/asm-generic);
they are the same on x86_64 and aarch64. Not covered: arguments in memory, which a filter cannot see (seccomp(2)).
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import Literal

Profile = Literal["full", "container"]
PROFILES: tuple[Profile, ...] = ("full", "container")


@dataclass(frozen=True, kw_only=True)
class Action:
    """What the kernel does: `value` is what the filter returns (SECCOMP_RET_*, seccomp(2))."""

    text: str
    value: int


@dataclass(frozen=True, kw_only=True)
class Check:
    """Whether argument `arg` (0 to 5), after `mask`, is one of `values`; or, with `negate`, none of them.

    Only the low 32 bits count unless `wide`: the kernel cuts ints, so their upper halves may hold anything.
    """

    arg: int
    values: tuple[int, ...]
    mask: int
    wide: bool = False
    negate: bool = False


@dataclass(frozen=True, kw_only=True)
class When:
    """`then`, if all of `checks` hold."""

    checks: tuple[Check, ...]
    then: Action


@dataclass(frozen=True, kw_only=True)
class Cases:
    """The first of `cases` that holds decides, else `otherwise`; `text` says it for people."""

    text: str
    cases: tuple[When, ...]
    otherwise: Action


Verdict = Action | Cases


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One value of an argument that is allowed; only in the full profile unless `container`."""

    name: str
    value: int
    reason: str
    container: bool


def _errno(number: int) -> Action:
    return Action(text=errno.errorcode[number], value=0x0005_0000 | number)


ALLOW = Action(text="allow", value=0x7FFF_0000)
KILL = Action(text="kill the process", value=0x8000_0000)
PRETEND = Action(text="pretend", value=0x0005_0000)
EPERM, ENOSYS, EINVAL, ENOTTY = map(_errno, (errno.EPERM, errno.ENOSYS, errno.EINVAL, errno.ENOTTY))
ENOTSUP, ENOPROTOOPT = _errno(errno.EOPNOTSUPP), _errno(errno.ENOPROTOOPT)

INT, LONG = 0xFFFF_FFFF, 0xFFFF_FFFF_FFFF_FFFF


def _is(arg: int, *values: int, mask: int = INT) -> Check:
    return Check(arg=arg, values=values, mask=mask)


def _none_of(arg: int, bits: int) -> Check:
    return _is(arg, 0, mask=bits)


def _any_of(arg: int, bits: int) -> Check:
    return Check(arg=arg, values=(0,), mask=bits, negate=True)


def _long_is(arg: int, *values: int, mask: int = LONG) -> Check:
    return Check(arg=arg, values=values, mask=mask, wide=True)


def _when(*checks: Check, then: Action = ALLOW) -> When:
    return When(checks=checks, then=then)


def _cases(text: str, *cases: When, otherwise: Action = EPERM) -> Cases:
    return Cases(text=text, cases=cases, otherwise=otherwise)


def _choices(reason: str, container: bool = True, **values: int) -> tuple[Choice, ...]:
    return tuple(Choice(name=n, value=v, reason=reason, container=container) for n, v in values.items())


def _values(choices: tuple[Choice, ...], profile: Profile) -> tuple[int, ...]:
    return tuple(c.value for c in choices if c.container or profile == "full")


# --- tables of allowed argument values, in the order in which they are compared: the frequent ones first --------------

IOCTLS = (
    *_choices("bytes waiting to be read or sent; the guest asks before every write", FIONREAD=0x541B, TIOCOUTQ=0x5411),
    *_choices("is this a terminal? (every open() in Python asks)", TCGETS=0x5401, TCGETS2=0x802C542A),
    *_choices("blocking or not (socket.setblocking)", FIONBIO=0x5421),
    *_choices("close-on-exec (os.set_inheritable)", FIOCLEX=0x5451, FIONCLEX=0x5450),
    *_choices("a terminal's size and owner: reading only", TIOCGWINSZ=0x5413, TIOCGPGRP=0x540F),
    *_choices("O_ASYNC on a descriptor; who gets the signal is fcntl's to set", FIOASYNC=0x5452),
    *_choices("size of a file", FIOQSIZE=0x5460),
    *_choices("socket.sockatmark", SIOCATMARK=0x8905),
    *_choices("reading the interfaces of the own network namespace", container=False, SIOCGIFCONF=0x8912),
    *_choices("reading the interfaces of the own network namespace", container=False, SIOCGIFNAME=0x8910),
    *_choices("reading the interfaces of the own network namespace", container=False, SIOCGIFINDEX=0x8933),
    *_choices("what psutil shows of an interface", container=False, SIOCGIFFLAGS=0x8913, SIOCGIFADDR=0x8915),
    *_choices("what psutil shows of an interface", container=False, SIOCGIFBRDADDR=0x8919, SIOCGIFNETMASK=0x891B),
    *_choices("what psutil shows of an interface", container=False, SIOCGIFMTU=0x8921, SIOCGIFHWADDR=0x8927),
)

PRCTLS = (
    *_choices("a thread's name", PR_SET_NAME=15, PR_GET_NAME=16),
    *_choices("naming of anonymous memory (glibc's malloc)", PR_SET_VMA=0x53564D41),
    *_choices("is a capability in the bounding set? (libcap asks when it is loaded)", PR_CAPBSET_READ=23),
    *_choices("reading the process's own state", PR_GET_PDEATHSIG=2, PR_GET_DUMPABLE=3, PR_GET_KEEPCAPS=7),
    *_choices("reading the process's own state", PR_GET_SECCOMP=21, PR_GET_SECUREBITS=27, PR_GET_CHILD_SUBREAPER=37),
    *_choices("already set, for good", PR_SET_NO_NEW_PRIVS=38, PR_GET_NO_NEW_PRIVS=39),
    *_choices("how exactly the own thread's sleeps end", PR_SET_TIMERSLACK=29, PR_GET_TIMERSLACK=30),
    *_choices("huge pages for the own process (allocators)", PR_SET_THP_DISABLE=41, PR_GET_THP_DISABLE=42),
    *_choices("vector length and tagged addresses, reading (aarch64)", PR_SVE_GET_VL=51, PR_GET_TAGGED_ADDR_CTRL=56),
    *_choices("the own auxiliary vector (Rust's search for CPU features)", PR_GET_AUXV=0x41555856),
    *_choices("adopting orphans stays within the guest's pid namespace", container=False, PR_SET_CHILD_SUBREAPER=36),
)
PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET = 47, 1

FCNTLS = (
    *_choices("flags of a descriptor and of an open file", F_GETFD=1, F_SETFD=2, F_GETFL=3, F_SETFL=4),
    *_choices("copies of a descriptor", F_DUPFD_CLOEXEC=1030, F_DUPFD=0, F_DUPFD_QUERY=1027),
    *_choices("record locks (sqlite); of the process or of the open file", F_GETLK=5, F_SETLK=6, F_SETLKW=7),
    *_choices("record locks (sqlite); of the process or of the open file", F_OFD_GETLK=36, F_OFD_SETLK=37),
    *_choices("record locks (sqlite); of the process or of the open file", F_OFD_SETLKW=38),
    *_choices("a pipe's size (subprocess)", F_SETPIPE_SZ=1031, F_GETPIPE_SZ=1032),
    *_choices("reading", F_GETOWN=9, F_GETSIG=11, F_GETOWN_EX=16, F_GET_SEALS=1034),
    *_choices("SIGIO to processes in the own pid namespace", container=False, F_SETOWN=8, F_SETSIG=10, F_SETOWN_EX=15),
)
# Refused with EPERM, other commands with EINVAL: leases and directory signals bear on others that use the file.
FCNTLS_REFUSED = {"F_SETOWN": 8, "F_SETSIG": 10, "F_SETOWN_EX": 15, "F_SETLEASE": 1024, "F_NOTIFY": 1026}

SOL_IP, SOL_SOCKET, SOL_TCP, SOL_IPV6 = 0, 1, 6, 41
LEVELS = {SOL_IP: "SOL_IP", SOL_SOCKET: "SOL_SOCKET", SOL_TCP: "SOL_TCP", SOL_IPV6: "SOL_IPV6"}
SOCKET_OPTIONS: dict[int, tuple[Choice, ...]] = {
    SOL_SOCKET: (
        *_choices("sizes, limits and time-outs of the own socket", SO_SNDBUF=7, SO_RCVBUF=8, SO_RCVLOWAT=18),
        *_choices("sizes, limits and time-outs of the own socket", SO_RCVTIMEO=20, SO_SNDTIMEO=21, SO_LINGER=13),
        *_choices("servers and clients on loopback", container=False, SO_REUSEADDR=2, SO_KEEPALIVE=9, SO_REUSEPORT=15),
        *_choices("servers and clients on loopback", container=False, SO_BROADCAST=6, SO_OOBINLINE=10, SO_DONTROUTE=5),
        *_choices("who is at the other end (multiprocessing)", container=False, SO_PASSCRED=16),
    ),
    SOL_TCP: (
        *_choices("asyncio and HTTP clients set it on each connection", container=False, TCP_NODELAY=1, TCP_CORK=3),
        *_choices("keep-alive", container=False, TCP_KEEPIDLE=4, TCP_KEEPINTVL=5, TCP_KEEPCNT=6, TCP_USER_TIMEOUT=18),
        *_choices("tuning that servers do", container=False, TCP_DEFER_ACCEPT=9, TCP_QUICKACK=12, TCP_LINGER2=8),
        *_choices("tuning that servers do", container=False, TCP_MAXSEG=2, TCP_FASTOPEN=23, TCP_NOTSENT_LOWAT=25),
    ),
    SOL_IP: (
        *_choices("glibc's resolver", container=False, IP_RECVERR=11),
        *_choices("clients and servers", container=False, IP_TOS=1, IP_TTL=2, IP_PKTINFO=8, IP_MTU_DISCOVER=10),
        *_choices("clients and servers", container=False, IP_BIND_ADDRESS_NO_PORT=24),
    ),
    SOL_IPV6: (
        *_choices("asyncio sets it on each listening socket", container=False, IPV6_V6ONLY=26),
        *_choices("glibc's resolver", container=False, IPV6_RECVERR=25),
        *_choices("clients and servers", container=False, IPV6_UNICAST_HOPS=16, IPV6_RECVPKTINFO=49, IPV6_TCLASS=67),
    ),
}
# SO_PEERPIDFD, which would hand out a host process, and SO_PEERSEC, SO_PEERGROUPS, SO_GET_FILTER are left out.
SOCKET_OPTIONS_READ: dict[int, tuple[Choice, ...]] = SOCKET_OPTIONS | {
    SOL_SOCKET: (
        *_choices("Python asks for these when it wraps a descriptor", SO_TYPE=3, SO_PROTOCOL=38, SO_DOMAIN=39),
        *_choices("result of a connect; state", SO_ERROR=4, SO_ACCEPTCONN=30),
        *_choices("who is at the other end (multiprocessing)", SO_PEERCRED=17),
        *SOCKET_OPTIONS[SOL_SOCKET],
    ),
    SOL_TCP: (*SOCKET_OPTIONS[SOL_TCP], *_choices("state of a connection", container=False, TCP_INFO=11)),
}

ARCH_PRCTLS = (
    *_choices("thread-local storage (x86_64's C library)", ARCH_SET_FS=0x1002, ARCH_GET_FS=0x1003),
    *_choices("thread-local storage (x86_64's C library)", ARCH_SET_GS=0x1001, ARCH_GET_GS=0x1004),
    *_choices("wide registers (AMX) for the own process", ARCH_GET_XCOMP_SUPP=0x1021, ARCH_GET_XCOMP_PERM=0x1022),
    *_choices("wide registers (AMX) for the own process", ARCH_REQ_XCOMP_PERM=0x1023),
)

MEMBARRIERS = (
    *_choices("what is there?", MEMBARRIER_CMD_QUERY=0, MEMBARRIER_CMD_GET_REGISTRATIONS=512),
    *_choices("threads of the own process only; the global ones interrupt every CPU", PRIVATE_EXPEDITED=8),
    *_choices("threads of the own process only", REGISTER_PRIVATE_EXPEDITED=16, PRIVATE_EXPEDITED_SYNC_CORE=32),
    *_choices("threads of the own process only", REGISTER_PRIVATE_EXPEDITED_SYNC_CORE=64, PRIVATE_EXPEDITED_RSEQ=128),
    *_choices("threads of the own process only", REGISTER_PRIVATE_EXPEDITED_RSEQ=256),
)

# --- verdicts that look at arguments ----------------------------------------------------------------------------------

CLONE_NAMESPACES = 0x7E020080  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, NEWTIME
CLONE_PARENT = 0x8000  # would make the guest's child a child of the zygote, out of the guest's tree
CLONE = _cases(
    "no CLONE_NEW* flag, no CLONE_PARENT, else EPERM",
    _when(_long_is(0, 0, mask=(LONG - INT) | CLONE_NAMESPACES | CLONE_PARENT)),
)

SET_ID_BITS = 0o6000
FORMAT_BITS, REGULAR, FIFO = 0o170000, 0o100000, 0o010000
CREATES = 0o100 | 0o20000000  # O_CREAT, __O_TMPFILE: without them the mode argument is not read


def open_creating(flags: int) -> Cases:
    """For open(2) and openat(2): `flags` is the index of the flags, the mode comes after it."""
    creates_set_id = _when(_any_of(flags + 1, SET_ID_BITS), _any_of(flags, CREATES), then=EPERM)
    return _cases("no set-id bits on a new file, else EPERM", creates_set_id, otherwise=ALLOW)


def chmod(mode: int) -> Cases:
    """For calls that set a mode, which is the argument with the index `mode`."""
    return _cases("no set-id bits, else EPERM", _when(_none_of(mode, SET_ID_BITS)))


def mknod(mode: int) -> Cases:
    """For calls that make a node, whose type and mode are the argument with the index `mode`."""
    kinds = _is(mode, 0, REGULAR, FIFO, mask=FORMAT_BITS | SET_ID_BITS)
    return _cases("regular files and FIFOs without set-id bits, else EPERM", _when(kinds))


AF_UNIX, AF_INET, AF_INET6 = 1, 2, 10
STREAM, DGRAM, SEQPACKET = 1, 2, 5
TYPE_BITS = INT & ~(0o2000000 | 0o4000)  # all but SOCK_CLOEXEC and SOCK_NONBLOCK
UNIX_PROTOCOLS = _is(2, 0, AF_UNIX)
UNIX_SOCKET = _when(_is(0, AF_UNIX), _is(1, STREAM, DGRAM, SEQPACKET, mask=TYPE_BITS), UNIX_PROTOCOLS)
INET_SOCKET = _when(_is(0, AF_INET, AF_INET6), _is(1, STREAM, DGRAM, mask=TYPE_BITS), _is(2, 0, 6, 17))
SOCKET = _cases("AF_UNIX; AF_INET and AF_INET6 with TCP or UDP; else EPERM", UNIX_SOCKET, INET_SOCKET)
SOCKETPAIR = _cases("AF_UNIX, else EPERM", UNIX_SOCKET)
STREAM_PAIR = _cases(
    "AF_UNIX stream, else EPERM", _when(_is(0, AF_UNIX), _is(1, STREAM, mask=TYPE_BITS), UNIX_PROTOCOLS)
)


def socket_option(options: dict[int, tuple[Choice, ...]], profile: Profile) -> Cases:
    """For getsockopt(2) and setsockopt(2): the level is argument 1, the option argument 2."""
    levels = ((level, _values(choices, profile)) for level, choices in options.items())
    allowed = (_when(_is(1, level), _is(2, *values)) for level, values in levels if values)
    return _cases("the options listed below, else ENOPROTOOPT", *allowed, otherwise=ENOPROTOOPT)


def ioctl(profile: Profile) -> Cases:
    """The requests that a profile allows (ioctl(2))."""
    return _cases("the requests listed below, else ENOTTY", _when(_is(1, *_values(IOCTLS, profile))), otherwise=ENOTTY)


def fcntl(profile: Profile) -> Cases:
    """The commands that a profile allows (fcntl(2))."""
    refused = _when(_is(1, *FCNTLS_REFUSED.values()), then=EPERM)
    text = "the commands listed below; leases and signals to others EPERM; else EINVAL"
    return _cases(text, _when(_is(1, *_values(FCNTLS, profile))), refused, otherwise=EINVAL)


def prctl(profile: Profile) -> Cases:
    """The options that a profile allows (prctl(2))."""
    ambient = _when(_is(0, PR_CAP_AMBIENT), _long_is(1, PR_CAP_AMBIENT_IS_SET))
    text = "the options listed below and PR_CAP_AMBIENT_IS_SET, else EPERM"
    return _cases(text, _when(_is(0, *_values(PRCTLS, profile))), ambient)


ARCH_PRCTL = _cases(
    "the codes listed below, else EINVAL", _when(_is(0, *_values(ARCH_PRCTLS, "full"))), otherwise=EINVAL
)
MEMBARRIER = _cases(
    "the commands listed below, else EINVAL", _when(_is(0, *_values(MEMBARRIERS, "full"))), otherwise=EINVAL
)
PERSONALITY = _cases("0 and the query 0xffffffff, else EPERM", _when(_is(0, 0, INT)))
MADVISE = _cases(
    "not MADV_MERGEABLE, MADV_PAGEOUT, MADV_HWPOISON, MADV_SOFT_OFFLINE: EINVAL",
    _when(_is(2, 12, 21, 100, 101), then=EINVAL),
    otherwise=ALLOW,
)
FADVISE = _cases("POSIX_FADV_DONTNEED: pretend", _when(_is(3, 4), then=PRETEND), otherwise=ALLOW)
SELF = _cases("pid 0 (the caller), else EPERM", _when(_is(0, 0)))
# RLIMIT_CORE is 4 (asm-generic/resource.h). Only a limit of 1 keeps a crash from the host's core_pattern pipe: core(5).
NO_CORE_LIMIT = _cases("any limit but RLIMIT_CORE, else EPERM", _when(_is(0, 4), then=EPERM), otherwise=ALLOW)
OWN_LIMITS = _cases(
    "pid 0 (the caller) and not to set RLIMIT_CORE, else EPERM",
    _when(_is(0, 0), _long_is(2, 0)),
    _when(_is(1, 4), then=EPERM),
    _when(_is(0, 0)),
)
SELF_PRIORITY = _cases("PRIO_PROCESS of 0 (the caller), else EPERM", _when(_is(0, 0), _is(1, 0)))
SELF_IOPRIO = _cases("IOPRIO_WHO_PROCESS of 0 (the caller), else EPERM", _when(_is(0, 1), _is(1, 0)))
CLOCK = _cases("no clock of another process (a negative id): EINVAL", _when(_none_of(0, 1 << 31)), otherwise=EINVAL)
