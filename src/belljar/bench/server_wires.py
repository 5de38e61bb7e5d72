"""The wire formats of `belljar bench server`: how each dialect is asked, and what its answers say. Pure, and written
from the vendors' formats: nothing of Belljar's own dialects is used, which are what is measured.

Promises: WIRES has a row for each dialect; a reader takes what an answer must hold for it to be right, and raises
msgspec.DecodeError where that has another shape. Not covered: reasoning, pictures, files, calls that are the client's
but in chat completions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

CHAT, GEMINI, INTERACTIONS, DASHSCOPE, QWEN_CHAT, RESPONSES = (
    "chat_completions",
    "gemini",
    "gemini_interactions",
    "dashscope",
    "qwen_chat",
    "responses",
)
DONE = b"[DONE]"
MODEL = "scripted-model"


@dataclass(kw_only=True)
class Heard:
    """What an answer has said so far. `codes` and `outputs` are of code that the server has run, `runs` how often it
    says it has; `calls` are the client's to make.
    """

    texts: list[str] = field(default_factory=list)
    calls: set[int] = field(default_factory=set)
    codes: list[str] = field(default_factory=list)
    outputs: dict[int, str] = field(default_factory=dict)
    runs: int = 0
    finish: str | None = None
    error: Any = None


@dataclass(frozen=True, kw_only=True)
class Way:
    """How something is asked for: where, and with what beside the body of a step."""

    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Wire:
    """One dialect. A stream is frames with `separator` after each; `unframe` takes the data out of one, None where it
    is no frame of this dialect. The stream is complete with a frame that holds `end`, or where there is none with the
    one that tells the finish. `stop` is what an answer finishes with.
    """

    whole: Way
    stream: Way
    separator: bytes = b"\n\n"
    unframe: Callable[[bytes], bytes | None]
    end: bytes | None = None
    read: Callable[[bytes, Heard, bool], None]
    stop: str = "stop"

    def way(self, *, stream: bool) -> Way:
        """How to ask for a stream, or a whole answer."""
        return self.stream if stream else self.whole


# --- frames -----------------------------------------------------------------------------------------------------------

_NAMED = re.compile(rb"event: ([a-z_.]+)\ndata: ([^\n]*)")
_NUMBERED = re.compile(rb"id:\d+\nevent:result\n:HTTP_STATUS/200\ndata:([^\n]*)")


def _bare(frame: bytes) -> bytes | None:
    return frame[6:] if frame.startswith(b"data: ") else None


def _named(key: bytes) -> Callable[[bytes], bytes | None]:
    """The event's name stands before its data, and in it under `key`."""

    def unframe(frame: bytes) -> bytes | None:
        found = _NAMED.fullmatch(frame)
        if found is None:
            return None
        name, data = found.groups()
        is_told = data == DONE if name == b"done" else b'"%s":"%s"' % (key, name) in data
        return data if is_told else None

    return unframe


def _numbered(frame: bytes) -> bytes | None:
    found = _NUMBERED.fullmatch(frame)
    return found[1] if found else None


# --- chat completions, also Alibaba's ---------------------------------------------------------------------------------


class _Shown(msgspec.Struct):
    text: str | None = None


class _Executed(msgspec.Struct):
    index: int = 0
    output: str | None = None
    code_results: list[_Shown] | None = None


class _Place(msgspec.Struct):
    index: int = 0


class _Message(msgspec.Struct):
    content: str | None = None
    tool_calls: list[_Place] | None = None
    executed_tools: list[_Executed] | None = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    delta: _Message | None = None
    finish_reason: str | None = None


class _Count(msgspec.Struct):
    count: int = 0


class _Plugins(msgspec.Struct):
    code_interpreter: _Count | None = None


class _Usage(msgspec.Struct):
    plugins: _Plugins | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


def _read_chat(data: bytes, heard: Heard, stream: bool) -> None:
    chunk = _decode_chunk(data)
    heard.error = chunk.error
    _take_usage(chunk.usage, heard)
    for choice in chunk.choices:
        heard.finish = choice.finish_reason or heard.finish
        message = choice.delta or choice.message
        if message is not None:
            _take_message(message, heard, stream)


def _take_usage(usage: _Usage | None, heard: Heard) -> None:
    if usage is not None and usage.plugins is not None and usage.plugins.code_interpreter is not None:
        heard.runs = usage.plugins.code_interpreter.count


