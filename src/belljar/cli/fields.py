"""Options derived from the fields of settings: a dataclass says once what can be set, its type, default and help.

A field becomes an option if its metadata has `help`; `metavar`, `choices` and `zero` (0 is a value, too) refine it.
Promises: flag, environment variable and configuration key follow from the field's name, or the one that `names` gives.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from typing import Any, TypeVar

import click

from belljar.cli.options import MOST, Positive, Size

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

NO_NAMES: Mapping[str, str] = {}
MANY = "tuple[str, ...]"


class Natural(click.ParamType):  # type: ignore[type-arg,unused-ignore]  # generic since click 8.4
    """A number from 0 to MOST."""

    def __init__(self, kind: type[int] | type[float]) -> None:
        self._kind = kind
        self.name = "number" if kind is int else "decimal"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The value as a number."""
        try:
            number = self._kind(str(value))
        except ValueError:
            number = -1
        if not 0 <= number <= MOST or math.isnan(number):
            self.fail(f"{value!r} is no number from 0 to {MOST:,}", param, ctx)
        return number


def field_options(cls: type, names: Mapping[str, str] = NO_NAMES) -> Callable[[F], F]:
    """Add an option for every field of a dataclass that has a help. `names` renames fields."""

    def add(command: F) -> F:
        for each in reversed(_settable(cls)):
            command = _option(each, names.get(each.name, each.name))(command)
        return command

    return add


def take_fields(cls: type[T], options: dict[str, Any], names: Mapping[str, str] = NO_NAMES, **more: Any) -> T:
    """Take what `field_options` added out of a command's options. Raises UsageError: values that do not go together."""
    given = {each.name: options.pop(names.get(each.name, each.name)) for each in _settable(cls)}
    try:
        return cls(**given, **more)
    except ValueError as error:
        raise usage_error(error) from None


def usage_error(error: ValueError) -> click.UsageError:
    """A ValueError of settings ("field: what is wrong"), with the option's name for the field's."""
    name, colon, reason = str(error).partition(": ")
    if colon and name.isidentifier():
        return click.UsageError(f"--{name.replace('_', '-')}: {reason}")
    return click.UsageError(str(error))


def _settable(cls: type) -> list[Field[Any]]:
    return [each for each in fields(cls) if "help" in each.metadata]


def _option(each: Field[Any], name: str) -> Callable[[F], F]:
    default: Any = each.default
    kind, shown = _kind(each), default
    text = each.metadata["help"]
    flag = f"--{name.replace('_', '-')}"
    if kind is bool:
        return click.option(flag, name, is_flag=True, default=default, help=text)
    options: dict[str, Any] = {"type": kind, "metavar": each.metadata.get("metavar") or None}
    if isinstance(kind, Size):
        options["metavar"], text = "SIZE", text.replace(", in bytes.", ".")
        shown = None if default is None else Size.show(default)
    elif isinstance(kind, click.Choice):
        options["metavar"] = None
    elif isinstance(default, int | float):
        options["metavar"] = options["metavar"] or "N"
        shown = f"{default:g}" if isinstance(default, float) else str(default)
    if each.type == MANY:
        return click.option(flag, name, multiple=True, help=text, **options)
    return click.option(flag, name, default=shown, show_default=shown is not None, help=text, **options)


def _kind(each: Field[Any]) -> Any:
    """The type of an option, told by the field's declaration as in belljar.cli.options."""
    if choices := each.metadata.get("choices"):
        return click.Choice(choices)
    base = str(each.type).removesuffix(" | None")
    if base == "bool":
        return bool
    if base in ("str", MANY):
        return str
    number = {"int": int, "float": float}[base]
    if number is int and "in bytes" in each.metadata["help"]:
        return Size()
    return Natural(number) if each.metadata.get("zero") else Positive(number)
