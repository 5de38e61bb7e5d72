"""Whether an answer is of the format that was asked for: JSON, or JSON that fits a schema (JSON Schema 2020-12)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jsonschema
import msgspec
from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for

from belljar.errors import FormatFailed
from belljar.model import Format

DEFAULT = jsonschema.Draft202012Validator  # of schemas that do not say which they are


def schema_fault(schema: Mapping[str, Any]) -> str:
    """What keeps a client's schema from being a JSON Schema; "" where nothing does."""
    return _schema_fault(msgspec.json.encode(schema))


@lru_cache(maxsize=256)
def _schema_fault(encoded: bytes) -> str:
    """The same; remembered, as a check takes a millisecond and clients repeat themselves."""
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
    validator = validator_for(schema, default=DEFAULT)(schema)
    try:
        error = next(iter(validator.iter_errors(value)), None)
    except Exception as broken:  # an unresolvable reference, a pattern that is none
        return f"its schema cannot be used: {broken}"
    return f"{error.message} (at {error.json_path})" if error else ""
