"""The client's side of OpenAI chat completions: what an upstream is sent, and what engines really answer.

Promises: however bytes are cut and deltas are split, the joined deltas of a turn are the same; a stream and a whole
body of the same answer give the same events. Covered: vLLM, SGLang, llama.cpp, Ollama, LM Studio, TGI, and hosted
providers with their peculiarities, as the cases of tests/upstream/test_codec.py list them. Not covered: more than one
choice, audio.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from belljar.dialects.upstream_calls import CallReader
from belljar.dialects.upstream_errors import Blame
from belljar.dialects.upstream_request import Manners, write_request
from belljar.dialects.upstream_thoughts import Thoughts, has_lone_close
from belljar.events import Finish, ReasoningDelta, TextDelta, TurnEnded, TurnEvent, TurnStarted
from belljar.model import Call, Request, Usage

__all__ = ["Blame", "Manners", "StreamReader", "read_body", "read_usage", "write_request"]

DONE = b"[DONE]"
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
TEXT_KEYS = ("text", "content", "thinking", "summary", "refusal")
MAX_DEPTH = 8  # levels at which text is looked for
NUMBERS = (int, float)
MAX_COUNT = 1 << 53  # of tokens
THINKING_PARTS = ("thinking", "reasoning")

FINISHES: Mapping[str, Finish] = {
    "length": Finish.LENGTH,
    "max_tokens": Finish.LENGTH,
    "model_length": Finish.LENGTH,
    "content_filter": Finish.FILTERED,
    "safety": Finish.FILTERED,
    "sensitive": Finish.FILTERED,
}  # all others are a stop, or calls where there are any
ECHOED_KEYS = {"reasoning_content", "reasoning"}  # that engines also take back, as text
FAILED_FINISHES = {"error", "abort", "network_error", "insufficient_system_resource"}

NOBODY = Blame()
_decoder = msgspec.json.Decoder()
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class StreamReader:
    """One turn of a model, from the data of its server-sent events."""

    def __init__(
        self, request: Request, model: str, number: int, *, thinks: bool = False, blame: Blame = NOBODY
    ) -> None:
        """`model` is the name for the events; `thinks` says that the template opens `<think>` by itself."""
        self.started = False  # a chunk was read
        self.done = False  # [DONE] was read
        self.finish: str | None = None  # the upstream's own word, once it has given one
        self._request = request
        self._model = model
        self._number = number
        self._blame = blame
        self._thoughts = Thoughts(opened=thinks)
        self._calls = CallReader([function.name for function in request.functions], self._ids)
        self._usage: dict[str, Any] | None = None
        self._extra: dict[str, Any] = {}
        self._logprobs: list[Any] = []

    def feed(self, data: bytes) -> list[TurnEvent]:
        """The events that one server event holds. Raises UpstreamError."""
        if data.strip() == DONE:
            self.done = True
            return []
        if not data.strip():
            return []
        return self.take(decode(data, self._blame))

    def take(self, chunk: Any) -> list[TurnEvent]:
        """The events of a chunk, parsed; or of a whole body. Raises UpstreamError."""
        if not isinstance(chunk, dict):
            raise self._blame.broken("sent a chunk that is no JSON object")
        if chunk.get("error") or chunk.get("object") == "error":
            raise self._blame.in_answer(chunk)
        events: list[TurnEvent] = []
        self._start(chunk, events)
        choices = chunk.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if isinstance(choice, dict) and not choice.get("index"):
            self._take_choice(choice, events)
        return events

    def end(self, *, prompt_seconds: float | None = None, seconds: float = 0.0) -> list[TurnEvent]:
        """What is still held back, and TurnEnded; the seconds go into its usage."""
        events: list[TurnEvent] = []
        if not self.started:
            self._start({}, events)
        self._say(*self._thoughts.end(), events)
        self._calls.end(events)
        usage = read_usage(self._usage, prompt_seconds, seconds)
        events.append(
            TurnEnded(turn=self._number, model=self._model, finish=self._finished(), usage=usage, extra=self._extra)
        )
        return events

    def _ids(self) -> set[str]:
        parts = (part for message in self._request.messages for part in message.parts)
        return {part.id for part in parts if isinstance(part, Call)}

    def _start(self, chunk: dict[str, Any], events: list[TurnEvent]) -> None:
        """What stands beside the choices: who answers, and what it cost so far."""
        fingerprint = chunk.get("system_fingerprint")
        if fingerprint and isinstance(fingerprint, str):
            self._extra["system_fingerprint"] = fingerprint
        if not self.started:
            self.started = True
            events.append(TurnStarted(turn=self._number, model=self._model, extra=dict(self._extra)))
        usage = chunk.get("usage")
        if usage is None and isinstance(chunk.get("x_groq"), dict):
            usage = chunk["x_groq"].get("usage")
        self._count(usage)

    def _count(self, usage: Any) -> None:
        if isinstance(usage, dict) and ("prompt_tokens" in usage or "completion_tokens" in usage):
            self._usage = usage

    def _take_choice(self, choice: dict[str, Any], events: list[TurnEvent]) -> None:
        self._count(choice.get("usage"))
        delta = choice["delta"] if "delta" in choice else choice.get("message")
        if isinstance(choice.get("logprobs"), dict):
            self._logprobs.append(choice["logprobs"])
        if isinstance(delta, dict):
            self._take_delta(delta, events)
        finish = choice.get("finish_reason")
        if isinstance(finish, str) and finish:
            self.finish = finish.lower()
            if self.finish in FAILED_FINISHES:
                raise self._blame.broken(f"gave up in the middle of its answer (finish_reason {finish!r})")

    def _take_delta(self, delta: dict[str, Any], events: list[TurnEvent]) -> None:
        if len(delta) == 1 and isinstance(delta.get("content"), str):  # nearly all are this
            self._say(*self._thoughts.feed(delta["content"]), events)
            return
        key, reasoning = _reasoning(delta)
        content = delta.get("content")
        text, more = (content, "") if isinstance(content, str) else _parts(content)
        reasoning += more
        if reasoning:
            if key in ECHOED_KEYS:
                self._extra.setdefault("reasoning_key", key)
            self._say(reasoning, self._thoughts.skip(), events)
        if delta.get("refusal"):
            text += _text(delta["refusal"])
        if text:
            self._say(*self._thoughts.feed(text), events)
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            self._calls.feed(call, events)
        if isinstance(delta.get("function_call"), dict):
            self._calls.feed({"function": delta["function_call"]}, events)

    def _say(self, reasoning: str, text: str, events: list[TurnEvent]) -> None:
        if reasoning:
            self._logprobs.clear()
            events.append(ReasoningDelta(text=reasoning))
        if text:
            extra = {"logprobs": _joined(self._logprobs)} if self._logprobs else None
            self._logprobs.clear()
            events.append(TextDelta(text=text, extra=extra))

    def _finished(self) -> Finish:
        """Engines disagree with themselves: where there are calls, these count, unless they were cut off."""
        finish = FINISHES.get(self.finish or "", Finish.STOP)
        if self._calls.any and (finish is Finish.STOP or (finish is Finish.LENGTH and self._calls.complete)):
            return Finish.CALLS
        return finish


def read_body(
    body: bytes,
    request: Request,
    model: str,
    number: int,
    *,
    thinks: bool = False,
    blame: Blame = NOBODY,
    seconds: float = 0.0,
) -> list[TurnEvent]:
    """The events of an answer that came as one body. Raises UpstreamError."""
    value = decode(body, blame)
    reader = StreamReader(request, model, number, thinks=thinks or _thinks(value), blame=blame)
    events = reader.take(value)
    if not value.get("choices"):
        raise blame.broken("sent an answer without choices")
    return events + reader.end(seconds=seconds)


def read_usage(usage: Any, prompt_seconds: float | None = None, seconds: float = 0.0) -> Usage | None:
    """A `usage` object, with the seconds that were measured here. None where nothing was counted."""
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
    cached = _number(prompt, "cached_tokens") or _number(usage, "prompt_cache_hit_tokens", "cached_tokens")
    return Usage(
        prompt_tokens=_number(usage, "prompt_tokens"),
        completion_tokens=_number(usage, "completion_tokens"),
        reasoning_tokens=_number(completion, "reasoning_tokens") or _number(usage, "reasoning_tokens"),
        cached_tokens=cached,
        prompt_seconds=prompt_seconds,
        seconds=seconds,
    )


def decode(data: bytes, blame: Blame) -> Any:
    """JSON from an upstream; half a surrogate pair becomes U+FFFD. Raises UpstreamError."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _decode_slowly(data, blame)


