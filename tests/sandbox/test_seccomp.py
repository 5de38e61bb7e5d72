"""The seccomp filters: what they decide, in an interpreter of BPF. `test_seccomp_native` asks the kernel."""

from __future__ import annotations

import struct
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.errors import IsolationUnavailable
from belljar.sandbox import seccomp, seccomp_policy, seccomp_verdicts
from belljar.sandbox.seccomp_verdicts import Action, Cases, Check, Profile, Verdict
from belljar.sandbox.syscalls import ARCHES, known_names, read_numbers

PROFILES = seccomp_verdicts.PROFILES
ANSWERS = {
    "allow": seccomp_verdicts.ALLOW,
    "kill": seccomp_verdicts.KILL,
    "pretend": seccomp_verdicts.PRETEND,
    "EPERM": seccomp_verdicts.EPERM,
    "ENOSYS": seccomp_verdicts.ENOSYS,
    "EINVAL": seccomp_verdicts.EINVAL,
    "ENOTTY": seccomp_verdicts.ENOTTY,
    "ENOTSUP": seccomp_verdicts.ENOTSUP,
    "ENOPROTOOPT": seccomp_verdicts.ENOPROTOOPT,
}
NAMES = {action.value: name for name, action in ANSWERS.items()}

# --- an interpreter of classic BPF, as seccomp uses it ----------------------------------------------------------------


def run_filter(program: bytes, arch: int, number: int, args: tuple[int, ...]) -> tuple[str, int]:
    """What a filter answers to a call, and after how many instructions."""
    words = [a & (1 << 64) - 1 for a in (*args, 0, 0, 0, 0, 0, 0)[:6]]
    data = struct.pack("<IIQ6Q", number & 0xFFFF_FFFF, arch, 0, *words)
    code = list(struct.iter_unpack("<HBBI", program))
    accumulator, at, steps = 0, 0, 0
    while True:
        operation, yes, no, k = code[at]
        at, steps = at + 1, steps + 1
        if operation == 0x20:  # ld [k]
            assert k % 4 == 0
            accumulator = struct.unpack_from("<I", data, k)[0]
        elif operation == 0x54:  # and #k
            accumulator &= k
        elif operation == 0x05:  # ja
            at += k
        elif operation in COMPARE:
            at += yes if COMPARE[operation](accumulator, k) else no
        else:
            assert operation == 0x06  # ret #k
            return NAMES[k], steps


COMPARE = {0x15: int.__eq__, 0x35: int.__ge__, 0x45: lambda a, k: a & k != 0}


def answer(profile: str, arch: str, number: int, *args: int) -> str:
    program = seccomp.build_filter(profile, arch)
    return run_filter(program, seccomp.AUDIT_ARCHES[arch], number, args)[0]


# --- cases: call and arguments -> full [container]; on every architecture that has the call ---------------------------

