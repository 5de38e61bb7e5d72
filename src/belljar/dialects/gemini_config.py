"""`generationConfig` of a Gemini request: sampling, the format of the answer, how much is thought and what is shown.

Promises: every documented field is in one table (FIELDS); what asks for something that is not here (speech, images,
several candidates) is refused, what has no effect here is passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from belljar.dialects.fields import Check, filled, mapping, refuse, text
from belljar.dialects.gemini_fields import anything, each, flag, number, read_message, unavailable, whole, word_of
from belljar.dialects.gemini_schema import read_json_schema, read_schema
from belljar.model import Format

PLACE = "generationConfig"
JSON = "application/json"
MIME_TYPES = ("text/plain", JSON)
LEVELS = {"MINIMAL": "minimal", "LOW": "low", "MEDIUM": "medium", "HIGH": "high"}
UNSPECIFIED = "THINKING_LEVEL_UNSPECIFIED"
BUDGETS = {0: "none", 1024: "low", 8192: "medium"}  # tokens up to which thinking is of this effort; above: high
DYNAMIC = -1  # a budget that leaves it to the model


def _single(value: Any, param: str) -> None:
    if whole()(value, param) != 1:
        refuse(param, "must be 1: one candidate is given to a request")


def _stops(value: Any, param: str) -> list[str]:
    found = [filled(item, place) for item, place in each(value, param)]
    if len(found) > 5:
        refuse(param, "must hold at most 5 sequences")
    return found


def _mime_type(value: Any, param: str) -> str:
    if text(value, param) and value.lower() not in MIME_TYPES:
        refuse(param, f"must be {' or '.join(MIME_TYPES)}, not {value[:40]!r}")
    return str(value).lower()


def _modalities(value: Any, param: str) -> None:
    for item, place in each(value, param):
        word_of(("TEXT", "MODALITY_UNSPECIFIED"))(item, place)


FIELDS: Mapping[str, Check] = {
    # sampling
    "temperature": number(0, 2),
    "topP": number(0, 1),
    "topK": whole(0),
    "maxOutputTokens": whole(1),
    "stopSequences": _stops,
    "seed": whole(-(2**63), 2**63 - 1),
    "presencePenalty": number(-2, 2),
    "frequencyPenalty": number(-2, 2),
    "responseLogprobs": flag,
    "logprobs": whole(0, 20),
    # the answer
    "candidateCount": _single,
    "responseMimeType": _mime_type,
    "responseSchema": read_schema,
    "responseJsonSchema": read_json_schema,
    "responseModalities": _modalities,
    "thinkingConfig": mapping,
    # without effect here
    "audioTimestamp": anything,
    "enableAffectiveDialog": anything,
    "enableEnhancedCivicAnswers": anything,
    "mediaResolution": anything,
    "modelConfig": anything,
    "modelSelectionConfig": anything,
    "routingConfig": anything,
    # not here
    "audioTranscriptionConfig": unavailable,
    "imageConfig": unavailable,
    "outputConfig": unavailable,
    "responseFormat": unavailable,
    "speechConfig": unavailable,
    "translationConfig": unavailable,
}

THINKING: Mapping[str, Check] = {
    "includeThoughts": flag,
    "thinkingBudget": whole(DYNAMIC),
    "thinkingLevel": word_of((*LEVELS, UNSPECIFIED)),
}

# Name here -> the name under which an upstream has it.
OPTIONS = {
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "maxOutputTokens": "max_completion_tokens",
    "stopSequences": "stop",
    "seed": "seed",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "responseLogprobs": "logprobs",
    "logprobs": "top_logprobs",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """What it says. `thoughts`: whether reasoning is shown."""

    options: Mapping[str, Any] = field(default_factory=dict)
    format: Format | None = None
    effort: str | None = None
    thoughts: bool = False


NOTHING = Config()


def read_config(value: Any) -> Config:
    """All of it; None where it is absent. Raises BadRequest."""
    if value is None:
        return NOTHING
    given = read_message(value, FIELDS, PLACE)
    thinking = read_message(given.get("thinkingConfig", {}), THINKING, f"{PLACE}.thinkingConfig")
    return Config(
        options=_read_options(given),
        format=_read_format(given),
        effort=_read_effort(thinking),
        thoughts=thinking.get("includeThoughts", False),
    )


def _read_options(given: Mapping[str, Any]) -> dict[str, Any]:
    if "logprobs" in given and not given.get("responseLogprobs"):
        refuse(f"{PLACE}.logprobs", "needs `responseLogprobs` to be true")
    options = {theirs: given[name] for name, theirs in OPTIONS.items() if name in given}
    return {name: value for name, value in options.items() if value not in ([], 0) or name not in ("stop", "top_k")}


def _read_format(given: Mapping[str, Any]) -> Format | None:
    """JSON by a schema, any JSON, or None for plain text."""
    if "responseSchema" in given and "responseJsonSchema" in given:
        refuse(f"{PLACE}.responseJsonSchema", "cannot be given beside `responseSchema`: give only one of them")
    schema = given.get("responseSchema", given.get("responseJsonSchema"))
    kind = given.get("responseMimeType") or (JSON if schema else "")
    if schema and kind != JSON:
        refuse(f"{PLACE}.responseMimeType", f"must be {JSON} where there is a schema")
    return Format(schema=schema or None) if kind == JSON else None


def _read_effort(thinking: Mapping[str, Any]) -> str | None:
    """How hard the model is to think; None where it decides."""
    level, budget = thinking.get("thinkingLevel", UNSPECIFIED), thinking.get("thinkingBudget", DYNAMIC)
    if level != UNSPECIFIED:
        return LEVELS[level]
    if budget == DYNAMIC:
        return None
    return next((effort for most, effort in BUDGETS.items() if budget <= most), "high")
