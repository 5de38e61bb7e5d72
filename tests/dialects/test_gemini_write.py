"""Gemini, the way out: bodies, streams of events and JSON arrays, and that they agree."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar.dialects.gemini import DIALECT
from belljar.dialects.gemini_parts import FINISHES, OUTCOMES, WORDS
from belljar.errors import UpstreamUnavailable
from belljar.events import (
    CallClosed,
    CallReady,
    Event,
    Failed,
    Finish,
    Finished,
    ReasoningDelta,
    TextDelta,
    TurnEnded,
    TurnStarted,
)
from belljar.execution import Execution, GuestError, Outcome, Result
from belljar.model import ModelInfo, Usage
from dialects.chat_helpers import ROOT, asked, one_execution, ran, turn, written
from dialects.gemini_helpers import (
    CODE,
    HELLO,
    chunks,
    fold,
    kinds,
    merge,
    parts_of,
    read,
    stream,
    writer_for,
)

PNG = b"\x89PNG\r\n\x1a\n picture"
THOUGHTS = {"generationConfig": {"thinkingConfig": {"includeThoughts": True}}}
SCRIPT = "import math\nmath.sqrt(101)\n"


def details(tokens: int) -> list[dict[str, Any]]:
    return [{"modality": "TEXT", "tokenCount": tokens}]


def plain(*events: Event, finish: Finish = Finish.STOP) -> list[Event]:
    return [*turn(0, *events, finish=finish), Finished(finish=finish)]


# --- bodies -----------------------------------------------------------------------------------------------------------


def test_a_plain_answer() -> None:
    assert fold(plain(TextDelta(text="Hel"), TextDelta(text="lo"))) == {
        "candidates": [
            {"content": {"parts": [{"text": "Hello"}], "role": "model"}, "finishReason": "STOP", "index": 0}
        ],
        "usageMetadata": {
            "promptTokenCount": 10,
            "candidatesTokenCount": 5,
            "totalTokenCount": 15,
            "promptTokensDetails": details(10),
            "candidatesTokensDetails": details(5),
        },
        "modelVersion": "m",
        "responseId": "req_1",
        "createTime": "2023-11-14T22:13:20Z",
    }


def test_one_execution() -> None:
    whole = fold(one_execution(), CODE | THOUGHTS)
    thought, code, result, text = parts_of(whole)
    assert thought == {"text": "We need sqrt.", "thought": True}
    identity = code["executableCode"]["id"]
    assert code["executableCode"] == {"id": identity, "language": "PYTHON", "code": SCRIPT}
    assert len(identity) == 8
    assert len(base64.b64decode(code["thoughtSignature"])) == 32
    output = "10.04987562112089\n"
    assert result == {"codeExecutionResult": {"id": identity, "outcome": "OUTCOME_OK", "output": output}}
    assert text == {"text": "It is 10.05."}
    assert whole["usageMetadata"] == {
        "promptTokenCount": 10,
        "candidatesTokenCount": 10,
        "toolUsePromptTokenCount": 10,
        "totalTokenCount": 30,
        "promptTokensDetails": details(10),
        "candidatesTokensDetails": details(10),
        "toolUsePromptTokensDetails": details(10),
    }


def test_thoughts_are_shown_where_they_are_asked_for() -> None:
    assert kinds(parts_of(fold(one_execution(), CODE))) == ["executableCode", "codeExecutionResult", "text"]
    assert kinds(parts_of(fold(one_execution(), CODE | THOUGHTS)))[0] == "thought"


ERROR = GuestError(name="ValueError", value="no", traceback="Traceback ...\nValueError: no")
EXECUTIONS: list[tuple[str, Execution, str, str]] = [
    ("printed", Execution(outcome=Outcome.OK, stdout="a\nb\n"), "OUTCOME_OK", "a\nb\n"),
    ("nothing", Execution(outcome=Outcome.OK), "OUTCOME_OK", ""),
    ("a value", ROOT, "OUTCOME_OK", "10.04987562112089\n"),
    ("a warning", Execution(outcome=Outcome.OK, stdout="a\n", stderr="careful\n"), "OUTCOME_OK", "a\ncareful\n"),
    ("raised", Execution(outcome=Outcome.ERROR, stdout="a\n", error=ERROR), "OUTCOME_FAILED",
     "a\nTraceback ...\nValueError: no\n"),
    ("raised without words", Execution(outcome=Outcome.ERROR), "OUTCOME_FAILED", "The code failed.\n"),
    ("took too long", Execution(outcome=Outcome.TIMEOUT, stdout="begun\n"), "OUTCOME_DEADLINE_EXCEEDED",
     "begun\nThe code took too long, and was ended.\n"),
    ("took too long, and said so",
     Execution(outcome=Outcome.TIMEOUT, error=GuestError(name="Timeout", value="after 30 s", traceback="")),
     "OUTCOME_DEADLINE_EXCEEDED", "Timeout: after 30 s\n"),
    ("out of memory", Execution(outcome=Outcome.OUT_OF_MEMORY), "OUTCOME_FAILED",
     "The code used too much memory, and was ended.\n"),
    ("killed", Execution(outcome=Outcome.KILLED), "OUTCOME_FAILED", "The code was ended by a signal.\n"),
    ("exited", Execution(outcome=Outcome.EXITED), "OUTCOME_FAILED", "The code ended its interpreter.\n"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("execution", "outcome", "output"), [case[1:] for case in EXECUTIONS], ids=[case[0] for case in EXECUTIONS]
)
def test_executions(execution: Execution, outcome: str, output: str) -> None:
    result = parts_of(fold(one_execution(execution), CODE))[1]["codeExecutionResult"]
    assert (result["outcome"], result["output"]) == (outcome, output)


def test_every_outcome_has_words() -> None:
    assert set(OUTCOMES) == set(Outcome)
    assert set(WORDS) == set(Outcome) - {Outcome.OK}
    assert set(FINISHES) == set(Finish)


def test_plots_follow_their_result() -> None:
    results = (
        Result(data={"image/png": PNG, "text/plain": "<Figure>"}),
        Result(data={"image/svg+xml": "<svg/>"}),
        Result(data={"text/plain": "7"}, is_main=True),
    )
    execution = Execution(outcome=Outcome.OK, stdout="drawn\n", results=results)
    parts = parts_of(fold(one_execution(execution), CODE))
    assert kinds(parts) == ["executableCode", "codeExecutionResult", "inlineData", "inlineData", "text"]
    assert parts[1]["codeExecutionResult"]["output"] == "drawn\n7\n"
    assert parts[2]["inlineData"] == {"mimeType": "image/png", "data": base64.b64encode(PNG).decode()}
    assert parts[3]["inlineData"] == {"mimeType": "image/svg+xml", "data": base64.b64encode(b"<svg/>").decode()}


def test_calls_of_functions() -> None:
    events = plain(ReasoningDelta(text="hm"), TextDelta(text="Let me look."), *asked('{"city": "Tokyo"}'),
                   *asked("{}", "f2", "time", 1), finish=Finish.CALLS)  # fmt: skip
    whole = fold(events)
    text, first, second = parts_of(whole)
    assert text == {"text": "Let me look."}
    assert first["functionCall"] == {"id": "f1", "name": "weather", "args": {"city": "Tokyo"}}
    assert first["thoughtSignature"]
    assert second == {"functionCall": {"id": "f2", "name": "time", "args": {}}}
    assert whole["candidates"][0]["finishReason"] == "STOP"


@pytest.mark.parametrize("arguments", ['{"city": ', "[]", "3", "[" * 100_000])
def test_half_a_call_is_none(arguments: str) -> None:
    events = plain(TextDelta(text="a"), *asked(arguments), finish=Finish.LENGTH)
    whole = fold(events)
    assert parts_of(whole) == [{"text": "a"}]
    assert whole["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert kinds(parts_of(merge(chunks(stream(events))))) == ["text"]


def test_code_that_did_not_run_is_not_shown() -> None:
    refused = CallClosed(call="c1", execution=Execution(outcome=Outcome.ERROR), text="told")
    events = [*turn(0, *written("1"), finish=Finish.CALLS), refused, *turn(1, TextDelta(text="a")),
              Finished(finish=Finish.STOP)]  # fmt: skip
    assert parts_of(fold(events, CODE)) == [{"text": "a"}]
    assert parts_of(merge(chunks(stream(events, CODE)))) == [{"text": "a"}]


def test_an_empty_answer_has_a_part() -> None:
    whole = fold(plain(finish=Finish.FILTERED))
    assert parts_of(whole) == [{"text": ""}]
    assert whole["candidates"][0]["finishReason"] == "SAFETY"


def test_texts_of_turns_are_parted() -> None:
    events = [*turn(0, TextDelta(text="Let me see."), *written("1"), finish=Finish.CALLS), *ran(ROOT),
              *turn(1, TextDelta(text="It"), TextDelta(text=" is.")), Finished(finish=Finish.STOP)]  # fmt: skip
    assert [part["text"] for part in parts_of(fold(events, CODE)) if "text" in part] == ["Let me see.", "\n\nIt is."]


def test_halves_of_surrogate_pairs() -> None:
    execution = Execution(outcome=Outcome.OK, stdout="\ud800")
    assert parts_of(fold(one_execution(execution), CODE))[1]["codeExecutionResult"]["output"] == "?\n"
    assert parts_of(fold(plain(ReasoningDelta(text="\ud800"), TextDelta(text="\ud800")))) == [{"text": "?"}]


# --- tokens -----------------------------------------------------------------------------------------------------------


def counted(*usages: Usage | None) -> list[Event]:
    events: list[Event] = []
    for number, usage in enumerate(usages):
        ended = TurnEnded(turn=number, model="m", finish=Finish.STOP, usage=usage)
        events += [TurnStarted(turn=number, model="m"), TextDelta(text="a"), ended]
    return [*events, Finished(finish=Finish.STOP)]


def test_tokens_add_up() -> None:
    first = Usage(prompt_tokens=100, completion_tokens=30, reasoning_tokens=20, cached_tokens=64)
    second = Usage(prompt_tokens=150, completion_tokens=12, reasoning_tokens=2)
    usage = fold(counted(first, second))["usageMetadata"]
    assert usage == {
        "promptTokenCount": 100,
        "toolUsePromptTokenCount": 150,
        "candidatesTokenCount": 20,
        "thoughtsTokenCount": 22,
        "cachedContentTokenCount": 64,
        "totalTokenCount": 292,
        "promptTokensDetails": details(100),
        "candidatesTokensDetails": details(20),
        "toolUsePromptTokensDetails": details(150),
    }


def test_nothing_is_said_of_tokens_that_nobody_counted() -> None:
    assert fold(counted(None))["usageMetadata"] == {}
    assert fold(counted(None), publisher="google")["usageMetadata"] == {"trafficType": "ON_DEMAND"}


def test_tokens_of_pictures_are_not_called_those_of_text() -> None:
    blob = {"inlineData": {"mimeType": "image/png", "data": "AA=="}}
    usage = fold(plain(TextDelta(text="a")), {"contents": [{"parts": [blob]}]})["usageMetadata"]
    assert "promptTokensDetails" not in usage
    assert usage["candidatesTokensDetails"] == details(5)


def test_more_thoughts_than_tokens() -> None:
    usage = fold(counted(Usage(prompt_tokens=1, completion_tokens=2, reasoning_tokens=5)))["usageMetadata"]
    assert (usage["candidatesTokenCount"], usage["thoughtsTokenCount"], usage["totalTokenCount"]) == (0, 5, 6)


# --- probabilities ----------------------------------------------------------------------------------------------------


def logprobs(*tokens: tuple[str, float]) -> dict[str, Any]:
    top = [{"token": "x", "logprob": -2.0}]
    return {"logprobs": {"content": [{"token": t, "logprob": p, "top_logprobs": top} for t, p in tokens]}}


def test_probabilities() -> None:
    events = plain(TextDelta(text="a", extra=logprobs(("a", -1.0))), TextDelta(text="b", extra=logprobs(("b", -3.0))))
    candidate = fold(events)["candidates"][0]
    assert candidate["avgLogprobs"] == -2.0
    assert candidate["logprobsResult"] == {
        "chosenCandidates": [{"token": "a", "logProbability": -1.0}, {"token": "b", "logProbability": -3.0}],
        "topCandidates": [{"candidates": [{"token": "x", "logProbability": -2.0}]}] * 2,
    }
    first = chunks(stream(events))[0]["candidates"][0]
    assert first["avgLogprobs"] == -1.0
    assert len(first["logprobsResult"]["chosenCandidates"]) == 1


@pytest.mark.parametrize("extra", [{}, {"logprobs": None}, {"logprobs": {"content": [3, {}, {"logprob": "x"}]}}])
def test_no_probabilities(extra: dict[str, Any]) -> None:
    assert "logprobsResult" not in fold(plain(TextDelta(text="a", extra=extra)))["candidates"][0]


# --- streams ----------------------------------------------------------------------------------------------------------


def test_the_order_of_a_stream() -> None:
    data = stream(one_execution(), CODE | THOUGHTS)
    found = chunks(data)
    assert [kinds(parts_of(chunk)) for chunk in found] == [
        ["thought"], ["thought"], ["executableCode"], ["codeExecutionResult"], ["text"], ["text"], []
    ]  # fmt: skip
    assert parts_of(found[-1]) == [{"text": ""}]
    assert [chunk["candidates"][0].get("finishReason") for chunk in found] == [None] * 6 + ["STOP"]
    assert all(chunk["candidates"][0]["index"] == 0 for chunk in found)
    assert [chunk["usageMetadata"].get("totalTokenCount") for chunk in found] == [None, None, 15, 15, 15, 15, 30]
    assert {(chunk["modelVersion"], chunk["responseId"]) for chunk in found} == {("m", "req_1")}
    assert data.startswith(b'data: {"candidates":[{"content":{"parts":[')
    assert data.endswith(b"}\r\n\r\n")


def test_code_is_shown_before_it_has_run() -> None:
    writer = writer_for(CODE, stream=True)
    shown = [writer.write(event) for event in one_execution()]
    ready = next(at for at, event in enumerate(one_execution()) if isinstance(event, CallReady))
    assert not any(b"executableCode" in data for data in shown[: ready + 1])
    [code] = [data for data in shown if b"executableCode" in data]
    assert b"codeExecutionResult" not in code


def test_an_array() -> None:
    data = stream(one_execution(), CODE, sse=False)
    assert json.loads(data) == chunks(stream(one_execution(), CODE))
    writer = writer_for(CODE, stream=True, sse=False)
    assert (writer.media_type, writer_for(CODE, stream=True).media_type) == ("application/json", "text/event-stream")
    beats = b"".join(writer.write(event) + writer.heartbeat for event in one_execution())
    assert json.loads(writer.heartbeat + beats) == json.loads(data)


def test_heartbeats_are_empty_lines() -> None:
    writer = writer_for(CODE, stream=True)
    beats = b"".join(writer.write(event) + writer.heartbeat for event in one_execution())
    assert chunks(writer.heartbeat + beats) == chunks(stream(one_execution(), CODE))


@pytest.mark.parametrize("begun", [False, True])
def test_errors_in_mid_stream(begun: bool) -> None:
    said = [TurnStarted(turn=0, model="m"), TextDelta(text="a")] if begun else []
    events: list[Event] = [*said, Failed(error=UpstreamUnavailable("down"))]
    error = {"error": {"code": 503, "message": "down", "status": "UNAVAILABLE", "details": []}}
    assert chunks(stream(events))[-1] == error
    assert json.loads(stream(events, sse=False))[-1] == error


def test_calls_of_a_stream_come_whole() -> None:
    events = plain(TextDelta(text="Let me look."), *asked('{"city": "Tokyo"}'), finish=Finish.CALLS)
    found = chunks(stream(events))
    assert [kinds(parts_of(chunk)) for chunk in found] == [["text"], ["functionCall"], []]
    assert parts_of(found[1])[0]["functionCall"]["args"] == {"city": "Tokyo"}


# --- a stream, merged, is the body ------------------------------------------------------------------------------------

texts = st.text(st.sampled_from(["a", "b", " ", "\n", "é", '"', "\\"]), max_size=4)
executions = st.sampled_from([case[1] for case in EXECUTIONS])
bodies = st.sampled_from([HELLO, CODE, CODE | THOUGHTS])


@st.composite
def turns(draw: st.DrawFn, number: int) -> list[Event]:
    """A turn of any pieces and calls, and the executions of some of them."""
    said: list[Event] = []
    calls = []
    for at, kind in enumerate(draw(st.lists(st.sampled_from("rtlcf"), max_size=6))):
        text, call = draw(texts), f"c{number}_{at}"
        if kind == "c":
            said += written(text, call)
            calls.append(call)
        elif kind == "f":
            said += asked(draw(st.sampled_from(['{"a": 1}', "{}", "", "[]"])), call, cut=draw(st.integers(0, 4)))
        elif kind == "r":
            said.append(ReasoningDelta(text=text))
        else:
            said.append(TextDelta(text=text, extra=None if kind == "t" else {"logprobs": {"content": [
                {"token": text, "logprob": -0.5}]}}))  # fmt: skip
    runs: list[Event] = []
    for call in calls:
        fate = draw(st.sampled_from(["ran", "refused", "cut"]))
        if fate == "cut":
            break
        events = ran(draw(executions), call, *draw(st.lists(texts, max_size=2)))
        runs += events if fate == "ran" else events[-1:]
    return [*turn(number, *said), *runs]


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    """Any answer that ends well."""
    events = [event for number in range(draw(st.integers(1, 3))) for event in draw(turns(number))]
    return [*events, Finished(finish=draw(st.sampled_from(Finish)))]


@given(answers(), bodies)
def test_a_merged_stream_is_the_body(events: list[Event], body: dict[str, Any]) -> None:
    assert merge(chunks(stream(events, body))) == fold(events, body)
    assert merge(json.loads(stream(events, body, sse=False))) == fold(events, body)


# --- models and counts ------------------------------------------------------------------------------------------------


def test_models() -> None:
    model = ModelInfo(id="a/b", owner="me", created=3, extra={"context_window": 9, "max_completion_tokens": 4, "x": 1})
    expected = {
        "name": "models/a/b",
        "version": "001",
        "displayName": "a/b",
        "description": "me",
        "inputTokenLimit": 9,
        "outputTokenLimit": 4,
        "supportedGenerationMethods": ["generateContent", "streamGenerateContent", "countTokens"],
    }
    assert json.loads(DIALECT.write_model(model)) == expected
    listed = json.loads(DIALECT.write_models([model]))
    assert listed == {"models": [expected], "publisherModels": [expected]}


def test_counts() -> None:
    counted_tokens = json.loads(DIALECT.write_count(7, read(HELLO, "countTokens")))
    assert counted_tokens == {"totalTokens": 7, "promptTokensDetails": details(7)}