CASES = """
clone 0x3d0f00 -> allow
clone 0x1200011 -> allow
clone 0x4111 -> allow
clone 0x10000011 -> EPERM
clone 0x20000011 -> EPERM
clone 0x40000011 -> EPERM
clone 0x00020011 -> EPERM
clone 0x02000011 -> EPERM
clone 0x04000011 -> EPERM
clone 0x08000011 -> EPERM
clone 0x00000080 -> EPERM
clone 0x7e020011 -> EPERM
clone 0x00008011 -> EPERM
clone 0x100000011 -> EPERM
clone 0xffffffff00000011 -> EPERM
clone3 0 88 -> ENOSYS
clone3 -> ENOSYS
open 0 0x0 0o4755 -> allow
open 0 0o1101 0o644 -> allow
open 0 0o1101 0o4755 -> EPERM
open 0 0o101 0o2755 -> EPERM
openat -100 0 0 0xdeadbeef -> allow
openat -100 0 0o102 0o600 -> allow
openat -100 0 0o102 0o6600 -> EPERM
openat -100 0 0o20200002 0o4700 -> EPERM
openat -100 0 0o20200002 0o700 -> allow
creat 0 0o644 -> allow
creat 0 0o4644 -> EPERM
openat2 -> ENOSYS
mknod 0 0o100644 -> allow
mknod 0 0o010644 -> allow
mknod 0 0o644 -> allow
mknod 0 0o020644 0x103 -> EPERM
mknod 0 0o060644 -> EPERM
mknod 0 0o140644 -> EPERM
mknodat -100 0 0o010600 -> allow
mknodat -100 0 0o020600 -> EPERM
mknodat -100 0 0o060600 -> EPERM
mknodat -100 0 0o140600 -> EPERM
mknodat -100 0 0o104755 -> EPERM
chmod 0 0o755 -> allow pretend
chmod 0 0o4755 -> EPERM pretend
fchmod 3 0o644 -> allow pretend
fchmod 3 0o2644 -> EPERM pretend
fchmodat -100 0 0o600 -> allow pretend
fchmodat -100 0 0o4600 -> EPERM pretend
fchmodat2 -100 0 0o600 0 -> allow pretend
fchmodat2 -100 0 0o6600 0 -> EPERM pretend
utime -> allow pretend
utimes -> allow pretend
futimesat -> allow pretend
utimensat -> allow pretend
chown -> allow EPERM
fchown -> allow EPERM
lchown -> allow EPERM
fchownat -> allow EPERM
setxattr -> allow ENOTSUP
fsetxattr -> allow ENOTSUP
lremovexattr -> allow ENOTSUP
getxattr -> allow ENOTSUP
llistxattr -> allow ENOTSUP
setxattrat -> ENOSYS ENOTSUP
removexattrat -> ENOSYS ENOTSUP
inotify_init1 -> EPERM
inotify_add_watch -> EPERM
sync -> pretend
syncfs 3 -> pretend
fsync 3 -> allow
flock 3 2 -> allow
fadvise64 3 0 0 3 -> allow
fadvise64 3 0 0 4 -> pretend
madvise 0 4096 4 -> allow
madvise 0 4096 14 -> allow
madvise 0 4096 12 -> EINVAL
madvise 0 4096 21 -> EINVAL
madvise 0 4096 100 -> EINVAL
mmap 0 4096 7 0x22 -1 0 -> allow
mprotect 0 4096 5 -> allow
personality 0xffffffff -> allow
personality 0xffffffffffffffff -> allow
personality 0 -> allow
personality 0x0040000 -> EPERM
personality 8 -> EPERM
socket 1 1 0 -> allow EPERM
socket 1 2 0 -> allow EPERM
socket 1 5 0 -> allow EPERM
socket 1 0x80801 0 -> allow EPERM
socket 1 3 0 -> EPERM
socket 2 1 0 -> allow EPERM
socket 2 1 6 -> allow EPERM
socket 2 2 17 -> allow EPERM
socket 10 0x80001 6 -> allow EPERM
socket 10 2 0 -> allow EPERM
socket 2 5 0 -> EPERM
socket 2 2 1 -> EPERM
socket 2 3 1 -> EPERM
socket 2 3 255 -> EPERM
socket 2 1 262 -> EPERM
socket 2 1 132 -> EPERM
socket 10 2 58 -> EPERM
socket 2 0x101 0 -> EPERM
socket 16 3 0 -> EPERM
socket 16 2 12 -> EPERM
socket 17 3 0 -> EPERM
socket 17 2 0 -> EPERM
socket 31 1 0 -> EPERM
socket 38 5 0 -> EPERM
socket 40 1 0 -> EPERM
socket 44 3 0 -> EPERM
socket 21 5 0 -> EPERM
socket 15 3 2 -> EPERM
socket 0x100000002 1 0 -> allow EPERM
socketpair 1 1 0 -> allow
socketpair 1 0x80801 0 -> allow
socketpair 1 2 0 -> allow EPERM
socketpair 1 5 0 -> allow EPERM
socketpair 30 1 0 -> EPERM
socketpair 2 1 0 -> EPERM
connect -> allow EPERM
bind -> allow EPERM
listen -> allow EPERM
accept -> allow EPERM
accept4 -> allow EPERM
sendmmsg -> allow EPERM
recvmmsg -> allow EPERM
sendto -> allow
sendmsg -> allow
recvmsg -> allow
setsockopt 3 1 7 -> allow
setsockopt 3 1 2 -> allow ENOPROTOOPT
setsockopt 3 6 1 -> allow ENOPROTOOPT
setsockopt 3 41 26 -> allow ENOPROTOOPT
setsockopt 3 1 26 -> ENOPROTOOPT
setsockopt 3 1 50 -> ENOPROTOOPT
setsockopt 3 1 51 -> ENOPROTOOPT
setsockopt 3 0 64 -> ENOPROTOOPT
setsockopt 3 41 64 -> ENOPROTOOPT
setsockopt 3 6 31 -> ENOPROTOOPT
setsockopt 3 263 1 -> ENOPROTOOPT
getsockopt 3 1 3 -> allow
getsockopt 3 1 39 -> allow
getsockopt 3 1 77 -> ENOPROTOOPT
getsockopt 3 6 11 -> allow ENOPROTOOPT
getsockopt 3 0 64 -> ENOPROTOOPT
ioctl 1 0x541b -> allow
ioctl 1 0x5411 -> allow
ioctl 1 0x5401 -> allow
ioctl 1 0x5413 -> allow
ioctl 1 0x540f -> allow
ioctl 1 0x5421 -> allow
ioctl 1 0x5451 -> allow
ioctl 1 0x5450 -> allow
ioctl 1 0x5452 -> allow
ioctl 1 0x5460 -> allow
ioctl 1 0x8912 -> allow ENOTTY
ioctl 1 0x5412 -> ENOTTY
ioctl 1 0xffffffff00005412 -> ENOTTY
ioctl 1 0x100005412 -> ENOTTY
ioctl 1 0x541c -> ENOTTY
ioctl 1 0x540e -> ENOTTY
ioctl 1 0x5410 -> ENOTTY
ioctl 1 0x5402 -> ENOTTY
ioctl 1 0x8914 -> ENOTTY
ioctl 1 0x8902 -> ENOTTY
ioctl 1 0x40049409 -> ENOTTY
ioctl 1 0x40086602 -> ENOTTY
ioctl 1 0xff01 -> ENOTTY
fcntl 3 1 -> allow
fcntl 3 6 -> allow
fcntl 3 38 -> allow
fcntl 3 1030 -> allow
fcntl 3 8 -> allow EPERM
fcntl 3 10 -> allow EPERM
fcntl 3 15 -> allow EPERM
fcntl 3 1024 -> EPERM
fcntl 3 1026 -> EPERM
fcntl 3 1033 -> EINVAL
prctl 15 -> allow
prctl 16 -> allow
prctl 3 -> allow
prctl 23 -> allow
prctl 38 1 -> allow
prctl 39 -> allow
prctl 29 -> allow
prctl 0x53564d41 -> allow
prctl 47 1 -> allow
prctl 47 0x100000001 -> EPERM
prctl 47 2 -> EPERM
prctl 47 4 -> EPERM
prctl 36 1 -> allow EPERM
prctl 1 0 -> EPERM
prctl 4 1 -> EPERM
prctl 8 1 -> EPERM
prctl 22 2 -> EPERM
prctl 24 -> EPERM
prctl 28 -> EPERM
prctl 35 -> EPERM
prctl 53 -> EPERM
prctl 59 -> EPERM
prctl 62 -> EPERM
prctl 67 1 -> EPERM
prctl 0x59616d61 -> EPERM
arch_prctl 0x1002 -> allow
arch_prctl 0x1023 18 -> allow
arch_prctl 0x1012 -> EINVAL
arch_prctl 0x2001 -> EINVAL
membarrier 0 -> allow
membarrier 8 -> allow
membarrier 1 -> EINVAL
membarrier 2 -> EINVAL
prlimit64 0 7 -> allow
prlimit64 1 7 -> EPERM
prlimit64 0x100000000 7 -> allow
prlimit64 0 4 0 -> allow
prlimit64 0 4 1 -> EPERM
prlimit64 0 4 0x100000000 -> EPERM
prlimit64 1 4 0 -> EPERM
prlimit64 0 7 1 -> allow
setrlimit 7 -> allow
setrlimit 4 -> EPERM
setpriority 0 0 5 -> allow
setpriority 0 77 5 -> allow EPERM
setpriority 2 0 5 -> allow EPERM
getpriority 1 0 -> allow EPERM
ioprio_set 1 0 0 -> allow
ioprio_set 3 0 0 -> allow EPERM
ioprio_get 1 77 -> allow EPERM
sched_setaffinity 0 8 -> allow
sched_setaffinity 77 8 -> allow EPERM
sched_setscheduler 77 0 -> allow EPERM
sched_setattr 77 -> allow EPERM
sched_setparam 77 -> allow EPERM
sched_getaffinity 77 8 -> allow
clock_gettime 2 -> allow
clock_gettime -6 -> allow EINVAL
clock_nanosleep 1 -> allow
clock_getres -14 -> allow EINVAL
timer_create 0 -> allow
timer_create -6 -> allow EINVAL
kill -1 9 -> allow
tgkill 1 1 9 -> allow
pidfd_open 1 -> allow
pidfd_send_signal -> allow
setsid -> allow
execve -> allow
"""

