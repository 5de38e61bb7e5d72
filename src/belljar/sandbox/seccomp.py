"""The seccomp filter of a guest: the policy's verdicts, assembled into a classic BPF program.

Promises: a call made for another architecture, or with x32's bit in its number, kills the process; a number that the
table does not know gets ENOSYS; every other call gets the verdict that `seccomp_policy` has for it.
The number is looked up in a binary tree, and a call that is allowed whatever its arguments is decided by architecture
and number alone: since Linux 5.11 the kernel then skips the filter for it (kernel/seccomp.c, seccomp_cache_prepare).
Not covered: loading, which the guest does last of all, after no_new_privs.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from belljar.errors import IsolationUnavailable
from belljar.sandbox import seccomp_policy as policy
from belljar.sandbox import seccomp_verdicts as verdicts
from belljar.sandbox.seccomp_verdicts import Action, Cases, Check, Choice, Profile, Verdict
from belljar.sandbox.syscalls import known_names, read_numbers

# linux/audit.h: the machine's ELF number, 64-bit, little endian
AUDIT_ARCHES = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}
ALIASES = {"amd64": "x86_64", "arm64": "aarch64"}
X32_BIT = 0x4000_0000  # asm/unistd.h: __X32_SYSCALL_BIT, and above it nothing but x32

# linux/bpf_common.h: class | size or operation | mode or source
LOAD, AND, RETURN, GOTO = 0x20, 0x54, 0x06, 0x05
EQUAL, AT_LEAST, ANY_BIT = 0x15, 0x35, 0x45
# struct seccomp_data, little endian: number, architecture, instruction pointer, six arguments of 64 bits
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
FAR = 255  # a conditional jump's reach: its distances are bytes


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """struct sock_filter (linux/filter.h): `yes` and `no` count the instructions to skip."""

    code: int
    k: int
    yes: int = 0
    no: int = 0


class Assembler:
    """Writes a program from its end to its start, so that a jump, which can only go forward, knows where it goes.

    A label is an instruction's distance from the program's end.
    """

    def __init__(self) -> None:
        self._code: list[Instruction] = []
        self._returns: dict[int, int] = {}
        self._cases: dict[Cases, int] = {}

    def program(self) -> bytes:
        """What was written, as an array of struct sock_filter."""
        return b"".join(struct.pack("<HBBI", i.code, i.yes, i.no, i.k) for i in reversed(self._code))

    def decide(self, verdict: Verdict) -> int:
        """Label of the code that carries out `verdict`; written once and shared."""
        if isinstance(verdict, Action):
            known = self._returns.get(verdict.value)
            return self._return(verdict.value) if known is None else known
        if verdict not in self._cases:
            label = self.decide(verdict.otherwise)
            for case in reversed(verdict.cases):
                yes, no = self.decide(case.then), label
                for check in reversed(case.checks):
                    yes = self._check(check, yes, no)
                label = yes
            self._cases[verdict] = label
        return self._cases[verdict]

    def load(self, offset: int, then: int) -> int:
        """Load a word of struct seccomp_data, then go on at label `then`."""
        self._fall_into(then)
        return self._emit(LOAD, offset)

    def jump(self, operation: int, k: int, yes: int, no: int) -> int:
        """Compare the loaded word with `k` and go to one of two labels."""
        if yes == no:
            return yes
        yes, no = self._near(yes), self._near(no)
        here = len(self._code)
        return self._emit(operation, k, here - yes - 1, here - no - 1)

    def _emit(self, code: int, k: int, yes: int = 0, no: int = 0) -> int:
        self._code.append(Instruction(code=code, k=k, yes=yes, no=no))
        return len(self._code) - 1

    def _return(self, value: int) -> int:
        self._returns[value] = self._emit(RETURN, value)
        return self._returns[value]

    def _near(self, label: int) -> int:
        """`label`, or a step to it that the next jump can reach even if one more step is written before it."""
        if len(self._code) - label <= FAR:
            return label
        target = self._code[label]
        return self._return(target.k) if target.code == RETURN else self._emit(GOTO, len(self._code) - label - 1)

    def _fall_into(self, label: int) -> None:
        """What is written next continues at `label`."""
        distance = len(self._code) - label - 1
        if distance:
            self._emit(GOTO, distance)

    def _check(self, check: Check, yes: int, no: int) -> int:
        if check.negate:
            yes, no = no, yes
        offset = ARGUMENTS + 8 * check.arg
        low = tuple(value & 0xFFFF_FFFF for value in check.values)
        label = self._word(offset, check.mask & 0xFFFF_FFFF, low, yes, no)
        if check.wide:
            high = {value >> 32 for value in check.values}
            if len(high) != 1:
                raise ValueError(f"values of {check} differ in their upper halves")
            label = self._word(offset + 4, check.mask >> 32, tuple(high), label, no)
        return label

    def _word(self, offset: int, mask: int, values: tuple[int, ...], yes: int, no: int) -> int:
        """Whether a word, after `mask`, is one of `values`."""
        if values == (0,) and mask != 0xFFFF_FFFF:
            return self.load(offset, self.jump(ANY_BIT, mask, no, yes))
        label = no
        for value in reversed(values):
            label = self.jump(EQUAL, value, yes, label)
        if mask != 0xFFFF_FFFF:
            self._fall_into(label)
            label = self._emit(AND, mask)
        return self.load(offset, label)


@cache
def build_filter(profile: str, arch: str = os.uname().machine) -> bytes:
    """The filter of a profile ("full" or "container") as an array of struct sock_filter, for seccomp(2).

    `arch` is a machine name as uname(2) has it. Raises IsolationUnavailable for a profile or machine without a policy.
    """
    name = _known_arch(arch)
    assembler = Assembler()
    segments = _segments(verdict_by_number(_known_profile(profile), name), name)
    tree = assembler.load(NUMBER, _tree(assembler, segments))
    kill = assembler.decide(verdicts.KILL)
    assembler.load(ARCHITECTURE, assembler.jump(EQUAL, AUDIT_ARCHES[name], tree, kill))
    return assembler.program()


def verdict_by_number(profile: Profile, arch: str) -> dict[int, Verdict]:
    """The policy for one architecture; numbers that are missing get `seccomp_policy.UNKNOWN`.

    Raises ValueError if the policy and the table of numbers do not name the same calls.
    """
    rules, numbers = policy.rules(profile), read_numbers()[arch]
    if odd := rules.keys() ^ known_names():
        raise ValueError(f"in only one of policy and table: {sorted(odd)}")
    return {number: rules[name] for name, number in numbers.items()}


def _known_arch(arch: str) -> str:
    name = ALIASES.get(arch.lower(), arch)
    if name not in AUDIT_ARCHES:
        raise IsolationUnavailable(f"no seccomp policy for the machine {arch!r}, only for {', '.join(AUDIT_ARCHES)}")
    return name


def _known_profile(profile: str) -> Profile:
    for known in verdicts.PROFILES:
        if known == profile:
            return known
    raise IsolationUnavailable(f"no seccomp policy for the profile {profile!r}, only for full and container")


def _segments(by_number: dict[int, Verdict], arch: str) -> list[tuple[int, Verdict]]:
    """All 32-bit numbers as (first number, verdict), ascending, neighbours different."""
    end = max(by_number) + 1
    segments = [(number, by_number.get(number, policy.UNKNOWN)) for number in range(end)]
    segments.append((end, policy.UNKNOWN))
    if arch == "x86_64":
        segments.append((X32_BIT, verdicts.KILL))
    return segments[:1] + [after for before, after in pairwise(segments) if before[1] != after[1]]


def _tree(assembler: Assembler, segments: list[tuple[int, Verdict]]) -> int:
    if len(segments) == 1:
        return assembler.decide(segments[0][1])
    middle = len(segments) // 2
    right = _tree(assembler, segments[middle:])
    left = _tree(assembler, segments[:middle])
    return assembler.jump(AT_LEAST, segments[middle][0], right, left)


# --- documentation ----------------------------------------------------------------------------------------------------

HEAD = """# System calls