def _take_message(message: _Message, heard: Heard, stream: bool) -> None:
    if message.content:
        heard.texts.append(message.content)
    if message.tool_calls:
        # in a stream, deltas of one call repeat its index; in a whole answer calls need none
        heard.calls |= {call.index if stream else place for place, call in enumerate(message.tool_calls)}
    for tool in message.executed_tools or ():
        shown = "".join(piece.text or "" for piece in tool.code_results or ())
        heard.outputs[tool.index] = (tool.output or shown).strip()


# --- Gemini's generateContent -----------------------------------------------------------------------------------------


class _Code(msgspec.Struct):
    code: str = ""


class _Outcome(msgspec.Struct):
    outcome: str = ""
    output: str = ""


class _Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    executable_code: _Code | None = None
    code_execution_result: _Outcome | None = None
    function_call: Any = None


class _Content(msgspec.Struct):
    parts: list[_Part] = []


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None


class _Generated(msgspec.Struct):
    candidates: list[_Candidate] = []
    error: Any = None


_decode_generated = msgspec.json.Decoder(_Generated).decode


def _read_gemini(data: bytes, heard: Heard, stream: bool) -> None:
    generated = _decode_generated(data)
    heard.error = generated.error
    for candidate in generated.candidates:
        heard.finish = candidate.finish_reason or heard.finish
        for part in candidate.content.parts if candidate.content else ():
            _take_part(part, heard)


def _take_part(part: _Part, heard: Heard) -> None:
    if part.text:
        heard.texts.append(part.text)
    if part.executable_code is not None:
        heard.codes.append(part.executable_code.code)
    if part.function_call is not None:
        heard.calls.add(len(heard.calls))
    result = part.code_execution_result
    if result is not None:
        told = result.output.strip()
        heard.outputs[len(heard.outputs)] = told if result.outcome == "OUTCOME_OK" else f"{result.outcome}: {told}"


# --- Gemini's interactions --------------------------------------------------------------------------------------------


class _Said(msgspec.Struct):
    """A step, or a piece of one: the names of their members do not clash."""

    type: str = ""
    text: str = ""
    content: list[_Shown] | None = None
    arguments: Any = None
    result: Any = None
    is_error: bool | None = None


class _Interaction(msgspec.Struct):
    status: str = ""
    steps: list[_Said] = []
    error: Any = None


class _Event(msgspec.Struct):
    event_type: str
    step: _Said | None = None
    delta: _Said | None = None
    interaction: _Interaction | None = None
    error: Any = None


_decode_interaction = msgspec.json.Decoder(_Interaction).decode
_decode_event = msgspec.json.Decoder(_Event).decode


def _read_interactions(data: bytes, heard: Heard, stream: bool) -> None:
    if not stream:
        _end(_decode_interaction(data), heard)
        return
    event = _decode_event(data)
    heard.error = event.error
    if event.delta is not None:
        _take_said(event.delta, heard)
    if event.step is not None and event.step.type == "function_call":
        heard.calls.add(len(heard.calls))
    if event.event_type == "interaction.completed" and event.interaction is not None:
        _end(event.interaction, heard)


def _end(interaction: _Interaction, heard: Heard) -> None:
    heard.error = interaction.error or heard.error
    heard.finish = interaction.status
    for step in interaction.steps:
        _take_said(step, heard)
        if step.type == "function_call":
            heard.calls.add(len(heard.calls))


def _take_said(said: _Said, heard: Heard) -> None:
    if said.type in ("text", "model_output"):
        heard.texts += [text for text in (said.text, *(part.text for part in said.content or ())) if text]
    elif said.type == "code_execution_call":
        heard.codes.append(str(said.arguments.get("code")) if isinstance(said.arguments, dict) else "")
    elif said.type == "code_execution_result":
        told = said.result.strip() if isinstance(said.result, str) else str(said.result)
        heard.outputs[len(heard.outputs)] = told if said.is_error is False else f"error: {told}"


# --- DashScope --------------------------------------------------------------------------------------------------------


class _Tool(msgspec.Struct):
    code_interpreter: _Code | None = None


class _Output(msgspec.Struct):
    choices: list[_Choice] = []
    tool_info: list[_Tool] = []


class _Generation(msgspec.Struct):
    output: _Output | None = None
    usage: _Usage | None = None
    code: str | None = None
    message: str | None = None


_decode_generation = msgspec.json.Decoder(_Generation).decode


def _read_dashscope(data: bytes, heard: Heard, stream: bool) -> None:
    generation = _decode_generation(data)
    if generation.code:
        heard.error = f"{generation.code}: {generation.message}"
    _take_usage(generation.usage, heard)
    if generation.output is None:
        return
    # each frame tells all that has been run so far
    heard.codes = [tool.code_interpreter.code for tool in generation.output.tool_info if tool.code_interpreter]
    for choice in generation.output.choices:
        heard.finish = choice.finish_reason if choice.finish_reason not in (None, "null") else heard.finish
        if choice.message is not None:
            _take_message(choice.message, heard, stream)