NEVER = """\
mount umount2 pivot_root chroot unshare setns open_tree open_tree_attr move_mount fsopen fsconfig fsmount fspick
mount_setattr statmount listmount ptrace process_vm_readv process_vm_writev process_madvise process_mrelease kcmp
pidfd_getfd keyctl add_key request_key bpf io_uring_setup io_uring_enter io_uring_register userfaultfd perf_event_open
fanotify_init fanotify_mark open_by_handle_at name_to_handle_at kexec_load kexec_file_load init_module finit_module
delete_module reboot swapon swapoff quotactl quotactl_fd acct settimeofday clock_settime adjtimex clock_adjtime iopl
ioperm modify_ldt memfd_create memfd_secret execveat shmget shmat shmctl shmdt semget semop semctl semtimedop msgget
msgsnd msgrcv msgctl mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr vhangup syslog
lookup_dcookie nfsservctl seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self capset setuid
setgid setgroups
setresuid sethostname setdomainname move_pages migrate_pages mbind set_mempolicy lsm_get_self_attr lsm_set_self_attr
lsm_list_modules get_robust_list io_setup cachestat mincore file_setattr
"""

CASE_LINES = CASES.strip().splitlines() + [f"{name} -> EPERM" for name in NEVER.split()]


def read_int(text: str) -> int:
    return int(text, 0)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("line", CASE_LINES)