def _decode_slowly(data: bytes, blame: Blame) -> Any:
    try:
        return _sound(json.loads(data.decode("utf-8", "replace")))
    except (ValueError, RecursionError):
        shown = data[:80].decode("utf-8", "replace")
        raise blame.broken(f"sent what is no JSON: {shown!r}") from None


def _sound(value: Any) -> Any:
    """The value without halves of surrogate pairs, which no text may hold."""
    if isinstance(value, str):
        return _LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_sound(item) for item in value]
    if isinstance(value, dict):
        return {_sound(key): _sound(item) for key, item in value.items()}
    return value


# --- texts wherever they are ------------------------------------------------------------------------------------------


def _reasoning(delta: dict[str, Any]) -> tuple[str, str]:
    """The key under which there is reasoning, and its text. Some engines say the same under two keys."""
    for key in REASONING_KEYS:
        if delta.get(key):
            text = _text(delta[key])
            if text:
                return key, text
    return "", ""


def _text(value: Any, depth: int = MAX_DEPTH) -> str:
    """The text of a string, an object or a list of them."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and depth:
        return "".join(_text(item, depth - 1) for item in value)
    if isinstance(value, dict) and depth:
        return next(filter(None, (_text(value.get(key), depth - 1) for key in TEXT_KEYS)), "")
    return ""


def _parts(content: Any) -> tuple[str, str]:
    """Text and reasoning of a `content` that is no string."""
    parts = content if isinstance(content, list) else [content]
    thinking = [part for part in parts if isinstance(part, dict) and part.get("type") in THINKING_PARTS]
    return _text([part for part in parts if part not in thinking]), _text(thinking)


def _thinks(value: Any) -> bool:
    """Whether a whole answer begins inside its reasoning."""
    choices = value.get("choices") if isinstance(value, dict) else None
    choice = choices[0] if isinstance(choices, list) and choices else None
    message = choice.get("message") if isinstance(choice, dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    if not (isinstance(message, dict) and isinstance(content, str) and has_lone_close(content)):
        return False
    return not any(message.get(key) for key in REASONING_KEYS)


def _joined(logprobs: list[Any]) -> Any:
    """The logprobs of several pieces as those of one."""
    if len(logprobs) == 1:
        return logprobs[0]
    lists = [piece["content"] for piece in logprobs if isinstance(piece.get("content"), list)]
    content = [entry for entries in lists for entry in entries]
    return {**logprobs[-1], "content": content}


def _number(where: Any, *names: str) -> int:
    """The first of these that is a count; 0 where there is none."""
    if isinstance(where, dict):
        for name in names:
            value = where.get(name)
            if isinstance(value, NUMBERS) and 0 <= value < MAX_COUNT:
                return int(value)
    return 0
