"""JSON as people paste it: what is read of it, what is not, and that strict JSON is read as ever."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.dialects.base import MAX_DEPTH, read_json
from belljar.dialects.lenient import MOST_TOKENS, read_lenient
from belljar.errors import BadRequest

READ: list[tuple[str, str, Any]] = [
    ("strict", '{"a": [1, -2.5e3, true, false, null, "x"]}', {"a": [1, -2500.0, True, False, None, "x"]}),
    ("single quotes", "{'a': 'b'}", {"a": "b"}),
    ("both quotes", """{'a"b': "c'd"}""", {'a"b': "c'd"}),
    ("escaped quotes", r"""{'a': 'it\'s', "b": "\"x\""}""", {"a": "it's", "b": '"x"'}),
    ("names without quotes", "{code_execution: {}, $a-b.c: 1}", {"code_execution": {}, "$a-b.c": 1}),
    ("words without quotes", "{role: user, outcome: OUTCOME_OK}", {"role": "user", "outcome": "OUTCOME_OK"}),
    ("words that mean something", "{a: true, b: null, c: 12, d: -0.5}", {"a": True, "b": None, "c": 12, "d": -0.5}),
    ("commas at the end", '{"a": [1, 2,], "b": {"c": 1,},}', {"a": [1, 2], "b": {"c": 1}}),
    ("empty", "{a: {}, b: [],}", {"a": {}, "b": []}),
    ("comments", "// what\n{a: 1, /* two\nlines */ b: 2} // end", {"a": 1, "b": 2}),
    ("lines in a text", '{"a": "one\ntwo\tthree",}', {"a": "one\ntwo\tthree"}),
    ("a line that goes on", "{'a': 'one\\\ntwo'}", {"a": "onetwo"}),
    ("escapes", r"{'a': '\u0041\n\t\\\/\b\f\r\q'}", {"a": "A\n\t\\/\b\f\rq"}),
    ("a pair of surrogates", r"{'a': '\ud83d\ude00'}", {"a": "\N{GRINNING FACE}"}),
    ("half a pair", r"{'a': '\ud83d!', '\ude00': 1}", {"a": "\ufffd!", "\ufffd": 1}),
    ("a byte order mark", "\ufeff{'a': 1}", {"a": 1}),
    ("a number as a name", "{1: 2}", {"1": 2}),
    ("the guide's REST request", '{"tools": [{\'codeExecution\': {}}],\n "contents": {"role": "USER"},\n}\n',
     {"tools": [{"codeExecution": {}}], "contents": {"role": "USER"}}),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), [case[1:] for case in READ], ids=[case[0] for case in READ])
def test_read(text: str, value: Any) -> None:
    assert read_lenient(text.encode()) == value


@pytest.mark.parametrize(
    "text",
    ["", "{", "[", "{a}", "{a:}", "{a 1}", "[1 2]", "{,}", "[,]", "{'a': 1}}", "{'a': 'b}", "1 2", "{a: 1.2.3}",
     "{a: 'x' 'y'}", "/* {}", "{[]: 1}", "{a: 1e400}", "]", "{a: @}"],
)  # fmt: skip
def test_not_read(text: str) -> None:
    with pytest.raises(BadRequest, match="not valid JSON"):
        read_lenient(text.encode())


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(BadRequest, match="not valid JSON"):
        read_lenient(b"{'a': '\xff'}")


@pytest.mark.parametrize("quote", ['"', "'"])
def test_depth_is_bounded(quote: str) -> None:
    def nested(levels: int) -> bytes:
        return (f"{{{quote}a{quote}:" * levels + "1" + "}" * levels).encode()

    assert read_lenient(nested(MAX_DEPTH - 1))
    with pytest.raises(BadRequest, match="nested deeper"):
        read_lenient(nested(MAX_DEPTH + 5))
    with pytest.raises(BadRequest, match="nested deeper"):
        read_lenient(nested(100_000))


@pytest.mark.parametrize(
    "text",
    ["{'a': 'b', \"c\": \"" + "x" * 1_000_000, "['" + "x" * 1_000_000, "['" + "\\x" * 500_000,
     "['" + "\\n" * 1_000_000 + "']", "[" + " " * 1_000_000 + ",]", "[//" + "/*" * 500_000 + "\n1,]", "'" * 1_000_000,
     "[" + "a" * 1_000_000 + "@]", "/*" * 500_000, "[" + "1," * 400_000 + "]", "[" + '"' * 1_000_001],
)  # fmt: skip
def test_it_takes_time_in_proportion(text: str) -> None:
    began = time.process_time()
    try:
        read_lenient(text.encode())
    except BadRequest:
        pass
    assert time.process_time() - began < 2.0


def test_long_texts_are_told_so() -> None:
    with pytest.raises(BadRequest, match="too long to be read"):
        read_lenient(b"[" + b"1," * MOST_TOKENS + b"]")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(json_values)
def test_json_is_read_as_json(value: Any) -> None:
    assert read_lenient(json.dumps(value).encode()) == value


@given(json_values)
def test_with_a_comma_more_it_says_the_same(value: Any) -> None:
    assert read_lenient(b"[%b,]" % json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")) == [
        json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    ]


@given(st.binary(max_size=40) | st.text(st.sampled_from("{}[]'\",:a1\\/* \n"), max_size=30).map(str.encode))
def test_anything_is_read_or_refused(body: bytes) -> None:
    try:
        read_lenient(body)
    except BadRequest:
        with pytest.raises(BadRequest):
            read_json(body)
