"""`belljar/verbatim`: a model that is no language model, and says so. It runs the code that it is sent, through the
same loop as every model, and answers with what came out: for a new installation, an SDK, a load test or a demo.

What it runs, of the last user message: every Python block (```python), one after the other in turns of their own; else
the last fenced block; else the last inline code that is Python; else the whole message, or one part of it, where that
is Python and no prose. Usage counts words between white space, not tokens: there is no tokenizer. Sampling parameters,
token limits and the client's own functions mean nothing to it.
"""

from __future__ import annotations

import ast
import builtins
import json
import time
import warnings
from collections.abc import AsyncGenerator, Iterator, Sequence

from belljar.events import (
    ArgumentsDelta,
    CallOpened,
    CallReady,
    Finish,
    TextDelta,
    TurnEnded,
    TurnEvent,
    TurnStarted,
)
from belljar.fences import blocks, fence, inline_code
from belljar.loop import LAST_CALL
from belljar.model import Call, CallResult, Message, Mode, Part, Reasoning, Request, Role, Text, Usage, new_id
from belljar.partial import write_code

ID = "belljar/verbatim"
TOOL = "python"
DELTAS = 6  # into which an answer is cut, at most
LONGEST = 200_000  # characters of a message that is searched for code; more is data
LONGEST_PLAIN = 20_000  # and of code that no fence marks
MOST_SPANS = 100  # of inline code that are looked at, the last ones

HONEST = f"({ID}: no language model wrote this. It ran the code of your message and shows what came out.)"
NO_CODE = (
    f"This is {ID}, which is no language model: it runs the Python code of your message and answers with what came "
    "out. There was no code in your last message. Send some, best in a block:\n\n```python\nprint(6 * 7)\n```"
)
NO_TOOL = (
    f"This is {ID}, which is no language model: it runs the Python code of your message and answers with what came "
    'out. For that, the request must ask for code execution, as with tools: [{"type": "code_interpreter"}].'
)
PLACEHOLDER = 'print("There is no code in this message.")'  # run where a call is required all the same


class Verbatim:
    """The built-in model."""

    id = ID
    sees_images = False

    async def turn(self, request: Request, number: int) -> AsyncGenerator[TurnEvent, None]:
        """One turn: a call of `python`, or the answer. Raises nothing."""
        began = time.monotonic()
        yield TurnStarted(turn=number, model=ID)
        results = _results(request.messages)
        code = _next_code(request, len(results))
        written = _answer(request, results) if code is None else write_code(code)
        ready = time.monotonic()
        if code is not None:
            call = new_id("call_")
            yield CallOpened(call=call, name=TOOL)
            for piece in _pieces(written):
                yield ArgumentsDelta(call=call, text=piece)
            yield CallReady(call=call, arguments=written)
        else:
            for piece in _pieces(written):
                yield TextDelta(text=piece)
        yield TurnEnded(
            turn=number,
            model=ID,
            finish=Finish.STOP if code is None else Finish.CALLS,
            usage=Usage(
                prompt_tokens=sum(map(_words, request.messages)),
                completion_tokens=len(written.split()),
                seconds=time.monotonic() - began,
                prompt_seconds=ready - began,
            ),
        )


# --- what to run ------------------------------------------------------------------------------------------------------


def _next_code(request: Request, done: int) -> str | None:
    """The code of this turn, None where it is time to answer."""
    choice = request.choice
    if choice.mode is Mode.NONE or not any(function.name == TOOL for function in request.functions):
        return None
    codes = find_codes(_last_user(request.messages))
    if not codes and not done and (choice.mode is Mode.REQUIRED or choice.name == TOOL):
        codes = [PLACEHOLDER]
    return codes[done] if done < len(codes) else None


def find_codes(texts: Sequence[str]) -> list[str]:
    """The codes to run in a message, given the texts of its parts."""
    text = "\n".join(texts)
    if len(text) > LONGEST:
        return []
    fenced = [block for block in blocks(text) if block.code.strip()]
    marked = [block.code for block in fenced if block.is_python]
    if marked or fenced:
        return marked or [fenced[-1].code]
    spans = inline_code(text)[-MOST_SPANS:]
    return next(([code.strip()] for code in (*reversed(spans), text, *reversed(texts)) if is_code(code)), [])


# What makes an expression more than words that happen to parse ("yes or no", "Note: this", "well-known").
_TELLING = (
    *(ast.Call, ast.Assign, ast.AugAssign, ast.NamedExpr, ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef),
    *(ast.AsyncFunctionDef, ast.For, ast.While, ast.With, ast.Try, ast.ListComp, ast.SetComp, ast.DictComp),
    *(ast.GeneratorExp, ast.JoinedStr, ast.Lambda, ast.Await),
)
_WORDS = (ast.Constant, ast.Name, ast.Tuple)


def is_code(text: str) -> bool:
    """Whether a text is Python code that does something, and no words that happen to parse."""
    if len(text) > LONGEST_PLAIN:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the client's code, such as an invalid escape
            tree = ast.parse(text.strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    if any(isinstance(node, _TELLING) for node in ast.walk(tree)):
        return True
    return _is_sum(tree)


def _is_sum(tree: ast.Module) -> bool:
    """Whether it is an expression of constants and builtins alone, and more than one word or number."""
    if len(tree.body) != 1 or not isinstance(tree.body[0], ast.Expr) or isinstance(tree.body[0].value, _WORDS):
        return False
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    return all(hasattr(builtins, name) for name in names)


# --- what to say ------------------------------------------------------------------------------------------------------


def _answer(request: Request, results: Sequence[str]) -> str:
    if results:
        words = "\n\n".join(fence(text) for text in results)
        plain, spoken = "\n".join(results), f"{words}\n\n{HONEST}"
    else:
        offered = any(function.name == TOOL for function in request.functions)
        plain = spoken = NO_CODE if offered else NO_TOOL
    if request.format is not None:
        return json.dumps({"output": plain}, ensure_ascii=False)
    return spoken


def _pieces(text: str) -> Iterator[str]:
    """The text in a few deltas."""
    size = max(1, -(-len(text) // DELTAS))
    return (text[at : at + size] for at in range(0, len(text), size))


# --- the conversation -------------------------------------------------------------------------------------------------


def _last_user(messages: Sequence[Message]) -> list[str]:
    """The texts of the last message of the user."""
    last = next((message for message in reversed(messages) if message.role is Role.USER), None)
    return [part.text for part in last.parts if isinstance(part, Text)] if last else []


def _results(messages: Sequence[Message]) -> list[str]:
    """What code gave since the user spoke last, without the loop's note that there will be no more."""
    texts: list[str] = []
    for message in messages:
        if message.role is Role.USER:
            texts = []
        found = (part.text for part in message.parts if isinstance(part, CallResult) and part.builtin)
        texts += (text.removesuffix(LAST_CALL).rstrip("\n") for text in found)
    return texts


def _words(message: Message) -> int:
    return sum(len(_text_of(part).split()) for part in message.parts)


def _text_of(part: Part) -> str:
    if isinstance(part, Text | Reasoning | CallResult):
        return part.text
    return part.arguments if isinstance(part, Call) else ""
