"""A client's function as all vendors but Google's older API describe it: a name, words, a JSON Schema. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from belljar.dialects.fields import Check, flag, mapping, maybe, member, refuse, text
from belljar.model import Function

NAME = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


def read_name(value: Mapping[str, Any], param: str, check: Check = text) -> str:
    """A function's name, which is first checked by `check`. Raises BadRequest."""
    name: str = member(value, "name", check, param)
    if not NAME.fullmatch(name):
        refuse(f"{param}.name", "must be 1 to 128 letters, digits, `_`, `-`, `.` or `:`")
    return name


def read_function(value: Mapping[str, Any], param: str, check: Check = text) -> Function:
    """The function; `check` is of its name. Raises BadRequest."""
    return Function(
        name=read_name(value, param, check),
        description=maybe(value, "description", text, param) or "",
        parameters=maybe(value, "parameters", mapping, param),
        strict=maybe(value, "strict", flag, param),
    )
