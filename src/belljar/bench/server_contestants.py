"""Who takes part in `belljar bench server`, what each is asked, and the targets. Tables, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from belljar.bench.server_answer import Step
from belljar.bench.server_wires import DASHSCOPE, GEMINI, INTERACTIONS, MODEL, QWEN_CHAT, RESPONSES
from belljar.bench.stats import Target
from belljar.scripted.scripts import ANSWER

CLIENTS = (1, 16, 64)
MANY = 64
PACE_SECONDS = 0.04  # between two of one client's requests with an execution: the stock of sandboxes is full again
PACED_LONGER = 2.0
DIALECT_SHARE = 0.5  # of a turn: one of many, and one client's alone

DIRECT, RELAY, BELLJAR = "direct", "bare relay", "belljar"
TURNS, CODED, BACK_TO_BACK = "direct, two turns", "belljar, one execution", "the same, without a pause"
BY_DIALECT = "dialects"
SECTIONS = ("direct", "relay", "belljar", "code", BY_DIALECT)
ONE_CLIENT = {BY_DIALECT}  # sections that are of one client only

# --- what is asked ----------------------------------------------------------------------------------------------------

_ASKED = "Say something about a fox, a dog and what the one does with the other."
_CODE, _OUTPUT = "print(1)", "1"
_QUESTION = {"role": "user", "content": _ASKED}
_CALL = {"id": "call_0", "type": "function", "function": {"name": "python", "arguments": '{"code": "print(1)"}'}}
_CODE_SCHEMA = {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]}
_TOOLS = [{"type": "function", "function": {"name": "python", "description": "Runs code.", "parameters": _CODE_SCHEMA}}]
_CHAT = {"model": MODEL, "messages": [_QUESTION]}
_CONTENTS = {"contents": [{"role": "user", "parts": [{"text": _ASKED}]}]}
_INTERACTION = {"model": MODEL, "input": _ASKED}
_UNKEPT = {"model": MODEL, "input": _ASKED, "store": False}
_INTERPRETER = {
    "tools": [{"type": "code_interpreter", "container": {"type": "auto"}}],
    "include": ["code_interpreter_call.outputs"],
}

PLAIN = (Step(body=_CHAT, text=ANSWER),)
TWO_TURNS = (
    Step(body=_CHAT | {"tools": _TOOLS}, calls=1),
    Step(
        body=_CHAT
        | {
            "tools": _TOOLS,
            "messages": [
                _QUESTION,
                {"role": "assistant", "content": None, "tool_calls": [_CALL]},
                {"role": "tool", "tool_call_id": "call_0", "content": "1\n"},
            ],
        },
        text=ANSWER,
    ),
)
WITH_CODE = (Step(body=_CHAT | {"tools": [{"type": "code_interpreter"}]}, text=ANSWER, output=_OUTPUT),)


def _dashscope(**parameters: Any) -> dict[str, Any]:
    asked = {"result_format": "message", "incremental_output": True} | parameters
    return {"model": MODEL, "input": {"messages": [_QUESTION]}, "parameters": asked}


@dataclass(frozen=True, kw_only=True)
class DialectSteps:
    """What is asked in a dialect that stands beside chat completions: a chat, and one with an execution."""

    name: str
    plain: Step
    coded: Step

    @property
    def coded_name(self) -> str:
        """The contestant with an execution."""
        return f"{self.name}, code"


DIALECTS = (
    DialectSteps(
        name=GEMINI,
        plain=Step(wire=GEMINI, body=_CONTENTS, text=ANSWER),
        coded=Step(
            wire=GEMINI, body=_CONTENTS | {"tools": [{"codeExecution": {}}]}, text=ANSWER, code=_CODE, output=_OUTPUT
        ),
    ),
    DialectSteps(
        name=INTERACTIONS,
        plain=Step(wire=INTERACTIONS, body=_INTERACTION, text=ANSWER),
        coded=Step(
            wire=INTERACTIONS,
            body=_INTERACTION | {"tools": [{"type": "code_execution"}]},
            text=ANSWER,
            code=_CODE,
            output=_OUTPUT,
        ),
    ),
    DialectSteps(
        name=DASHSCOPE,
        plain=Step(wire=DASHSCOPE, body=_dashscope(), text=ANSWER),
        coded=Step(wire=DASHSCOPE, body=_dashscope(enable_code_interpreter=True), text=ANSWER, code=_CODE, runs=1),
    ),
    DialectSteps(
        name=QWEN_CHAT,
        plain=Step(wire=QWEN_CHAT, body=_CHAT, text=ANSWER),
        coded=Step(wire=QWEN_CHAT, body=_CHAT | {"enable_code_interpreter": True}, text=ANSWER, runs=1),
    ),
    DialectSteps(
        name=RESPONSES,
        plain=Step(wire=RESPONSES, body=_INTERACTION, text=ANSWER),
        coded=Step(wire=RESPONSES, body=_INTERACTION | _INTERPRETER, text=ANSWER, code=_CODE, output=_OUTPUT),
    ),
    DialectSteps(
        name=f"{RESPONSES}_unkept",
        plain=Step(wire=RESPONSES, body=_UNKEPT, text=ANSWER),
        coded=Step(wire=RESPONSES, body=_UNKEPT | _INTERPRETER, text=ANSWER, code=_CODE, output=_OUTPUT),
    ),
)

# --- who --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A way to have an answer: which server is asked what. `paced` pauses where there is one client; `clients` None is
    any number of them; `share` is of a turn's time, with one client.
    """

    name: str
    sections: tuple[str, ...]
    server: str
    steps: tuple[Step, ...]
    paced: bool = False
    clients: tuple[int, ...] | None = None
    share: float = 1.0

    def pause(self, clients: int) -> float:
        """Seconds between a client's requests."""
        return PACE_SECONDS if self.paced and clients == 1 else 0.0

    def takes_part(self, only: Sequence[str], clients: int = 1) -> bool:
        """Whether it is measured with so many clients, where only these sections are."""
        wanted = set(only) if clients == 1 else set(only) - ONE_CLIENT
        return bool(wanted & set(self.sections)) and (self.clients is None or clients in self.clients)

    def seconds(self, turn: float, clients: int) -> float:
        """Of its turn."""
        return turn * (self.share if clients == 1 else 1.0)