Written by `scripts/seccomp-doc` from `seccomp_policy.py` and `seccomp_verdicts.py` in `src/belljar/sandbox`; change it
there.

Every guest runs under a seccomp filter that allows what stands here and nothing else. The profile *full* is for guests
with namespaces of their own, *container* for guests without any, where Landlock keeps files and signals.

- **EPERM**: refused. **ENOSYS**: not offered; callers take the path they have for older kernels. **pretend**: success
  without doing anything.
- A call for another architecture, or of the x32 kind, kills the process. A number that the table does not know (newer
  than Linux 6.18) gets ENOSYS.
- Instructions: {lengths[0]} in the profile full and {lengths[1]} in container for x86_64, {lengths[2]} and {lengths[3]}
  for aarch64. For a call that is allowed whatever its arguments, Linux skips the filter since 5.11.
"""


def render_doc() -> str:
    """The text of docs/seccomp.md."""
    lengths = [len(build_filter(profile, arch)) // 8 for arch in AUDIT_ARCHES for profile in verdicts.PROFILES]
    parts = [HEAD.format(lengths=lengths)]
    for title, rules in policy.SECTIONS.items():
        rows = ((" ".join(f"`{n}`" for n in r.names), r.full.text, r.container.text, r.reason) for r in rules)
        parts.append(f"## {title}\n\n" + _markdown_table(("calls", "full", "container", "reason"), rows))
    parts.append("## Allowed values of arguments\n")
    parts += [f"### {title}\n\n{_choices_table(choices)}" for title, choices in _argument_tables()]
    for title, lines in (("leaves open", policy.VISIBLE), ("takes away", policy.LOST)):
        parts.append(f"## What the container profile {title}\n\n" + "".join(f"- {line}\n" for line in lines))
    return "\n".join(parts)


def _argument_tables() -> list[tuple[str, tuple[Choice, ...]]]:
    tables = [
        ("ioctl", verdicts.IOCTLS),
        ("fcntl", verdicts.FCNTLS),
        ("prctl", verdicts.PRCTLS),
        ("arch_prctl", verdicts.ARCH_PRCTLS),
        ("membarrier", verdicts.MEMBARRIERS),
    ]
    for level, name in verdicts.LEVELS.items():
        written = verdicts.SOCKET_OPTIONS[level]
        tables.append((f"setsockopt and getsockopt, {name}", written))
        if only_read := tuple(c for c in verdicts.SOCKET_OPTIONS_READ[level] if c not in written):
            tables.append((f"getsockopt only, {name}", only_read))
    return tables


def _choices_table(choices: tuple[Choice, ...]) -> str:
    rows = ((f"`{c.name}`", hex(c.value), "both" if c.container else "full", c.reason) for c in choices)
    return _markdown_table(("name", "value", "profile", "reason"), rows)


def _markdown_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = (head, ("---",) * len(head), *rows)
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
