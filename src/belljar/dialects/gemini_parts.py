"""What a Gemini answer says, part by part: text, thoughts, code, its result, plots, calls of the client's functions.

Streams send the parts, bodies join them, so that both say the same. Within a turn: its text, then its calls, then what
it ran. Texts of different turns are parted by an empty line, since clients join them. Pure; no function here fails.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec

from belljar.dialects.gemini_settings import Settings
from belljar.dialects.shown import output_of, pictures_of
from belljar.events import Answer, CallItem, Finish, ReasoningItem, TextItem, TurnEnded, turn_break
from belljar.execution import Execution, Outcome

Part = dict[str, Any]

FINISHES = {
    Finish.STOP: "STOP",
    Finish.LENGTH: "MAX_TOKENS",
    Finish.CALLS: "STOP",
    Finish.FILTERED: "SAFETY",
}
OUTCOMES = {
    Outcome.OK: "OUTCOME_OK",
    Outcome.ERROR: "OUTCOME_FAILED",
    Outcome.TIMEOUT: "OUTCOME_DEADLINE_EXCEEDED",
    Outcome.OUT_OF_MEMORY: "OUTCOME_FAILED",
    Outcome.KILLED: "OUTCOME_FAILED",
    Outcome.EXITED: "OUTCOME_FAILED",
}
WORDS = {  # of an execution that ended so and left none
    Outcome.ERROR: "The code failed.\n",
    Outcome.TIMEOUT: "The code took too long, and was ended.\n",
    Outcome.OUT_OF_MEMORY: "The code used too much memory, and was ended.\n",
    Outcome.KILLED: "The code was ended by a signal.\n",
    Outcome.EXITED: "The code ended its interpreter.\n",
}


class Parts:
    """The state of an answer's parts. Each method gives the parts that an event adds."""

    def __init__(self, settings: Settings, seed: str) -> None:
        """`seed` makes the ids of code: the same seed, the same ids."""
        self._settings = settings
        self._seed = seed
        self._last = {False: "", True: ""}  # thought or not -> the last character of all its text
        self._begun = {False: False, True: False}  # in this turn
        self._thoughts = hashlib.sha256()  # of this turn
        self._signature = ""

    def turn(self) -> None:
        """A turn begins."""
        self._begun = {False: False, True: False}
        self._thoughts = hashlib.sha256()
        self._signature = ""

    def text(self, text: str) -> list[Part]:
        """More of the answer."""
        return [{"text": said}] if (said := self._parted(text, False)) else []

    def reasoning(self, text: str) -> list[Part]:
        """More of the thoughts."""
        self._thoughts.update(text.encode("utf-8", "replace"))
        self._signature = "?"
        if not self._settings.thoughts:
            return []
        return [{"text": said, "thought": True}] if (said := self._parted(text, True)) else []

    def calls(self, calls: Sequence[tuple[str, str, str]]) -> list[Part]:
        """Calls of the client's functions: id, name and arguments. Half a call, as a limit leaves it, is none."""
        parts: list[Part] = []
        for call, name, arguments in calls:
            args = _read_arguments(arguments)
            if args is not None:
                parts.append({"functionCall": {"id": call, "name": name, "args": args}} | self._signed())
        return parts

    def started(self, call: str, code: str) -> list[Part]:
        """The code of a call begins to run."""
        return [{"executableCode": {"id": self._id(call), "language": "PYTHON", "code": code}} | self._signed()]

    def closed(self, call: str, execution: Execution) -> list[Part]:
        """It is over."""
        outcome = execution.outcome
        result = {"id": self._id(call), "outcome": OUTCOMES[outcome], "output": _output(execution)}
        pictures = [{"inlineData": {"mimeType": kind, "data": _bytes(data)}} for kind, data in pictures_of(execution)]
        return [{"codeExecutionResult": result}, *pictures]

    def _parted(self, text: str, thought: bool) -> str:
        """The text, apart from that of earlier turns."""
        if not text:
            return ""
        if not self._begun[thought]:
            self._begun[thought] = True
            text = turn_break(self._last[thought], text) + text
        self._last[thought] = text[-1]
        return text

    def _signed(self) -> Part:
        """A signature of what was thought, for the first call after it: clients send it back as it is."""
        if not self._signature:
            return {}
        self._signature = ""
        return {"thoughtSignature": b64encode(self._thoughts.digest()).decode()}

    def _id(self, call: str) -> str:
        return hashlib.sha256(f"{self._seed}/{call}".encode("utf-8", "replace")).hexdigest()[:8]


