"""Code that ran in earlier answers, as clients send it back in `reasoning` and `executed_tools`.

Both shapes are read: Groq's systems write {"code": ...} as arguments, often with broken escapes, and an `output`;
GPT-OSS writes bare code and `code_results`. Executions become calls and their results, in messages of their own, so
that a model sees what it would have seen. Searches and visits become a note in words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from belljar.dialects.attached import read_base64
from belljar.dialects.chat_settings import PYTHON
from belljar.dialects.fields import listing, mapping, maybe, text
from belljar.model import Call, CallResult, Image, Message, Part, Reasoning, Role, Text
from belljar.partial import read_code, write_code

NOTE = "[Used the tool {name} with {arguments}; it gave: {output}]\n"
NOTE_CHARACTERS = 2000  # of a note's arguments and output, each


def read_history(value: Mapping[str, Any], param: str, at: int) -> tuple[list[Message], tuple[Part, ...]]:
    """Messages of an earlier answer's executions, and the parts with which its own message begins.

    `at` is the number of the message: ids of the calls are made of it, the same every time, and of nine letters and
    digits, as Mistral wants them. Raises BadRequest.
    """
    reasoning = maybe(value, "reasoning", text, param) or ""
    tools = maybe(value, "executed_tools", listing, param) or []
    if tools:
        reasoning = without_transcript(reasoning)
    first: list[Part] = [Reasoning(text=reasoning)] if reasoning.strip() else []
    before: list[Message] = []
    for number, tool in enumerate(tools):
        place = f"{param}.executed_tools.{number}"
        tool = mapping(tool, place)
        code = _code_of(tool, place)
        if code is None:
            first.append(_note(tool, place))
            continue
        call = Call(id=f"r{at:05}{number:03}", name=PYTHON, arguments=write_code(code), builtin=True)
        before.append(Message(role=Role.ASSISTANT, parts=(*first, call)))
        before.append(Message(role=Role.TOOL, parts=(_result(call.id, tool, place),)))
        first = []
    return before, tuple(first)


def _code_of(tool: Mapping[str, Any], param: str) -> str | None:
    """The code of an executed tool; None where it ran none."""
    kind, name = maybe(tool, "type", text, param), maybe(tool, "name", text, param)
    arguments = maybe(tool, "arguments", text, param) or ""
    if kind == "python":
        return read_code(arguments)
    return arguments if (kind, name) == ("function", PYTHON) else None


def _result(call: str, tool: Mapping[str, Any], param: str) -> CallResult:
    texts, images = [], []
    for number, item in enumerate(maybe(tool, "code_results", listing, param) or ()):
        place = f"{param}.code_results.{number}"
        texts.append(maybe(mapping(item, place), "text", text, place) or "")
        png = maybe(item, "png", text, place)
        if png:
            images.append(Image(media_type="image/png", data=read_base64(png, f"{place}.png")))
    output = maybe(tool, "output", text, param)
    told = output if output is not None else "\n".join(filter(None, texts))
    return CallResult(call=call, text=told, images=tuple(images), builtin=True)


def _note(tool: Mapping[str, Any], param: str) -> Text:
    name = maybe(tool, "name", text, param) or maybe(tool, "type", text, param) or "unknown"
    arguments, output = maybe(tool, "arguments", text, param) or "", maybe(tool, "output", text, param) or ""
    note = NOTE.format(name=name, arguments=arguments[:NOTE_CHARACTERS], output=output[:NOTE_CHARACTERS] or "nothing")
    return Text(text=note)


def without_transcript(reasoning: str) -> str:
    """Reasoning without the <tool> and <output> blocks that `executed_tools` says again. In linear time."""
    kept, at = [], 0
    while (start := reasoning.find("<tool>", at)) >= 0:
        end = reasoning.find("</tool>", start)
        if end < 0:
            break
        kept.append(reasoning[at:start])
        at = end + len("</tool>")
        gap = reasoning[at : at + 8]
        output = at + len(gap) - len(gap.lstrip())
        if reasoning.startswith("<output>", output):
            end = reasoning.find("</output>", output)
            if end < 0:
                break
            at = end + len("</output>")
    return "".join([*kept, reasoning[at:]]).strip()
