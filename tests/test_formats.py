"""Answers against formats: what fits, and that no schema of a client's keeps a server busy."""

from __future__ import annotations

import time
from typing import Any

import pytest

from belljar.errors import FormatFailed
from belljar.formats import CHECK_SECONDS, MOST_CHECKED, check_format, fault, schema_fault
from belljar.model import Format

PERSON = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"name": {"type": "string"}, "tags": {"type": "array", "uniqueItems": True}},
    "required": ["name"],
    "additionalProperties": False,
}
CASES: list[tuple[Any, str, str]] = [  # schema, text, what is said of it
    (None, "{}", ""),
    (None, "[]", "not an object"),
    (None, "{", "not valid JSON"),
    (PERSON, '{"name": "Ada", "tags": [1, 2]}', ""),
    (PERSON, "{}", "'name' is a required property"),
    (PERSON, '{"name": 1}', "1 is not of type 'string' (at $.name)"),
    (PERSON, '{"name": "Ada", "age": 3}', "'age' was unexpected"),
    (PERSON, '{"name": "Ada", "tags": [{"a": 1, "b": 2}, {"b": 2, "a": 1}]}', "not unique"),
    ({"patternProperties": {"^x": {}}, "additionalProperties": False}, '{"xy": 1}', ""),
    ({"$ref": "http://127.0.0.1/none"}, "{}", "cannot be used"),
    ({"$ref": "#"}, "{}", "cannot be used"),
    ({"$schema": "http://json-schema.org/draft-07/schema#", "type": "array"}, "{}", "is not of type 'array'"),
]


@pytest.mark.parametrize(("schema", "text", "said"), CASES)
def test_what_fits(schema: Any, text: str, said: str) -> None:
    problem = fault(Format(schema=schema), text)
    assert said in problem
    assert bool(problem) == bool(said)


def laughs(**more: Any) -> dict[str, Any]:
    """A schema that is checked 2 ** 40 times."""
    steps = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} | more for n in range(40)}
    return {"$defs": steps | {"d40": {}}, "$ref": "#/$defs/d0"}


ENDLESS: dict[str, tuple[Any, str]] = {
    "references that double": (laughs(), "{}"),
    "the same, under a draft of their own": (laughs(**{"$schema": "http://json-schema.org/draft-07/schema#"}), "{}"),
    "a pattern": ({"properties": {"a": {"pattern": "^(a+)+$"}}}, '{"a": "%s!"}' % ("a" * 64)),
    "a pattern of names": ({"patternProperties": {"^(a+)+$": {}}}, '{"%s!": 1}' % ("a" * 64)),
    "what is left of patterns": (
        {"patternProperties": {"^(a+)+$": {}}, "unevaluatedProperties": False, "additionalProperties": False},
        '{"%s!": 1}' % ("a" * 64),
    ),
    "unique items": ({"uniqueItems": True}, f"[{', '.join(['{}'] * 50_000)}]"),
}


@pytest.mark.parametrize("case", ENDLESS)
def test_no_schema_takes_long(case: str) -> None:
    schema, text = ENDLESS[case]
    began = time.process_time()
    fault(Format(schema=schema), text)
    assert time.process_time() - began < CHECK_SECONDS + 1.0


def test_a_check_that_takes_too_long_says_so() -> None:
    with pytest.raises(FormatFailed, match="takes longer than"):
        check_format(Format(schema=laughs()), "{}", cut=False)


def test_the_form_of_a_very_large_schema_is_left_to_the_upstream() -> None:
    began = time.process_time()
    assert schema_fault({"properties": {f"p{n}": {"type": "foo"} for n in range(MOST_CHECKED * 20)}}) == ""
    assert time.process_time() - began < 1.0
    assert "foo" in schema_fault({"properties": {"p": {"type": "foo"}}})