def _through(dialect: DialectSteps) -> tuple[Contestant, Contestant]:
    """The chat, and the one with an execution."""
    plain = Contestant(
        name=dialect.name, sections=(BY_DIALECT,), server="belljar", steps=(dialect.plain,), share=DIALECT_SHARE
    )
    coded = replace(plain, name=dialect.coded_name, steps=(dialect.coded,), paced=True)
    return plain, coded


CONTESTANTS = (
    Contestant(name=DIRECT, sections=("direct",), server="upstream", steps=PLAIN),
    Contestant(name=RELAY, sections=("relay",), server="relay", steps=PLAIN),
    Contestant(name=BELLJAR, sections=("belljar", BY_DIALECT), server="belljar", steps=PLAIN),
    *(_through(dialect)[0] for dialect in DIALECTS),
    Contestant(
        name=TURNS, sections=("code",), server="upstream", steps=TWO_TURNS, paced=True, clients=(1,), share=PACED_LONGER
    ),
    Contestant(
        name=CODED,
        sections=("code", BY_DIALECT),
        server="belljar",
        steps=WITH_CODE,
        paced=True,
        share=PACED_LONGER,
    ),
    *(_through(dialect)[1] for dialect in DIALECTS),
    Contestant(name=BACK_TO_BACK, sections=("code",), server="belljar", steps=WITH_CODE, clients=(1,)),
)

# --- targets ----------------------------------------------------------------------------------------------------------


def _beside(dialect: DialectSteps) -> tuple[Target, Target]:
    what = f"{dialect.name} less chat completions, p50"
    return (
        Target(name=dialect.name, what=what, unit="ms", bound=1.0),
        Target(name=f"{dialect.name}_streaming", what="the same, streaming", unit="ms", bound=1.0),
    )


TARGETS = (
    Target(name="added", what="added to a chat, one client, p50", unit="ms", bound=0.8),
    Target(name="added_streaming", what="the same, streaming", unit="ms", bound=0.8),
    Target(name="added_first", what="the same, to the first token", unit="ms", bound=0.8),
    Target(
        name="share", what="requests a second, 16 clients: belljar / bare relay", unit="ratio", bound=0.5, at_least=True
    ),
    Target(name="share_streaming", what="the same, streaming", unit="ratio", bound=0.5, at_least=True),
    Target(name="execution", what="added by two turns and one print(1), one client, p50", unit="ms", bound=6),
    Target(name="execution_streaming", what="the same, streaming", unit="ms", bound=6),
    Target(name="many_p99", what="64 clients streaming, one execution each, p99", unit="ms", bound=2000),
    Target(name="many_failed", what="of these, requests that failed", unit="count", bound=0),
    *(target for dialect in DIALECTS for target in _beside(dialect)),
)
