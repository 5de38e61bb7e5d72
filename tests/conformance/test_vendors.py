"""What the demo asks of each vendor's SDK (examples/vendors.py) works, and its answers hold what it prints."""

from __future__ import annotations

import pytest
from examples.vendors import VENDORS

from conformance.cases import SQUARE
from conformance.seen import KEY
from servers import Belljar

SHOWS_NO_OUTPUT = ("DashScope (dashscope)", "Qwen's compatible mode (openai)")
SHOWS_NO_CODE = ("Qwen's compatible mode (openai)",)


@pytest.mark.parametrize("name", VENDORS)
def test_vendor(belljar: Belljar, name: str) -> None:
    answer = VENDORS[name](belljar.url, KEY, "one-execution", "What is 6 times 7?")
    assert answer.text == "It is 42."
    assert answer.codes == (() if name in SHOWS_NO_CODE else (SQUARE,))
    assert "".join(answer.outputs).strip() == ("" if name in SHOWS_NO_OUTPUT else "42")
