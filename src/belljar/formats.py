"""Whether an answer is of the format that was asked for: JSON, or JSON that fits a schema (JSON Schema 2020-12).

A schema is a client's, and is evaluated in the middle of everybody's requests. Promises: a check of an answer ends
after CHECK_SECONDS, and none evaluates a regular expression of a client's, as those can take for ever. Not covered, and
left to the upstream: `pattern`, `patternProperties`, what is unevaluated, and the form of schemas that are very large.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

import jsonschema
import msgspec
from jsonschema.exceptions import SchemaError, ValidationError
from jsonschema.validators import extend, validator_for

from belljar.errors import FormatFailed
from belljar.model import Format

DEFAULT = jsonschema.Draft202012Validator  # of schemas that do not say which they are
CHECK_SECONDS = 0.25  # of an answer against its schema: far more than any honest one takes
MOST_CHECKED = 500  # objects in a schema whose own form is checked; each takes half a millisecond
REMEMBERED_BYTES = 32 << 10  # of a schema up to which its check is remembered

_until: ContextVar[float] = ContextVar("_until")  # when a check must be over, as time.monotonic has it


class _TooLong(Exception):
    """The check takes too long."""


def schema_fault(schema: Mapping[str, Any]) -> str:
    """What keeps a client's schema from being a JSON Schema; "" where nothing does, or where it is very large."""
    encoded = msgspec.json.encode(schema)
    if encoded.count(b"{") > MOST_CHECKED:
        return ""
    return _known_fault(encoded) if len(encoded) <= REMEMBERED_BYTES else _schema_fault(encoded)


def _schema_fault(encoded: bytes) -> str:
    schema = msgspec.json.decode(encoded)
    if not isinstance(schema.get("$schema", ""), str):
        return "`$schema` must be a string"
    try:
        validator_for(schema, default=DEFAULT).check_schema(schema)
    except SchemaError as error:
        return error.message
    except Exception as error:  # jsonschema stumbles over some, such as {"$schema": 3}
        return str(error)
    return ""


_known_fault = lru_cache(maxsize=256)(_schema_fault)  # as a check takes milliseconds, and clients repeat themselves


def fault(wanted: Format | None, text: str) -> str:
    """What keeps a text from being of this format; "" where nothing does."""
    if wanted is None:
        return ""
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        return f"it is not valid JSON: {error}"
    if wanted.schema is None:
        return "" if isinstance(value, dict) else "it is JSON, but not an object"
    return _misfit(wanted.schema, value)


def check_format(wanted: Format | None, text: str, *, cut: bool) -> None:
    """Raises FormatFailed where a text is not of this format. `cut` says that the token limit ended it."""
    problem = fault(wanted, text)
    if problem and cut:
        problem = "the limit of tokens was reached before the document was complete"
    if problem:
        raise FormatFailed(f"the model's answer does not have the format asked for: {problem}", generation=text)


def _misfit(schema: Any, value: Any) -> str:
    # A schema of the client's: a reference out of it is not fetched (no registry holds it), but is an error here.
    token = _until.set(time.monotonic() + CHECK_SECONDS)
    try:
        validator = _bounded(validator_for(schema, default=DEFAULT))(_one_draft(schema))
        error = next(iter(validator.iter_errors(value)), None)
    except _TooLong:
        return f"checking it against its schema takes longer than {CHECK_SECONDS} s"
    except Exception as broken:  # an unresolvable reference, a keyword of a wrong type
        return f"its schema cannot be used: {broken}"
    finally:
        _until.reset(token)
    return f"{error.message} (at {error.json_path})" if error else ""


# --- validators that end ----------------------------------------------------------------------------------------------

Keyword = Callable[[Any, Any, Any, Any], Iterator[ValidationError] | None]


def _one_draft(schema: Any) -> Any:
    """The schema without `$schema`: it would bring in, below, validators that are not ours."""
    if isinstance(schema, list):
        return [_one_draft(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: _one_draft(value) for name, value in schema.items() if not (name == "$schema" and isinstance(value, str))
    }


@lru_cache(maxsize=16)
def _bounded(draft: Any) -> Any:
    """A draft's validator whose every step looks at the clock."""
    keywords = {name: _timed(keyword) for name, keyword in (draft.VALIDATORS | _INSTEAD).items()}
    return extend(draft, keywords)  # type: ignore[no-untyped-call]


def _timed(keyword: Keyword) -> Keyword:
    def check(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        if time.monotonic() > _until.get():
            raise _TooLong
        yield from keyword(validator, value, instance, schema) or ()

    return check


def _passed_over(validator: Any, value: Any, instance: Any, schema: Any) -> None:
    """A keyword that is left to the upstream."""


def _additional(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError] | None:
    if "patternProperties" in schema:
        return None
    found: Iterator[ValidationError] | None = DEFAULT.VALIDATORS["additionalProperties"](
        validator, value, instance, schema
    )
    return found


def _unique(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    """In linear time, unlike the library's."""
    if value and isinstance(instance, list):
        seen = {json.dumps(item, sort_keys=True) for item in instance}
        if len(seen) < len(instance):
            yield ValidationError("its items are not unique")


_INSTEAD: dict[str, Keyword] = {
    "pattern": _passed_over,
    "patternProperties": _passed_over,
    "additionalProperties": _additional,
    "unevaluatedProperties": _passed_over,
    "unevaluatedItems": _passed_over,
    "uniqueItems": _unique,
}
