"""Checks of JSON values that dialects share: a check takes a value and its place, and gives the value to be used.

Promises: a check raises BadRequest and nothing else, whatever the value; the message names the place and says what
belongs there. Places are written as in "messages.0.content".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from belljar.errors import BadRequest
from belljar.formats import schema_fault

Check = Callable[[Any, str], Any]

KINDS = {str: "a string", bool: "a boolean", int: "an integer", float: "a number", list: "a list", dict: "an object"}


def refuse(param: str, problem: str, *, code: str | None = None) -> NoReturn:
    """Raises BadRequest: "`param` problem"."""
    raise BadRequest(f"`{param}` {problem}", param=param, code=code)


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    return KINDS.get(type(value), "null")


def words(names: Any) -> str:
    """Names in a row, for messages."""
    return ", ".join(f"`{name}`" for name in names)


def is_a(kind: type) -> Check:
    """Exactly this type: a boolean is no integer here."""

    def check(value: Any, param: str) -> Any:
        if type(value) is not kind:
            refuse(param, f"must be {KINDS[kind]}, not {kind_of(value)}")
        return value

    return check


text = is_a(str)
flag = is_a(bool)
mapping = is_a(dict)
listing = is_a(list)


def filled(value: Any, param: str) -> str:
    """A string that is not empty."""
    if not text(value, param):
        refuse(param, "must not be empty")
    return str(value)


def one_of(*choices: str) -> Check:
    """One of these words."""
    known = frozenset(choices)

    def check(value: Any, param: str) -> Any:
        if type(value) is not str or value not in known:
            shown = f"{value[:40]!r}" if type(value) is str else kind_of(value)
            refuse(param, f"must be one of {words(choices)}, not {shown}")
        return value

    return check


def whole(low: int | None = None, high: int | None = None) -> Check:
    """An integer within these bounds, both included."""

    def check(value: Any, param: str) -> Any:
        if type(value) is not int:
            refuse(param, f"must be an integer, not {kind_of(value)}")
        return _bounded(value, param, low, high)

    return check


def number(low: float | None = None, high: float | None = None) -> Check:
    """An integer or a fraction within these bounds, both included."""

    def check(value: Any, param: str) -> Any:
        if type(value) not in (int, float):
            refuse(param, f"must be a number, not {kind_of(value)}")
        return _bounded(value, param, low, high)

    return check


def _bounded(value: Any, param: str, low: float | None, high: float | None) -> Any:
    if low is not None and value < low:
        refuse(param, f"must be at least {low}")
    if high is not None and value > high:
        refuse(param, f"must be at most {high}")
    return value


def texts(value: Any, param: str) -> list[str]:
    """A list of strings."""
    return [text(item, f"{param}.{at}") for at, item in enumerate(listing(value, param))]


def stops(value: Any, param: str) -> str | list[str]:
    """One stop sequence, or up to four."""
    if type(value) is str:
        return filled(value, param)
    if type(value) is not list or len(value) > 4:
        refuse(param, "must be a string or a list of up to 4 strings")
    return [filled(item, f"{param}.{at}") for at, item in enumerate(value)]


def bias(value: Any, param: str) -> dict[str, float]:
    """Tokens with a bias from -100 to 100."""
    check = number(-100, 100)
    return {token: check(weight, f"{param}.{token}") for token, weight in mapping(value, param).items()}


def single(value: Any, param: str) -> int:
    """The number of choices, which is one."""
    if type(value) is not int or value != 1:
        refuse(param, "must be 1: one answer is given to a request")
    return 1


def member(value: Mapping[str, Any], name: str, check: Check, param: str) -> Any:
    """A member that must be there."""
    if value.get(name) is None:
        refuse(f"{param}.{name}" if param else name, "is required")
    return check(value[name], f"{param}.{name}" if param else name)


def maybe(value: Mapping[str, Any], name: str, check: Check, param: str) -> Any:
    """A member, or None where it is absent or null."""
    found = value.get(name)
    return None if found is None else check(found, f"{param}.{name}" if param else name)


def schema(value: Any, param: str) -> dict[str, Any]:
    """A JSON Schema."""
    given = dict(mapping(value, param))
    problem = schema_fault(given)
    if problem:
        refuse(param, f"is no valid JSON Schema: {problem}")
    return given


def content_of(value: Mapping[str, Any], param: str) -> str | list[Any]:
    """The `content` of a message: words, or a list of parts that are yet to be read. Raises BadRequest."""
    content = value.get("content")
    if content is None:
        refuse(f"{param}.content", "is required: a string or a list of parts")
    if type(content) is not str and type(content) is not list:
        refuse(f"{param}.content", f"must be a string or a list of parts, not {kind_of(content)}")
    return content
