"""The pieces of a chat completion that bodies and streams share: executed tools, usage, calls. Pure tables and values.

Two shapes of executed tools, as Groq's guides show them: GPT-OSS (bare code, `code_results`) and compound (JSON
arguments, `output`). The compound arguments are well-formed JSON here, which Groq's are not always.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from belljar.dialects import shown
from belljar.dialects.shown import output_of
from belljar.events import CallItem, Finish, TurnEnded
from belljar.execution import Execution, Result
from belljar.model import Usage
from belljar.partial import write_code

FINISHES = {
    Finish.STOP: "stop",
    Finish.LENGTH: "length",
    Finish.CALLS: "tool_calls",
    Finish.FILTERED: "content_filter",
}
LEGACY_FINISHES = FINISHES | {Finish.CALLS: "function_call"}

# MIME type of something displayed -> its key in `code_results`. Groq's types know `png`.
PICTURES = {"image/png": "png", "image/jpeg": "jpeg", "image/svg+xml": "svg"}

SUPERCHART = "superchart"  # a figure of several charts
CHART_TYPES = ("bar", "box_and_whisker", "line", "pie", "scatter", SUPERCHART, "unknown")


# --- executed tools ---------------------------------------------------------------------------------------------------


def executed_tool(
    compound: bool, index: int, code: str, execution: Execution | None, output: str = ""
) -> dict[str, Any]:
    """An entry of `executed_tools`: of a finished execution; else of one that runs and has printed `output` so far."""
    item = _compound_call(index, code) if compound else _function_call(index, code)
    if execution is not None:
        return item | (_compound_end(execution) if compound else _function_end(execution))
    if output:
        item |= {"output": output} if compound else {"code_results": [{"text": output.rstrip("\n")}]}
    return item


def _function_call(index: int, code: str) -> dict[str, Any]:
    search = {"results": None}
    return {"name": "python", "index": index, "type": "function", "arguments": code, "search_results": search}


def _function_end(execution: Execution) -> dict[str, Any]:
    """What was printed is one entry, each picture one of its own; there is always one."""
    words, figures = output_of(execution).rstrip("\n"), figures_of(execution)
    return {"code_results": [*([{"text": words}] if words or not figures else []), *figures]}


def _compound_call(index: int, code: str) -> dict[str, Any]:
    head = {"string": "", "name": "", "index": index, "type": "python", "arguments": write_code(code)}
    return head | {"search_results": {"results": []}}


def _compound_end(execution: Execution) -> dict[str, Any]:
    figures = figures_of(execution)
    return {"output": output_of(execution), **({"code_results": figures} if figures else {})}


def figures_of(execution: Execution) -> list[dict[str, Any]]:
    """An entry of `code_results` for each picture, in the best of its types, with its chart; bytes become base64."""
    return list(filter(None, map(_figure, execution.results)))


def _figure(result: Result) -> dict[str, Any]:
    picture = shown.picture_of(result)
    return ({PICTURES[picture[0]]: picture[1]} if picture is not None else {}) | _charts(result.chart)


def _charts(value: Any) -> dict[str, Any]:
    """The data of a figure as Groq's types have it; the charts of one with several are in `charts`.

    What is shown comes from a sandbox: what is no chart is passed over.
    """
    chart = _chart(value)
    if chart is None:
        return {}
    if chart["type"] != SUPERCHART:
        return {"chart": chart}
    return {"chart": chart | {"elements": []}, "charts": list(filter(None, map(_chart, chart["elements"])))}


def _chart(value: Any) -> dict[str, Any] | None:
    """The fields that are known; None where the value is no chart."""
    if not (
        isinstance(value, Mapping) and value.get("type") in CHART_TYPES and isinstance(value.get("elements"), list)
    ):
        return None
    return {name: item for name, item in value.items() if item is not None}


# --- calls ------------------------------------------------------------------------------------------------------------


def calls_of(items: Iterable[CallItem], legacy: bool) -> dict[str, Any]:
    """The client's own calls, as fields of a message."""
    calls = [(item.call, {"name": item.name, "arguments": item.arguments}) for item in items]
    if not calls:
        return {}
    if legacy:
        return {"function_call": calls[0][1]}
    return {"tool_calls": [{"id": call, "type": "function", "function": function} for call, function in calls]}


# --- usage ------------------------------------------------------------------------------------------------------------


def usage_of(turns: Sequence[TurnEnded], queue_seconds: float | None = None) -> dict[str, Any] | None:
    """The tokens of all turns, and the times that were measured; None where no upstream has counted.

    Times are of the models alone; `queue_time`, given where there are tools, is the wait for a sandbox.
    """
    known = [turn.usage for turn in turns if turn.usage is not None]
    if not known:
        return None
    usage = sum(known[1:], known[0])
    return {
        **({} if queue_seconds is None else {"queue_time": round(queue_seconds, 9)}),
        "prompt_tokens": usage.prompt_tokens,
        **_times(usage, known),
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        **_details(usage),
    }


def _times(usage: Usage, parts: Sequence[Usage]) -> dict[str, float]:
    times = {"total_time": round(usage.seconds, 9)} if usage.seconds else {}
    if usage.prompt_seconds is not None and all(part.prompt_seconds is not None for part in parts):
        times["prompt_time"] = round(usage.prompt_seconds, 9)
        times["completion_time"] = round(max(0.0, usage.seconds - usage.prompt_seconds), 9)
    return times


def _details(usage: Usage) -> dict[str, Any]:
    details: dict[str, Any] = {}
    if usage.cached_tokens:
        details["prompt_tokens_details"] = {"cached_tokens": usage.cached_tokens}
    if usage.reasoning_tokens:
        details["completion_tokens_details"] = {"reasoning_tokens": usage.reasoning_tokens}
    return details


def usage_breakdown(turns: Sequence[TurnEnded]) -> dict[str, Any]:
    """The usage of each model that took part, in the order in which they did."""
    by_model: dict[str, list[TurnEnded]] = {}
    for turn in turns:
        by_model.setdefault(turn.model, []).append(turn)
    counted = ((model, usage_of(of_model)) for model, of_model in by_model.items())
    return {"models": [{"model": model, "usage": usage} for model, usage in counted if usage is not None]}


def joined_logprobs(extras: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The `logprobs` of all pieces of text as one object; None where there are none."""
    whole: dict[str, Any] = {}
    for extra in extras:
        piece = extra.get("logprobs")
        for name, values in (piece if isinstance(piece, Mapping) else {}).items():
            if isinstance(values, list):
                whole.setdefault(name, []).extend(values)
    return whole or None
