"""What the commands share: exit codes, types of values, and the options that say what a sandbox may use.

Promises: every field of `Limits` is an option exactly once, derived from the field itself; the flag, the environment's
variable (BELLJAR_<COMMAND>_<OPTION>) and the configuration's key come from that one declaration.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from typing import Any, TypeVar

import click

from belljar.execution import Outcome
from belljar.sandbox.base import Limits

F = TypeVar("F", bound=Callable[..., Any])


class Exit(enum.IntEnum):
    """Exit codes of `belljar`; 124 as timeout(1) has it, those above 128 as a shell tells of signals."""

    OK = 0
    RAISED = 1
    USAGE = 2
    HOST = 3
    TIMEOUT = 124
    INTERRUPTED = 130
    KILLED = 137
    BROKEN_PIPE = 141


EXIT_MEANINGS = {
    Exit.OK: "the code ran to its end",
    Exit.RAISED: "the code raised, or exited with a status that is not 0",
    Exit.USAGE: "wrong usage; nothing was run",
    Exit.HOST: "this host cannot give the sandbox asked for (isolation, image); nothing was run",
    Exit.TIMEOUT: "the code ran longer than --timeout",
    Exit.INTERRUPTED: "Ctrl-C ended it",
    Exit.KILLED: "the code was killed, or used more than --memory",
    Exit.BROKEN_PIPE: "the reader of the output went away",
}
OUTCOME_EXITS = {
    Outcome.OK: Exit.OK,
    Outcome.ERROR: Exit.RAISED,
    Outcome.EXITED: Exit.RAISED,  # unless its status was 0
    Outcome.TIMEOUT: Exit.TIMEOUT,
    Outcome.OUT_OF_MEMORY: Exit.KILLED,
    Outcome.KILLED: Exit.KILLED,
}

# What is weaker says so at every start.
PROFILE_WARNINGS = {
    "container": (
        "profile container is weaker than full: no namespaces, so the code can learn names of this host's files "
        "and processes; only Landlock and seccomp keep it in"
    ),
}

MOST = 4_000_000  # no kernel has room for more processes (linux/threads.h, PID_MAX_LIMIT)
LEAST = {"cpus": 0.01}  # a millisecond in each tenth of a second, the least quota of a cgroup (sched/core.c)
_MOST_BYTES = 1 << 60
_KINDS: dict[str, type[int] | type[float]] = {"int": int, "float": float}
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)


class Size(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.4
    """A number of bytes: 1048576, 512M, 1.5G, 64KiB. A unit is a power of 1024."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The value in bytes."""
        match = _SIZE.fullmatch(str(value).strip())
        size = float(match[1]) * _UNITS[match[2].upper()] if match and not isinstance(value, bool) else 0
        if not 1 <= size <= _MOST_BYTES:
            self.fail(f"{value!r} is no size; write bytes, or a number with K, M or G: 512M", param, ctx)
        return int(size)

    @staticmethod
    def show(size: int) -> str:
        """The shortest way to write a size that converts back to it."""
        unit = next((unit for unit, factor in reversed(_UNITS.items()) if size % factor == 0), "")
        return f"{size // _UNITS[unit]}{unit}"


class Positive(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # the same
    """A number that the kernel takes as a limit: above zero, or at least `least`, and at most MOST."""

    def __init__(self, kind: type[int] | type[float], least: float = 0.0) -> None:
        self._kind = kind
        self._least = least
        self.name = "number" if kind is int else "decimal"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The value as a number."""
        try:
            number = self._kind(str(value))
        except ValueError:
            number = 0
        if not (0 < number <= MOST and number >= self._least):
            kind = "whole number" if self._kind is int else "number"
            least = f"of at least {self._least:g}" if self._least else "above 0"
            self.fail(f"{value!r} is no {kind} {least} and at most {MOST:,}", param, ctx)
        return number


def limit_options(command: F) -> F:
    """Add an option for every field of Limits; the command gets them by their names."""
    for limit in reversed(fields(Limits)):
        command = _limit_option(limit)(command)
    return command


def take_limits(options: dict[str, Any]) -> Limits:
    """Take the options that `limit_options` added out of a command's, as Limits."""
    try:
        return Limits(**{limit.name: options.pop(limit.name) for limit in fields(Limits)})
    except ValueError as error:
        name, _, reason = str(error).partition("=")
        raise click.UsageError(f"--{name.replace('_', '-')} {reason}") from None


def sandbox_options(command: F) -> F:
    """Add what every command that makes sandboxes takes: --profile, --image and the limits."""
    command = limit_options(command)
    command = image_option(command)
    return profile_option(command)


def profile_option(command: F) -> F:
    """Add --profile. The command's module imports the backends for it; the group's must not."""
    from belljar.sandbox.backends import BACKENDS

    return click.option(
        "--profile",
        type=click.Choice(list(BACKENDS)),
        default="full",
        show_default=True,
        help="Which walls to put up. `container` is weaker, and for hosts that refuse namespaces.",
    )(command)


def image_option(command: F) -> F:
    """Add --image."""
    return click.option(
        "--image", default="default", show_default=True, metavar="NAME", help="The image: interpreter and packages."
    )(command)


def exit_table(codes: Mapping[Exit, str] = EXIT_MEANINGS) -> str:
    """The exit codes as text for a help page, marked so that click does not wrap the lines."""
    lines = "\n".join(f"  {code:>3}  {meaning}" for code, meaning in codes.items())
    return f"\b\nExit codes:\n{lines}"


def _limit_option(limit: Field[Any]) -> Callable[[F], F]:
    """The kind of a limit is told by its own declaration: a whole number whose help says bytes is a size."""
    help_text = limit.metadata["help"]
    is_size = limit.type == "int" and "in bytes" in help_text
    kind = Size() if is_size else Positive(_KINDS[str(limit.type)], LEAST.get(limit.name, 0.0))
    default: Any = limit.default
    shown = Size.show(default) if is_size else f"{default:g}"
    return click.option(
        f"--{limit.name.replace('_', '-')}",
        limit.name,
        type=kind,
        metavar="SIZE" if is_size else "N",
        default=shown,
        show_default=True,
        help=help_text.replace(", in bytes.", "."),
    )