def test_case(line: str, profile: Profile) -> None:
    call, answers = line.split(" -> ")
    name, *args = call.split()
    expected = answers.split()[0 if profile == "full" else -1]
    have = [arch for arch in ARCHES if name in read_numbers()[arch]]
    assert have
    for arch in have:
        assert answer(profile, arch, read_numbers()[arch][name], *map(read_int, args)) == expected, arch


def test_there_are_enough_cases() -> None:
    assert len(CASE_LINES) >= 150
    assert len(CASE_LINES) == len(set(CASE_LINES))


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("arch", ARCHES)
class TestNumbers:
    @pytest.mark.parametrize("foreign", [0x4000_0003, 0x4000_0028, 0xC000_003E, 0xC000_00B7, 0x8000_00B7, 0])
    def test_wrong_architecture_is_killed(self, profile: Profile, arch: str, foreign: int) -> None:
        if foreign != seccomp.AUDIT_ARCHES[arch]:
            program = seccomp.build_filter(profile, arch)
            for number in (0, 39, 101, 1000):
                assert run_filter(program, foreign, number, ())[0] == "kill"

    @pytest.mark.parametrize("number", [0x4000_0000, 0x4000_0027, 0x4000_0200, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF])
    def test_x32(self, profile: Profile, arch: str, number: int) -> None:
        assert answer(profile, arch, number) == ("kill" if arch == "x86_64" else "ENOSYS")

    @pytest.mark.parametrize("number", [340, 423, 470, 471, 512, 520, 547, 600, 4096, 0x3FFF_FFFF])
    def test_unknown(self, profile: Profile, arch: str, number: int) -> None:
        assert answer(profile, arch, number) == "ENOSYS"


# --- the program against the table ------------------------------------------------------------------------------------


def holds(check: Check, args: tuple[int, ...]) -> bool:
    value = args[check.arg] & check.mask & (1 << (64 if check.wide else 32)) - 1
    return (value in check.values) != check.negate


def reference(verdict: Verdict, args: tuple[int, ...]) -> str:
    if isinstance(verdict, Action):
        return NAMES[verdict.value]
    for case in verdict.cases:
        if all(holds(check, args) for check in case.checks):
            return NAMES[case.then.value]
    return NAMES[verdict.otherwise.value]


@cache
def table(profile: Profile, arch: str) -> dict[int, Verdict]:
    return seccomp.verdict_by_number(profile, arch)


def edges(verdict: Verdict) -> list[tuple[int, ...]]:
    """Arguments around everything that a verdict compares with, in every combination of two."""
    base = [(0,) * 6, (1,) * 6, ((1 << 64) - 1,) * 6]
    checks = [c for case in verdict.cases for c in case.checks] if isinstance(verdict, Cases) else []
    near = {(c.arg, v + d) for c in checks for v in c.values for d in (-1, 0, 1, 1 << 32, 1 << 63)}
    near |= {(c.arg, c.mask & -c.mask) for c in checks}
    changes = [(a, v % (1 << 64)) for a, v in near]
    single = [(*b[:a], v, *b[a + 1 :]) for b in base for a, v in changes]
    return base + single + [(*s[:a], v, *s[a + 1 :]) for s in single[: len(changes)] for a, v in changes]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("arch", ARCHES)
