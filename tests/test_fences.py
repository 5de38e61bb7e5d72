"""What is read as code in a text, and that no way of cutting it makes a difference."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar import fences
from belljar.fences import Block, CodeClosed, CodeDelta, CodeOpened, FenceReader, TextPiece, blocks, inline_code

# What it is: the text, and its blocks as (language, code).
BLOCKS = {
    "no code": ("just words", []),
    "empty": ("", []),
    "one": ("```python\nprint(1)\n```", [("python", "print(1)")]),
    "line break at the end": ("```python\nprint(1)\n```\n", [("python", "print(1)")]),
    "words around": ("Run:\n\n```py\n1\n```\nplease", [("py", "1")]),
    "no language": ("```\n1\n```", [("", "1")]),
    "language in capitals": ("```Python\n1\n```", [("python", "1")]),
    "blank before the language": ("``` python\n1\n```", [("python", "1")]),
    "attributes": ('```python title="x"\n1\n```', [("python", "1")]),
    "braces": ("```{python}\n1\n```", [("python", "1")]),
    "tildes": ("~~~python\n1\n~~~", [("python", "1")]),
    "tildes with backticks inside": ("~~~python\n```\n~~~", [("python", "```")]),
    "tildes with a backtick behind": ("~~~python `x`\n1\n~~~", [("python", "1")]),
    "tildes within a line": ("a ~~~\n1\n~~~", []),
    "longer fence": ("````python\n```\nx\n```\n````", [("python", "```\nx\n```")]),
    "closing one longer": ("```python\n1\n`````\n", [("python", "1")]),
    "closing one shorter": ("````python\n1\n```\n", [("python", "1\n```")]),
    "two": ("```a\n1\n```\nand\n```b\n2\n```\n", [("a", "1"), ("b", "2")]),
    "one right after the other": ("```a\n1\n```\n```b\n2\n```", [("a", "1"), ("b", "2")]),
    "several lines": ("```python\na = 1\n\n\nb = 2\n```", [("python", "a = 1\n\n\nb = 2")]),
    "indented": ("1. so:\n   ```python\n   if x:\n       y\n   ```\n", [("python", "if x:\n    y")]),
    "indented, a line less": ("  ```python\n  a\n b\n  ```", [("python", "a\nb")]),
    "indented with tabs": ("\t```python\n\tx\n\t```", [("python", "x")]),
    "closing one indented": ("```python\n1\n   ```", [("python", "1")]),
    "fence inside a string": ('```python\nx = """\n    ```\n"""\n```', [("python", 'x = """\n    ```\n"""')]),
    "language inside": ("```text\n```python\n```", [("text", "```python")]),
    "never closed": ("```python\nprint(1)\n", [("python", "print(1)")]),
    "never closed, no line break": ("```python\nprint(1)", [("python", "print(1)")]),
    "closed by another mark": ("```python\n1\n~~~", [("python", "1\n~~~")]),
    "no line break before the end": ("```python\nprint(1)```", [("python", "print(1)")]),
    "that, and blanks": ("```python\nprint(1)```  \n\n", [("python", "print(1)")]),
    "that, and words": ("```python\nprint(1)``` so\n```", [("python", "print(1)``` so")]),
    "behind words": ("Run this: ```python\n1\n```", [("python", "1")]),
    "behind words, no language": ("Run this: ```\n1\n```", [("", "1")]),
    "behind words, with words": ("the mark ``` begins a block\nso\n", []),
    "inline with three": ("Use ```print(1)```\nand more", []),
    "inline with three, then a block": ("Use ```x```\n```python\n1\n```", [("python", "1")]),
    "two backticks": ("``\n1\n``", []),
    "empty block": ("```python\n```", [("python", "")]),
    "block of an empty line": ("```python\n\n```", [("python", "")]),
    "opening at the end": ("so: ```python", []),
    "CR LF": ("```python\r\na\r\nb\r\n```\r\nend", [("python", "a\r\nb")]),
    "too long a run": ("`" * 101 + "\n1\n" + "`" * 101, []),
    "too long a line behind": ("```" + "x" * 201 + "\n1\n", []),
}


