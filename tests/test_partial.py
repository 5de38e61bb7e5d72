"""The code in a call's arguments: what models write, read whole and cut anywhere."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.partial import CodeReader, read_code, write_code

CASES = {
    '{"code": "print(1)"}': "print(1)",
    '{"code": "print(\\"hi\\"); 1+1"}': 'print("hi"); 1+1',
    '{"code": "print("hi"); 1+1"}': 'print("hi"); 1+1',  # Groq's guide shows it so
    "print(1)": "print(1)",
    '{"x": 1}': '{"x": 1}',  # a dictionary is code, too
    "{1, 2}": "{1, 2}",
    "{}": "",  # a call without arguments
    '"print(2)"': "print(2)",
    '{"code": "a\\ud83d\\ude00b \\d"}': "a\N{GRINNING FACE}b \\d",
    '{"code": "```python\\nprint(1)\\n```"}': "print(1)",
    "```python\nprint(1)\n```": "print(1)",
    "```\nprint(1)": "print(1)",
    '{"code":"abc': "abc",
    '{"code":"abc"': "abc",
    '{"code": "\\"': '"',  # cut off after an escaped quote
    '{"code": "print(\\"': 'print("',
    '{"python":"x=1\ny=2"}': "x=1\ny=2",  # a raw line break is no JSON
    '{"code": ["a", "b"]}': "a\nb",
    '{"language": "python", "code": "c"}': "c",
    '{"code": "x", "timeout": 3}': "x",
    '{"code": "x = {\\"a\\": \\"}\\"}"}': 'x = {"a": "}"}',
    '{"program": "print(3)"}': "print(3)",
    '{"code": ""}': "",
    "": "",
    '{"code": "re.match(\'\\d+\', s)"}': "re.match('\\d+', s)",  # an escape that JSON does not have
}


@pytest.mark.parametrize("arguments", CASES)
def test_code_of_what_models_write(arguments: str) -> None:
    assert read_code(arguments) == CASES[arguments]


@pytest.mark.parametrize("arguments", CASES)
def test_a_growing_text_gives_a_prefix_of_the_whole(arguments: str) -> None:
    for cut in range(len(arguments) + 1):
        reader = CodeReader()
        assert CASES[arguments].startswith(reader.feed(arguments[:cut]) + reader.feed(arguments[cut:]))


@given(st.text(), st.integers(1, 5), st.booleans())
def test_well_formed_arguments_stream_all_of_the_code(code: str, size: int, ascii_only: bool) -> None:
    if code.lstrip()[:1] in ("", "`"):
        code = "x" + code
    code = code.encode("utf-8", "replace").decode()
    arguments = json.dumps({"code": code}, ensure_ascii=ascii_only)
    reader = CodeReader()
    shown = "".join(reader.feed(arguments[at : at + size]) for at in range(0, len(arguments), size))
    assert shown == code == read_code(arguments)


@given(st.one_of(st.text(), st.text(alphabet='{}"\\:code `\nud83')), st.integers(1, 4))
def test_anything_is_read_and_streams_a_prefix(arguments: str, size: int) -> None:
    for text in (arguments, '{"code": "' + arguments):
        reader = CodeReader()
        shown = "".join(reader.feed(text[at : at + size]) for at in range(0, len(text), size))
        assert read_code(text).startswith(shown)


@pytest.mark.parametrize("opening", ["", '{"', '{"code": "', '{"code": "```'])
@pytest.mark.parametrize("piece", [" ", "a", "\\n"])
def test_a_model_that_goes_on_and_on_costs_time_in_proportion(opening: str, piece: str) -> None:
    reader = CodeReader()
    reader.feed(opening)
    began = time.process_time()
    for _ in range(50_000):
        reader.feed(piece)
    assert time.process_time() - began < 2.0  # quadratic time is 10 s and more


@given(st.text())
def test_written_code_is_read_back(code: str) -> None:
    code = code.encode("utf-8", "replace").decode()
    if "`" not in code:
        assert read_code(write_code(code)) == code