def _output(execution: Execution) -> str:
    """All that a person would see, and at least why it ended."""
    output = output_of(execution)
    return output if execution.error is not None or execution.ok else output + WORDS[execution.outcome]


def _bytes(content: Any) -> bytes:
    return content if isinstance(content, bytes) else str(content).encode("utf-8", "replace")


def _read_arguments(arguments: str) -> dict[str, Any] | None:
    """The arguments of a call as an object; None where they are none."""
    try:
        args = msgspec.json.decode(arguments or "{}")
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None
    return args if isinstance(args, dict) else None


# --- a whole answer ---------------------------------------------------------------------------------------------------


def parts_of_answer(settings: Settings, seed: str, answer: Answer) -> list[Part]:
    """All parts; neighbouring texts are one."""
    joined: list[tuple[Part, list[str]]] = []
    for part in _pieces(Parts(settings, seed), answer):
        last = joined[-1][0] if joined else None
        if last is not None and "text" in part and "text" in last and ("thought" in part) == ("thought" in last):
            joined[-1][1].append(part["text"])
        else:
            joined.append((part, [part["text"]] if "text" in part else []))
    return [part | {"text": "".join(texts)} if texts else part for part, texts in joined]


def _pieces(parts: Parts, answer: Answer) -> Iterator[Part]:
    """The parts in the order of a stream."""
    for _, group in groupby(answer.items, key=lambda item: item.turn):
        items = list(group)
        parts.turn()
        for item in items:
            if isinstance(item, TextItem):
                yield from parts.text(item.text)
            elif isinstance(item, ReasoningItem):
                yield from parts.reasoning(item.text)
        calls = [item for item in items if isinstance(item, CallItem)]
        yield from parts.calls([(call.call, call.name, call.arguments) for call in calls if not call.builtin])
        for call in calls:
            if call.started and call.execution is not None:
                yield from parts.started(call.call, call.arguments)
                yield from parts.closed(call.call, call.execution)


# --- usage ------------------------------------------------------------------------------------------------------------


def usage_of(turns: Sequence[TurnEnded], settings: Settings) -> dict[str, Any]:
    """What is known of the tokens so far. The prompt is that of the first turn; what further turns read again, with
    the output of code, is of tool use. So the total is the sum of the others.
    """
    known = [turn.usage for turn in turns if turn.usage is not None]
    base: dict[str, Any] = {"trafficType": "ON_DEMAND"} if settings.vertex else {}
    if not known:
        return base
    first, rest = known[0].prompt_tokens, sum(usage.prompt_tokens for usage in known[1:])
    thoughts = sum(usage.reasoning_tokens for usage in known)
    candidates = max(0, sum(usage.completion_tokens for usage in known) - thoughts)
    cached = sum(usage.cached_tokens for usage in known)
    counts = {
        "promptTokenCount": first,
        "candidatesTokenCount": candidates,
        "thoughtsTokenCount": thoughts or None,
        "toolUsePromptTokenCount": rest if len(known) > 1 else None,
        "cachedContentTokenCount": cached or None,
        "totalTokenCount": first + rest + candidates + thoughts,
        "promptTokensDetails": None if settings.pictures else _in_text(first),
        "candidatesTokensDetails": _in_text(candidates),
        "toolUsePromptTokensDetails": _in_text(rest) if len(known) > 1 and not settings.pictures else None,
    }
    return base | {name: value for name, value in counts.items() if value is not None}


def _in_text(tokens: int) -> list[dict[str, Any]]:
    return [{"modality": "TEXT", "tokenCount": tokens}]


# --- probabilities ----------------------------------------------------------------------------------------------------


def logprobs_of(extras: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The upstream's `logprobs` of pieces of text, as fields of a candidate; empty where there are none."""
    tokens = [
        token
        for extra in extras
        for token in (_maybe_list(extra.get("logprobs"), "content"))
        if isinstance(token, Mapping) and isinstance(token.get("logprob"), int | float)
    ]
    if not tokens:
        return {}
    result: dict[str, Any] = {"chosenCandidates": [_token(token) for token in tokens]}
    top = [[_token(other) for other in _maybe_list(token, "top_logprobs")] for token in tokens]
    if any(top):
        result["topCandidates"] = [{"candidates": others} for others in top]
    return {"avgLogprobs": sum(token["logprob"] for token in tokens) / len(tokens), "logprobsResult": result}


def _maybe_list(value: Any, name: str) -> list[Any]:
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, list) else []


def _token(token: Any) -> dict[str, Any]:
    given = token if isinstance(token, Mapping) else {}
    return {"token": given.get("token", ""), "logProbability": given.get("logprob", 0)}
