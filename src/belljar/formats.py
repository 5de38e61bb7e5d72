"""Whether an answer is of the format that was asked for: JSON, or JSON that fits a schema (JSON Schema 2020-12)."""

from __future__ import annotations

from typing import Any

import jsonschema
import msgspec
from jsonschema.exceptions import SchemaError
from jsonschema.validators import validator_for

from belljar.errors import BadRequest, FormatFailed
from belljar.model import Format


def check_schema(schema: Any, param: str) -> None:
    """Raises BadRequest, with `param`, where a client's schema is none."""
    if not isinstance(schema, dict):
        raise BadRequest(f"{param} must be an object that holds a JSON Schema", param=param)
    try:
        validator_for(schema, default=jsonschema.Draft202012Validator).check_schema(schema)
    except SchemaError as error:
        raise BadRequest(f"{param} is no valid JSON Schema: {error.message}", param=param) from None


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
    return _schema_fault(wanted.schema, value)


def check_format(wanted: Format | None, text: str, *, cut: bool) -> None:
    """Raises FormatFailed where a text is not of this format. `cut` says that the token limit ended it."""
    problem = fault(wanted, text)
    if problem and cut:
        problem = "the limit of tokens was reached before the document was complete"
    if problem:
        raise FormatFailed(f"the model's answer does not have the format asked for: {problem}", generation=text)


def _schema_fault(schema: Any, value: Any) -> str:
    # A schema of the client's: a reference out of it is not fetched (no registry holds it), but is an error here.
    validator = validator_for(schema, default=jsonschema.Draft202012Validator)(schema)
    try:
        error = next(iter(validator.iter_errors(value)), None)
    except Exception as broken:  # an unresolvable reference, a pattern that is none
        return f"its schema cannot be used: {broken}"
    return f"{error.message} (at {error.json_path})" if error else ""
