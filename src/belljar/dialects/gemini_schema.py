"""Google's Schema (OpenAPI 3.0, with types in capitals) as a JSON Schema. Pure; raises BadRequest and nothing else.

Keywords of JSON Schema that Google's does not have are passed on as they are. Not covered: `example`, which says
nothing of what is valid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from belljar.dialects.fields import kind_of, listing, mapping, refuse, text
from belljar.dialects.gemini_fields import each, flag, message, number, place_of, texts, whole
from belljar.formats import schema_fault

TYPES = ("string", "number", "integer", "boolean", "array", "object", "null")
UNSPECIFIED = "TYPE_UNSPECIFIED"


def read_schema(value: Any, param: str) -> dict[str, Any]:
    """A JSON Schema out of Google's. Raises BadRequest."""
    return _checked(_schema(value, param), param)


def read_json_schema(value: Any, param: str) -> dict[str, Any]:
    """A JSON Schema as it is. Raises BadRequest."""
    return _checked(dict(mapping(value, param)), param)


def _checked(schema: dict[str, Any], param: str) -> dict[str, Any]:
    problem = schema_fault(schema)
    if problem:
        refuse(param, f"is no valid schema: {problem}")
    return schema


def _schema(value: Any, param: str) -> dict[str, Any]:
    given = message(value, param)
    schema: dict[str, Any] = {}
    for name, inner in given.items():
        key, read = FIELDS.get(name, (name, _as_it_is))
        found = read(inner, place_of(param, name))
        if key and found is not None:
            schema[key] = found
    _order(schema, given.get("propertyOrdering"))
    if given.get("nullable"):
        _allow_null(schema)
    return schema


def _order(schema: dict[str, Any], names: Any) -> None:
    """Properties in the order asked for: models write them in that of the schema."""
    properties = schema.get("properties")
    if properties and isinstance(names, list):
        first = [name for name in names if name in properties]
        schema["properties"] = {name: properties[name] for name in dict.fromkeys([*first, *properties])}


def _allow_null(schema: dict[str, Any]) -> None:
    if isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    if "enum" in schema and None not in schema["enum"]:
        schema["enum"] = [*schema["enum"], None]
    if "anyOf" in schema:
        schema["anyOf"] = [*schema["anyOf"], {"type": "null"}]


def _as_it_is(value: Any, param: str) -> Any:
    return value


def _kind(value: Any, param: str) -> Any:
    """A type's name, or several, in lower case."""
    if isinstance(value, list):
        return [_kind(item, param) for item in value]
    if type(value) is not str or (value != UNSPECIFIED and value.lower() not in TYPES):
        shown = repr(value[:40]) if type(value) is str else kind_of(value)
        refuse(param, f"must be one of {', '.join(TYPES)} (in capitals or not), not {shown}")
    return value.lower() if value != UNSPECIFIED else None


def _format(value: Any, param: str) -> str | None:
    return None if text(value, param) == "enum" else str(value)  # which only says that there is an `enum`


def _schemas(value: Any, param: str) -> list[dict[str, Any]]:
    return [_schema(item, place) for item, place in each(value, param)]


def _named(value: Any, param: str) -> dict[str, Any]:
    return {name: _schema(inner, place_of(param, name)) for name, inner in mapping(value, param).items()}


def _items(value: Any, param: str) -> Any:
    return value if isinstance(value, bool) else _schema(value, param)


def _nothing(value: Any, param: str) -> None:
    return None


_count = whole(0)
_number = number()

# Name in Google's schema -> the keyword of JSON Schema, "" where there is none, and how its value is read.
FIELDS: Mapping[str, tuple[str, Callable[[Any, str], Any]]] = {
    "type": ("type", _kind),
    "format": ("format", _format),
    "title": ("title", text),
    "description": ("description", text),
    "nullable": ("", flag),
    "default": ("default", _as_it_is),
    "example": ("", _nothing),
    "enum": ("enum", lambda value, param: [item for item, _ in each(value, param)]),
    "items": ("items", _items),
    "prefixItems": ("prefixItems", _schemas),
    "minItems": ("minItems", _count),
    "maxItems": ("maxItems", _count),
    "properties": ("properties", _named),
    "propertyOrdering": ("", listing),
    "required": ("required", texts),
    "minProperties": ("minProperties", _count),
    "maxProperties": ("maxProperties", _count),
    "minimum": ("minimum", _number),
    "maximum": ("maximum", _number),
    "minLength": ("minLength", _count),
    "maxLength": ("maxLength", _count),
    "pattern": ("pattern", text),
    "anyOf": ("anyOf", _schemas),
    "additionalProperties": ("additionalProperties", _items),
    "defs": ("$defs", _named),
    "$defs": ("$defs", _named),
    "ref": ("$ref", text),
}