def test_every_number_gets_the_verdict_of_the_table(profile: Profile, arch: str) -> None:
    for number in range(601):
        verdict = table(profile, arch).get(number, seccomp_policy.UNKNOWN)
        for args in edges(verdict):
            assert answer(profile, arch, number, *args) == reference(verdict, args), (number, args)


WORDS = st.integers(0, (1 << 64) - 1) | st.integers(0, 0o7777) | st.integers(-200, -1).map(lambda n: n % (1 << 64))


@given(st.sampled_from(PROFILES), st.sampled_from(ARCHES), st.integers(0, 600), st.tuples(*[WORDS] * 6))
def test_any_arguments_get_the_verdict_of_the_table(
    profile: Profile, arch: str, number: int, args: tuple[int, ...]
) -> None:
    verdict = table(profile, arch).get(number, seccomp_policy.UNKNOWN)
    assert answer(profile, arch, number, *args) == reference(verdict, args)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("arch", ARCHES)
def test_programs_are_ones_that_the_kernel_takes(profile: Profile, arch: str) -> None:
    """bpf_check_classic and seccomp_check_filter: known operations, jumps inside, a return at the end."""
    code = list(struct.iter_unpack("<HBBI", seccomp.build_filter(profile, arch)))
    assert len(code) <= 512  # the kernel takes 4096
    assert code[-1][0] == seccomp.RETURN
    reached = {0}
    for at, (operation, yes, no, k) in enumerate(code):
        assert operation in {0x20, 0x54, 0x06, 0x05, *COMPARE}
        assert at in reached, f"instruction {at} cannot be reached"
        steps = {0x06: (), 0x05: (k,)}.get(operation, (yes, no))
        reached |= {at + 1 + step for step in steps}
    assert max(reached) < len(code)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("arch", ARCHES)
def test_plain_verdicts_look_at_no_argument(profile: Profile, arch: str) -> None:
    """So that the kernel's cache takes them; and the tree is shallow: two loads, one comparison each for ten levels."""
    program, steps = seccomp.build_filter(profile, arch), []
    for number, verdict in table(profile, arch).items():
        if isinstance(verdict, Action):
            steps.append(run_filter(program, seccomp.AUDIT_ARCHES[arch], number, ())[1])
    assert max(steps) <= 3 + 10 + 3


def test_every_call_has_one_rule_and_a_reason() -> None:
    rules = [rule for section in seccomp_policy.SECTIONS.values() for rule in section]
    names = [name for rule in rules for name in rule.names]
    assert len(names) == len(set(names))
    assert set(names) == known_names()
    assert all(len(rule.reason) > 5 for rule in rules)
    read, written = seccomp_verdicts.SOCKET_OPTIONS_READ, seccomp_verdicts.SOCKET_OPTIONS
    choices = [c for options in (read, written) for table in options.values() for c in table]
    for argument in ("IOCTLS", "PRCTLS", "FCNTLS", "ARCH_PRCTLS", "MEMBARRIERS"):
        found = getattr(seccomp_verdicts, argument)
        assert len({c.value for c in found}) == len({c.name for c in found}) == len(found)
        choices += found
    assert all(len(choice.reason) > 5 for choice in choices)


def test_numbers_are_unique_and_agree_with_this_machine() -> None:
    for numbers in read_numbers().values():
        assert len(set(numbers.values())) == len(numbers)
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if not header.exists():
        pytest.skip("no kernel headers here")
    words = [line.split() for line in header.read_text().splitlines() if line.startswith("#define __NR_")]
    known = read_numbers()["x86_64"]
    assert {w[1][5:]: int(w[2]) for w in words if w[1][5:] in known}.items() <= known.items()


def test_aliases_and_errors() -> None:
    assert seccomp.build_filter("full", "AMD64") == seccomp.build_filter("full", "x86_64")
    assert seccomp.build_filter("container", "arm64") == seccomp.build_filter("container", "aarch64")
    for arch in ("riscv64", "aarch64_be", "i686", ""):
        with pytest.raises(IsolationUnavailable, match="machine"):
            seccomp.build_filter("full", arch)
    with pytest.raises(IsolationUnavailable, match="profile"):
        seccomp.build_filter("none", "x86_64")


def test_documentation_is_up_to_date() -> None:
    document = Path(__file__).parents[2] / "docs/seccomp.md"
    assert document.read_text(encoding="utf-8") == seccomp.render_doc(), "run scripts/seccomp-doc"
