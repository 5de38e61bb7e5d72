"""DashScope's native form, the way out: frames to the byte, bodies, errors, and that streams and bodies agree."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from belljar import errors
from belljar.dialects.dashscope import DIALECT, MULTIMODAL_PATH, TEXT_PATH
from belljar.dialects.dashscope_errors import CODES
from belljar.dialects.qwen_shapes import FINISHES
from belljar.errors import BelljarError
from belljar.events import (
    CallClosed,
    CallOpened,
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
from belljar.execution import Execution, Outcome
from belljar.model import ModelInfo, Usage
from dialects.chat_helpers import START, asked, one_execution, ran, turn, written
from dialects.dashscope_helpers import body_of, fold, frames, merge, read, stream

HELLO = [*turn(0, TextDelta(text="Hel"), TextDelta(text="lo.")), Finished(finish=Finish.STOP)]
THINKING = body_of(enable_thinking=True, enable_code_interpreter=True)
CUMULATIVE = body_of(enable_thinking=True, enable_code_interpreter=True, incremental_output=False)
CODE = "import math\nmath.sqrt(101)\n"
TOOL_INFO = [{"code_interpreter": {"code": CODE}, "type": "code_interpreter"}]
WEATHER = {"type": "function", "function": {"name": "weather"}}


def message_of(value: Any) -> Any:
    return value["output"]["choices"][0]["message"]


# --- frames, to the byte ----------------------------------------------------------------------------------------------


def test_stream_to_the_byte() -> None:
    code = json.dumps(TOOL_INFO[0], separators=(",", ":"))
    before = '"usage":{"input_tokens":0,"output_tokens":0,"total_tokens":0},"request_id":"req_1"}'
    usage = '"usage":{"input_tokens":10,"output_tokens":5,"total_tokens":15,'
    after = usage + '"plugins":{"code_interpreter":{"count":1}}},"request_id":"req_1"}'
    last = after.replace("10", "20").replace("15", "30").replace(":5,", ":10,")
    said = '{{"output":{{"choices":[{{"message":{{"role":"assistant","content":"{}","reasoning_content":"{}"}},'
    said += '"finish_reason":"{}"}}]'
    tool_info = f',"tool_info":[{code}]'
    expected = [
        said.format("", "We need ", "null") + "}," + before,
        said.format("", "sqrt.", "null") + "}," + before,
        said.format("", "", "null") + tool_info + "}," + after,
        said.format("It is ", "", "null") + tool_info + "}," + after,
        said.format("10.05.", "", "null") + tool_info + "}," + after,
        said.format("", "", "stop") + tool_info + "}," + last,
    ]
    written_out = "".join(
        f"id:{number}\nevent:result\n:HTTP_STATUS/200\ndata:{data}\n\n" for number, data in enumerate(expected, 1)
    )
    assert stream(one_execution(), THINKING).decode() == written_out


def test_error_frame_to_the_byte() -> None:
    failure = Failed(error=errors.UpstreamUnavailable("gone"))
    data = stream([*turn(0, TextDelta(text="a")), failure], body_of())
    assert data.decode().split("\n\n")[1:] == [
        "id:2\nevent:error\n:HTTP_STATUS/503\nstatus:503\n"
        'data:{"code":"ServiceUnavailable","message":"gone","request_id":"req_1"}',
        "",
    ]


def test_a_heartbeat_is_a_comment_and_ends_no_frame() -> None:
    writer = DIALECT.writer(read(body_of()), START)
    assert writer.heartbeat.startswith(b":")
    assert b"\n\n" not in writer.heartbeat
    assert writer.media_type == "text/event-stream"


# --- bodies -----------------------------------------------------------------------------------------------------------


def test_plain_body() -> None:
    assert fold(HELLO) == {
        "output": {"choices": [{"message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}]},
        "usage": {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15},
        "request_id": "req_1",
    }


def test_body_as_text() -> None:
    assert fold(HELLO, body_of(result_format="text"))["output"] == {"text": "Hello.", "finish_reason": "stop"}


def test_body_with_an_execution() -> None:
    answer = fold(one_execution(), THINKING)
    assert message_of(answer) == {
        "role": "assistant",
        "content": "It is 10.05.",
        "reasoning_content": "We need sqrt.",
    }
    assert answer["output"]["tool_info"] == TOOL_INFO
    assert answer["usage"] == {
        "input_tokens": 20,
        "output_tokens": 10,
        "total_tokens": 30,
        "plugins": {"code_interpreter": {"count": 1}},
    }


def test_multimodal_content_is_a_list() -> None:
    assert message_of(fold(HELLO, path=MULTIMODAL_PATH))["content"] == [{"text": "Hello."}]
    contents = [message_of(frame)["content"] for frame in frames(stream(HELLO, path=MULTIMODAL_PATH))]
    assert contents == [[{"text": "Hel"}], [{"text": "lo."}], []]


def test_reasoning_is_shown_in_thinking_mode_only() -> None:
    body = body_of(enable_code_interpreter=True)
    assert "reasoning_content" not in message_of(fold(one_execution(), body))
    assert b"sqrt." not in stream(one_execution(), body)
    assert message_of(fold(HELLO, THINKING))["reasoning_content"] == ""


def test_what_code_gave_is_shown_nowhere() -> None:
    execution = Execution(outcome=Outcome.OK, stdout="SECRET")
    events = one_execution(execution)
    assert b"SECRET" not in stream(events, THINKING)
    assert "SECRET" not in json.dumps(fold(events, THINKING))


def test_details_of_usage() -> None:
    usage = Usage(prompt_tokens=3, completion_tokens=2, reasoning_tokens=1, cached_tokens=2)
    ended = TurnEnded(turn=0, model="m", finish=Finish.STOP, usage=usage)
    events: list[Event] = [TurnStarted(turn=0, model="m"), TextDelta(text="x"), ended, Finished(finish=Finish.STOP)]
    assert fold(events)["usage"] == {
        "input_tokens": 3,
        "output_tokens": 2,
        "total_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 1},
        "prompt_tokens_details": {"cached_tokens": 2},
    }
    assert frames(stream(events))[-1]["usage"] == fold(events)["usage"]


def test_an_upstream_that_counts_nothing() -> None:
    events: list[Event] = [
        TurnStarted(turn=0, model="m"),
        TurnEnded(turn=0, model="m", finish=Finish.STOP),
        Finished(finish=Finish.STOP),
    ]
    assert fold(events)["usage"] == {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}


@pytest.mark.parametrize(("finish", "word"), FINISHES.items())
def test_finish(finish: Finish, word: str) -> None:
    events = [*turn(0, TextDelta(text="x"), finish=finish), Finished(finish=finish)]
    assert fold(events)["output"]["choices"][0]["finish_reason"] == word
    reasons = [frame["output"]["choices"][0]["finish_reason"] for frame in frames(stream(events))]
    assert reasons == ["null", word]


# --- streams ----------------------------------------------------------------------------------------------------------


def test_tool_info_grows_and_stays() -> None:
    events: list[Event] = []
    for number in range(3):
        call = f"c{number}"
        said = ReasoningDelta(text=f"r{number}")
        events += [*turn(number, said, *written(f"code {number}", call), finish=Finish.CALLS)]
        events += ran(Execution(outcome=Outcome.OK), call)
    events += [*turn(3, TextDelta(text="done")), Finished(finish=Finish.STOP)]
    seen = frames(stream(events, THINKING))
    counts = [len(frame["output"].get("tool_info", ())) for frame in seen]
    assert counts == [0, 1, 1, 2, 2, 3, 3, 3]
    assert [frame["usage"].get("plugins", {"code_interpreter": {"count": 0}}) for frame in seen] == [
        {"code_interpreter": {"count": count}} for count in counts
    ]
    codes = [entry["code_interpreter"]["code"] for entry in seen[-1]["output"]["tool_info"]]
    assert codes == ["code 0", "code 1", "code 2"]
    assert [frame["usage"]["input_tokens"] for frame in seen] == [0, 10, 10, 20, 20, 30, 30, 40]


def test_a_cumulative_stream_repeats_what_was_said() -> None:
    seen = [message_of(frame) for frame in frames(stream(one_execution(), CUMULATIVE))]
    assert [(message["content"], message["reasoning_content"]) for message in seen] == [
        ("", "We need "),
        ("", "We need sqrt."),
        ("", "We need sqrt."),
        ("It is ", "We need sqrt."),
        ("It is 10.05.", "We need sqrt."),
        ("It is 10.05.", "We need sqrt."),
    ]


def test_text_frames() -> None:
    body = body_of(result_format="text", incremental_output=True)
    outputs = [frame["output"] for frame in frames(stream(HELLO, body))]
    assert outputs == [
        {"text": "Hel", "finish_reason": "null"},
        {"text": "lo.", "finish_reason": "null"},
        {"text": "", "finish_reason": "stop"},
    ]
    body = body_of(result_format="text", incremental_output=False)
    assert [frame["output"]["text"] for frame in frames(stream(HELLO, body))] == ["Hel", "Hello.", "Hello."]


def test_code_that_did_not_run_is_not_shown() -> None:
    """A budget was used up."""
    closed = CallClosed(call="c1", execution=Execution(outcome=Outcome.ERROR), text="told")
    events = [
        *turn(0, *written(CODE), finish=Finish.CALLS),
        closed,
        *turn(1, TextDelta(text="x")),
        Finished(finish=Finish.STOP),
    ]
    for answer in (fold(events, THINKING), frames(stream(events, THINKING))[-1]):
        assert "tool_info" not in answer["output"]
        assert "plugins" not in answer["usage"]


def test_own_calls() -> None:
    events = [
        *turn(0, TextDelta(text="Well."), *asked('{"city": "Oslo"}'), *asked("{}", "f2", "time"), finish=Finish.CALLS),
        Finished(finish=Finish.CALLS),
    ]
    body = body_of(tools=[WEATHER])
    expected = [
        {"index": 0, "id": "f1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}},
        {"index": 1, "id": "f2", "type": "function", "function": {"name": "time", "arguments": "{}"}},
    ]
    answer = fold(events, body)
    assert message_of(answer)["tool_calls"] == expected
    assert answer["output"]["choices"][0]["finish_reason"] == "tool_calls"
    seen = frames(stream(events, body))
    assert merge(seen) == answer
    sent = [call for frame in seen for call in message_of(frame).get("tool_calls", ())]
    assert [("name" in call["function"], bool(call["id"])) for call in sent if call["index"] == 0] == [
        (True, True),
        (False, False),
        (False, False),
    ]
    cumulative = frames(stream(events, body_of(tools=[WEATHER], incremental_output=False)))
    assert cumulative[-1] == answer
    first = next(message_of(frame)["tool_calls"] for frame in cumulative if "tool_calls" in message_of(frame))
    assert first[0]["function"] == {"name": "weather", "arguments": ""}


def test_a_call_that_is_complete_at_once() -> None:
    events = [
        *turn(0, CallOpened(call="f1", name="weather"), CallReady(call="f1", arguments="{}"), finish=Finish.CALLS),
        Finished(finish=Finish.CALLS),
    ]
    assert merge(frames(stream(events, body_of(tools=[WEATHER])))) == fold(events, body_of(tools=[WEATHER]))


def test_logprobs() -> None:
    token = {"token": "a", "logprob": -0.1, "top_logprobs": []}
    said = TextDelta(text="a", extra={"logprobs": {"content": [token]}})
    events = [*turn(0, said, said), Finished(finish=Finish.STOP)]
    body = body_of(logprobs=True)
    assert fold(events, body)["output"]["choices"][0]["logprobs"] == {"content": [token, token]}
    seen = [frame["output"]["choices"][0]["logprobs"] for frame in frames(stream(events, body))]
    assert seen == [{"content": [token]}, {"content": [token]}, None]
    body = body_of(logprobs=True, incremental_output=False)
    last = frames(stream(events, body))[-1]["output"]["choices"][0]
    assert last["logprobs"] == {"content": [token, token]}
    assert "logprobs" not in fold(events)["output"]["choices"][0]
    assert fold(HELLO, body_of(logprobs=True))["output"]["choices"][0]["logprobs"] is None


def test_turns_are_parted() -> None:
    events = [
        *turn(0, ReasoningDelta(text="Hm."), TextDelta(text="Let me see."), *written("1"), finish=Finish.CALLS),
        *ran(Execution(outcome=Outcome.OK)),
        *turn(1, ReasoningDelta(text="So."), TextDelta(text="It is 1.")),
        Finished(finish=Finish.STOP),
    ]
    message = message_of(fold(events, THINKING))
    assert message["content"] == "Let me see.\n\nIt is 1."
    assert message["reasoning_content"] == "Hm.\n\nSo."


def test_reasoning_that_is_not_shown_parts_words_all_the_same() -> None:
    said = [TextDelta(text="Let me see."), ReasoningDelta(text="Hm."), TextDelta(text="It is 1.")]
    events = [*turn(0, *said), Finished(finish=Finish.STOP)]
    assert message_of(fold(events))["content"] == "Let me see.\n\nIt is 1."


# --- streams and bodies agree -----------------------------------------------------------------------------------------

TEXTS = st.sampled_from(["a", "b c", " ", "\n", "x\n", "é\ud800", '"', "end."])


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    """Events in the order that every stream keeps."""
    events: list[Event] = []
    turns = draw(st.integers(1, 3))
    for number in range(turns):
        said: list[Event] = []
        for text in draw(st.lists(TEXTS, max_size=4)):
            said.append(draw(st.sampled_from([TextDelta, ReasoningDelta]))(text=text))
        if number < turns - 1:
            said.insert(draw(st.integers(0, len(said))), CallOpened(call=f"c{number}", name="python", builtin=True))
            said += [CallReady(call=f"c{number}", arguments=draw(TEXTS))]
            events += [*turn(number, *said, finish=Finish.CALLS), *ran(Execution(outcome=Outcome.OK), f"c{number}")]
        else:
            if draw(st.booleans()):
                said += asked(draw(TEXTS) + "x", f"f{number}", cut=1)
            events += turn(number, *said)
    return [*events, Finished(finish=draw(st.sampled_from(list(Finish))))]


@given(events=answers(), thinking=st.booleans(), path=st.sampled_from([TEXT_PATH, MULTIMODAL_PATH]))
def test_streams_and_bodies_agree(events: list[Event], thinking: bool, path: str) -> None:
    parameters = {"enable_thinking": thinking, "enable_code_interpreter": True}
    whole = fold(events, body_of(**parameters), path)
    increments = frames(stream(events, body_of(**parameters, incremental_output=True), path))
    assert merge(increments, listed=path == MULTIMODAL_PATH) == whole
    assert frames(stream(events, body_of(**parameters, incremental_output=False), path))[-1] == whole


# --- errors -----------------------------------------------------------------------------------------------------------

ERRORS: list[tuple[BelljarError, int, str]] = [
    (BelljarError("x"), 500, "InternalError"),
    (errors.BadRequest("x", param="p"), 400, "InvalidParameter"),
    (errors.Unauthorized("x"), 401, "InvalidApiKey"),
    (errors.Forbidden("x"), 403, "AccessDenied"),
    (errors.UnknownPath("x"), 404, "NotFound"),
    (errors.UnknownModel("x", model="m"), 404, "Model.NotExist"),
    (errors.WrongMethod("x"), 405, "InvalidParameter"),
    (errors.TooSlow("x"), 408, "RequestTimeOut"),
    (errors.TooLarge("x"), 413, "InvalidParameter"),
    (errors.ToolUseFailed("x", generation="g"), 400, "InvalidParameter"),
    (errors.AtCapacity("x"), 503, "ServiceUnavailable"),
    (errors.ShuttingDown("x"), 503, "ServiceUnavailable"),
    (errors.SandboxFailed("x"), 500, "InternalError"),
    (errors.UpstreamError("x"), 502, "InternalError"),
    (errors.UpstreamUnavailable("x"), 503, "ServiceUnavailable"),
    (errors.UpstreamTimeout("x"), 504, "GatewayTimeout"),
    (errors.UpstreamRefused("x", status=400, code="theirs"), 400, "InvalidParameter"),
    (errors.UpstreamRefused("x", status=401), 401, "InvalidApiKey"),
    (errors.UpstreamRefused("x", status=429), 429, "Throttling.RateQuota"),
    (errors.UpstreamRefused("x", status=529), 529, "InternalError"),
    (errors.UpstreamRefused("x", status=302), 502, "InternalError"),
]


@pytest.mark.parametrize(("error", "status", "code"), ERRORS, ids=[f"{type(e).__name__} {s}" for e, s, _ in ERRORS])
def test_error(error: BelljarError, status: int, code: str) -> None:
    reply = DIALECT.write_error(error, None)
    assert (reply.status, json.loads(reply.body)) == (status, {"code": code, "message": "x"})
    with_id = DIALECT.write_error(error, None, "req_1")
    assert json.loads(with_id.body) == {"code": code, "message": "x", "request_id": "req_1"}
    data = stream([*turn(0, TextDelta(text="a")), Failed(error=error)]).decode()
    assert f"\nstatus:{status}\n" in data
    assert json.loads(data.rpartition("data:")[2]) == json.loads(with_id.body)


def test_every_class_of_errors_has_a_code() -> None:
    assert {BelljarError, errors.ClientError, errors.UpstreamError} <= set(CODES)


@pytest.mark.parametrize(
    ("error", "headers"),
    [
        (errors.AtCapacity("x"), {"retry-after": "1"}),
        (errors.UpstreamTimeout("x"), {"x-should-retry": "false"}),
        (errors.HostError("x"), {"x-should-retry": "false"}),
        (errors.SandboxFailed("x"), {}),
        (errors.UpstreamRefused("x", status=429, retry_after=2.5), {"retry-after": "3"}),
    ],
)
def test_what_clients_repeat(error: BelljarError, headers: dict[str, str]) -> None:
    assert DIALECT.write_error(error, None).headers == headers


def test_an_error_without_words() -> None:
    assert json.loads(DIALECT.write_error(errors.UpstreamError(), None).body)["message"] == "UpstreamError"


# --- models -----------------------------------------------------------------------------------------------------------


def test_models() -> None:
    listed = json.loads(DIALECT.write_models([ModelInfo(id="a/b", owner="me"), ModelInfo(id="c", owner="me")]))
    assert listed["output"]["total"] == 2
    assert [model["model"] for model in listed["output"]["models"]] == ["a/b", "c"]
