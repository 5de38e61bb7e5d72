"""JSON as Google's servers read it: names in camel or snake case, one value where a list belongs, numbers as strings.

Promises: a check raises BadRequest and nothing else. Places are written as in "contents[0].parts[1].inlineData", in
camel case however the client wrote them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from belljar.dialects.attached import read_base64
from belljar.dialects.fields import Check, kind_of, mapping, refuse, text, words

_UNDERSCORE = re.compile(r"(?<=[A-Za-z0-9])_+([A-Za-z0-9])")
_URL_SAFE = str.maketrans("-_", "+/")


def place_of(param: str, name: str) -> str:
    """The place of a member."""
    return f"{param}.{name}" if param else name


def camel(name: str) -> str:
    """A name in camel case."""
    return _UNDERSCORE.sub(lambda found: found[1].upper(), name) if "_" in name else name


def message(value: Any, param: str) -> dict[str, Any]:
    """An object with its own names in camel case, and without its nulls."""
    return {camel(name): inner for name, inner in mapping(value, param).items() if inner is not None}


def read_message(value: Any, fields: Mapping[str, Check], param: str) -> dict[str, Any]:
    """An object whose members are checked; one that is not among `fields` is refused, as Google does."""
    found = {}
    for name, inner in message(value, param).items():
        if name not in fields:
            refuse(place_of(param, name)[:200], f"is not known here; there is {words(fields)}")
        found[name] = fields[name](inner, place_of(param, name))
    return found


def repeated(value: Any) -> list[Any]:
    """A list; anything else stands for a list of itself."""
    return value if type(value) is list else [value]


def each(value: Any, param: str) -> Iterable[tuple[Any, str]]:
    """The items of a list, or of a single one, with their places."""
    return ((item, f"{param}[{at}]") for at, item in enumerate(repeated(value)))


def texts(value: Any, param: str) -> list[str]:
    """Strings, or a single one."""
    return [text(item, place) for item, place in each(value, param)]


def anything(value: Any, param: str) -> Any:
    """A value that is checked where it is used, or has no effect here."""
    return value


def unavailable(value: Any, param: str) -> None:
    """Something that this server does not have; what asks for nothing is let pass."""
    if value not in (False, "", 0, [], {}):
        refuse(param, "asks for something that is not available on this server: leave it out")


def flag(value: Any, param: str) -> bool:
    """A boolean."""
    if type(value) is not bool:
        refuse(param, f"must be a boolean, not {kind_of(value)}")
    return value


def number(low: float | None = None, high: float | None = None) -> Check:
    """A number within these bounds, both included, or a string that holds one."""

    def check(value: Any, param: str) -> float:
        return _bounded(_number(value, param), param, low, high)

    return check


def whole(low: int | None = None, high: int | None = None) -> Check:
    """The same without a fraction."""

    def check(value: Any, param: str) -> int:
        found = _number(value, param)
        if found != int(found):
            refuse(param, "must be an integer")
        return int(_bounded(int(found), param, low, high))

    return check


def _number(value: Any, param: str) -> float:
    if type(value) is str:
        try:
            value = int(value) if value.lstrip("+-").isdecimal() and len(value) < 30 else float(value)
        except ValueError:
            refuse(param, "must be a number")
    if type(value) not in (int, float) or not math.isfinite(value):
        refuse(param, f"must be a number, not {kind_of(value)}")
    return value  # type: ignore[no-any-return]


def _bounded(value: float, param: str, low: float | None, high: float | None) -> float:
    if low is not None and value < low:
        refuse(param, f"must be at least {low}")
    if high is not None and value > high:
        refuse(param, f"must be at most {high}")
    return value


def word_of(choices: Iterable[str]) -> Check:
    """One of these words, in capitals; any case is read."""
    known = tuple(choices)

    def check(value: Any, param: str) -> str:
        if type(value) is not str or value.upper() not in known:
            refuse(param, f"must be one of {words(known)}, not {_shown(value)}")
        return value.upper()

    return check


def _shown(value: Any) -> str:
    return repr(value[:40]) if type(value) is str else kind_of(value)


def content_of(value: Any, param: str) -> bytes:
    """Bytes in base64, of the usual alphabet or the one for URLs, with or without padding."""
    encoded = text(value, param)
    if "-" in encoded or "_" in encoded:
        encoded = encoded.translate(_URL_SAFE)
    missing = -len(encoded) % 4
    return read_base64(encoded + "=" * missing if missing < 3 and not encoded.endswith("=") else encoded, param)