@pytest.mark.parametrize("case", BLOCKS)
def test_blocks(case: str) -> None:
    text, expected = BLOCKS[case]
    assert [(block.language, block.code) for block in blocks(text)] == expected


def test_blocks_say_whether_they_are_complete_and_python() -> None:
    first, second = blocks("```py\n1\n```\n```bash\nls\n")
    assert (first.complete, first.is_python) == (True, True)
    assert (second.complete, second.is_python) == (False, False)


INLINE = {
    "one": ("run `print(1)` now", ["print(1)"]),
    "two": ("`a` and `b`", ["a", "b"]),
    "three backticks": ("run ```print(1)``` now", ["print(1)"]),
    "backtick inside": ("run `` print('`') `` now", ["print('`')"]),
    "never closed": ("a ` b", []),
    "other length": ("a ``b` c", []),
    "over lines": ("`a\nb`", ["a\nb"]),
    "not in blocks": ("```\n`no`\n```\nbut `yes`", ["yes"]),
    "not across blocks": ("`no\n```\n1\n```\nno`", []),
    "one blank": ("` `", [" "]),
}


@pytest.mark.parametrize("case", INLINE)
def test_inline_code(case: str) -> None:
    text, expected = INLINE[case]
    assert inline_code(text) == expected


def read_in(chunks: list[str]) -> list[fences.Piece]:
    reader = FenceReader()
    pieces = [piece for chunk in chunks for piece in reader.feed(chunk)]
    return fences._join([*pieces, *reader.end()])


@pytest.mark.parametrize("case", BLOCKS)
def test_cut_at_every_place(case: str) -> None:
    text = BLOCKS[case][0]
    whole = fences.split(text)
    assert "".join(piece.raw for piece in whole) == text
    assert read_in(list(text)) == whole
    for at in range(len(text)):
        assert read_in([text[:at], text[at:]]) == whole


TOKENS = [
    "```",
    "`",
    "``",
    "````",
    "~~~",
    "\n",
    "\r\n",
    "\r",
    " ",
    "    ",
    "\t",
    "python",
    "x",
    "{",
    ":",
    "\n```",
    "\n\n",
]
TOKENS += ["`" * 98, "`" * 101, " " * 198, "y" * 199]


@given(st.lists(st.lists(st.sampled_from(TOKENS), max_size=8).map("".join), max_size=8))
def test_however_it_is_cut(chunks: list[str]) -> None:
    text = "".join(chunks)
    whole = fences.split(text)
    assert read_in(chunks) == whole
    assert read_in(list(text)) == whole
    assert "".join(piece.raw for piece in whole) == text


@given(st.lists(st.text(alphabet="`~\n x"), max_size=6))
def test_pieces_come_in_order(chunks: list[str]) -> None:
    inside = False
    for piece in read_in(chunks):
        if isinstance(piece, CodeOpened | TextPiece):
            assert not inside
        if isinstance(piece, CodeDelta | CodeClosed):
            assert inside
        inside = isinstance(piece, CodeOpened) or (inside and isinstance(piece, CodeDelta))
    assert not inside


def test_code_comes_while_it_is_written() -> None:
    reader = FenceReader()
    assert reader.feed("so:\n```python\nx = 1") == [
        TextPiece(raw="so:\n"),
        CodeOpened(raw="```python\n", language="python"),
        CodeDelta(raw="x = 1", text="x = 1"),
    ]
    assert reader.feed("\n") == []
    assert reader.feed("y") == [CodeDelta(raw="\ny", text="\ny")]
    assert reader.feed("\n``") == []
    assert reader.feed("`\nthen") == [CodeClosed(raw="\n```", complete=True), TextPiece(raw="\nthen")]


@given(st.text(alphabet="`~\nab ", max_size=30), st.sampled_from(["", "python"]))
def test_a_fence_holds_any_code(code: str, language: str) -> None:
    assert blocks(fences.fence(code, language)) == [Block(language=language, code=code, complete=True)]