# --- responses --------------------------------------------------------------------------------------------------------


class _Logs(msgspec.Struct):
    type: str
    logs: str = ""


class _OutputItem(msgspec.Struct):
    type: str
    status: str = ""
    code: str | None = None
    outputs: list[_Logs] | None = None
    content: list[_Shown] | None = None


class _Response(msgspec.Struct):
    status: str = ""
    output: list[_OutputItem] = []
    error: Any = None


class _ResponseEvent(msgspec.Struct):
    type: str
    delta: str = ""
    item: _OutputItem | None = None
    response: _Response | None = None


_decode_response = msgspec.json.Decoder(_Response).decode
_decode_response_event = msgspec.json.Decoder(_ResponseEvent).decode
_RESPONSE_ENDS = ("response.completed", "response.incomplete", "response.failed")


def _read_responses(data: bytes, heard: Heard, stream: bool) -> None:
    if not stream:
        response = _decode_response(data)
        heard.finish, heard.error = response.status, response.error
        for item in response.output:
            heard.texts += [part.text for part in item.content or () if item.type == "message" and part.text]
            _take_item(item, heard)
        return
    event = _decode_response_event(data)
    if event.type == "response.output_text.delta":
        heard.texts.append(event.delta)
    elif event.type == "response.output_item.done" and event.item is not None:
        _take_item(event.item, heard)
    elif event.type in _RESPONSE_ENDS and event.response is not None:
        heard.finish, heard.error = event.response.status, event.response.error


def _take_item(item: _OutputItem, heard: Heard) -> None:
    if item.type == "function_call":
        heard.calls.add(len(heard.calls))
    elif item.type == "code_interpreter_call":
        heard.codes.append(item.code or "")
        told = "".join(output.logs for output in item.outputs or ()).strip()
        heard.outputs[len(heard.outputs)] = told if item.status == "completed" else f"{item.status}: {told}"


# --- the table --------------------------------------------------------------------------------------------------------

_CHAT_PATH = "/v1/chat/completions"
_MODEL_PATH = f"/v1beta/models/{MODEL}"
_INTERACTIONS_PATH = "/v1beta/interactions"
_DASHSCOPE_PATH = "/api/v1/services/aigc/text-generation/generation"
_RESPONSES_PATH = "/v1/responses"
_QWEN_PATH = "/compatible-mode/v1/chat/completions"

WIRES: Mapping[str, Wire] = {
    CHAT: Wire(
        whole=Way(path=_CHAT_PATH, fields={"stream": False}),
        stream=Way(path=_CHAT_PATH, fields={"stream": True}),
        unframe=_bare,
        end=DONE,
        read=_read_chat,
    ),
    GEMINI: Wire(
        whole=Way(path=f"{_MODEL_PATH}:generateContent"),
        stream=Way(path=f"{_MODEL_PATH}:streamGenerateContent?alt=sse"),
        separator=b"\r\n\r\n",
        unframe=_bare,
        read=_read_gemini,
        stop="STOP",
    ),
    INTERACTIONS: Wire(
        whole=Way(path=_INTERACTIONS_PATH, fields={"stream": False}),
        stream=Way(path=_INTERACTIONS_PATH, fields={"stream": True}),
        unframe=_named(b"event_type"),
        end=DONE,
        read=_read_interactions,
        stop="completed",
    ),
    DASHSCOPE: Wire(
        whole=Way(path=_DASHSCOPE_PATH),
        stream=Way(path=_DASHSCOPE_PATH, headers={"x-dashscope-sse": "enable"}),
        unframe=_numbered,
        read=_read_dashscope,
    ),
    QWEN_CHAT: Wire(
        whole=Way(path=_QWEN_PATH, fields={"stream": False}),
        # without usage, a stream would not tell that code was run
        stream=Way(path=_QWEN_PATH, fields={"stream": True, "stream_options": {"include_usage": True}}),
        unframe=_bare,
        end=DONE,
        read=_read_chat,
    ),
    RESPONSES: Wire(
        whole=Way(path=_RESPONSES_PATH, fields={"stream": False}),
        stream=Way(path=_RESPONSES_PATH, fields={"stream": True}),
        unframe=_named(b"type"),
        read=_read_responses,
        stop="completed",
    ),
}
