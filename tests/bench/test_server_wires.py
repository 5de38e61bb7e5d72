"""The answers of each dialect, as `belljar bench server` judges them: right ones pass, wrong ones are named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from belljar.bench.server_answer import Answer, Step
from belljar.bench.server_contestants import DIALECTS
from belljar.bench.server_wires import CHAT, DASHSCOPE, GEMINI, INTERACTIONS, QWEN_CHAT, RESPONSES, WIRES

TEXT, PIECES = "Hello, you", ("Hello, ", "you")
CODE = "print(1)"
NO_FAULT = ""


def plain(wire: str) -> Step:
    return Step(wire=wire, body={}, text=TEXT)


def coded(wire: str) -> Step:
    """What each dialect tells of an execution."""
    told: dict[str, dict[str, Any]] = {
        GEMINI: {"code": CODE, "output": "1"},
        INTERACTIONS: {"code": CODE, "output": "1"},
        DASHSCOPE: {"code": CODE, "runs": 1},
        QWEN_CHAT: {"runs": 1},
        RESPONSES: {"code": CODE, "output": "1"},
    }
    return Step(wire=wire, body={}, text=TEXT, **told[wire])


def judge(step: Step, pieces: list[bytes], *, stream: bool, status: int = 200) -> tuple[Answer, str]:
    answer = Answer(step, stream=stream)
    for moment, piece in enumerate(pieces, 1):
        answer.feed(piece, moment)
    return answer, answer.fault(status)


# --- Gemini -----------------------------------------------------------------------------------------------------------


def candidate(*parts: dict[str, Any], finish: str | None = None) -> bytes:
    told: dict[str, Any] = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    told |= {"finishReason": finish} if finish else {}
    return json.dumps({"candidates": [told], "usageMetadata": {}, "responseId": "x"}).encode()


def gemini(*bodies: bytes) -> bytes:
    return b"".join(b"data: " + body + b"\r\n\r\n" for body in bodies)


def ran(output: str = "1\n", outcome: str = "OUTCOME_OK") -> tuple[dict[str, Any], dict[str, Any]]:
    code = {"executableCode": {"id": "a", "language": "PYTHON", "code": CODE}}
    return code, {"codeExecutionResult": {"id": "a", "outcome": outcome, "output": output}}


HELLO = {"text": TEXT}
G_PIECES = [candidate({"text": piece}) for piece in PIECES]
G_END = candidate({"text": ""}, finish="STOP")
G_RAN = [candidate(part) for part in ran()]
GEMINI_CASES = [
    (plain, False, candidate(HELLO, finish="STOP"), NO_FAULT),
    (plain, False, candidate({"text": "Hello"}, finish="STOP"), "text is"),
    (plain, False, candidate(HELLO), "finish_reason is None"),
    (plain, False, candidate(HELLO, finish="MAX_TOKENS"), "finish_reason is 'MAX_TOKENS'"),
    (plain, False, candidate({"functionCall": {"name": "f"}}, HELLO, finish="STOP"), "calls is 1"),
    (plain, False, candidate(*ran(), HELLO, finish="STOP"), "code is ['print(1)'], not []; output is ['1'], not []"),
    (plain, False, candidate(HELLO, finish="STOP")[:-1], "not the JSON"),
    (plain, False, b'{"candidates":[{"content":"Hello, you"}]}', "not the JSON"),
    (plain, False, b'{"error":{"message":"busy"}}', "busy"),
    (coded, False, candidate(*ran(), HELLO, finish="STOP"), NO_FAULT),
    (coded, False, candidate(HELLO, finish="STOP"), "code is []"),
    (coded, False, candidate(ran()[0], HELLO, finish="STOP"), "output is []"),
    (coded, False, candidate(ran()[1], HELLO, finish="STOP"), "code is []"),
    (coded, False, candidate(*ran("2\n"), HELLO, finish="STOP"), "output is ['2']"),
    (coded, False, candidate(*ran(outcome="OUTCOME_FAILED"), HELLO, finish="STOP"), "output is ['OUTCOME_FAILED: 1']"),
    (coded, False, candidate(*ran(), *ran(), HELLO, finish="STOP"), "output is ['1', '1']"),
    (plain, True, gemini(*G_PIECES, G_END), NO_FAULT),
    (plain, True, gemini(*G_PIECES), "before its last frame"),
    (plain, True, gemini(*G_PIECES, G_END)[:-4], "before its last frame"),
    (plain, True, gemini(G_PIECES[0], G_END), "text is"),
    (plain, True, gemini(*G_PIECES, G_END, G_END), "not a frame"),
    (plain, True, gemini(*G_PIECES, candidate(finish="MAX_TOKENS")), "finish_reason is 'MAX_TOKENS'"),
    (plain, True, gemini(*G_PIECES, b'{"error":{"message":"gone"}}'), "gone"),
    (plain, True, gemini(*G_PIECES, G_END).replace(b"\r\n", b"\n"), "before its last frame"),
    (plain, True, b"[" + b",".join((*G_PIECES, G_END)) + b"]", "before its last frame"),
    (coded, True, gemini(*G_RAN, *G_PIECES, G_END), NO_FAULT),
    (coded, True, gemini(*G_PIECES, G_END), "code is []"),
    (coded, True, gemini(G_RAN[0], *G_PIECES, G_END), "output is []"),
]


# --- interactions -----------------------------------------------------------------------------------------------------


def interaction(*steps: dict[str, Any], status: str = "completed", **more: Any) -> bytes:
    return json.dumps({"id": "v1_x", "status": status, "steps": list(steps), "usage": {}} | more).encode()


def event(name: str, **more: Any) -> bytes:
    told = json.dumps(more | {"event_type": name, "event_id": "1"}, separators=(",", ":"))
    return f"event: {name}\ndata: {told}\n\n".encode()


def delta(**more: Any) -> bytes:
    return event("step.delta", index=0, delta=more)


def called(result: str = "1\n", **more: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    call = {"type": "code_execution_call", "id": "a", "arguments": {"language": "python", "code": CODE}}
    return call, {"type": "code_execution_result", "call_id": "a", "result": result, "is_error": False} | more


SAID = {"type": "model_output", "content": [{"type": "text", "text": TEXT}]}
OWN = {"type": "function_call", "name": "f", "id": "a", "arguments": {}}
CREATED = event("interaction.created", interaction={"id": "v1_x", "status": "in_progress"})
START = event("step.start", index=0, step={"type": "model_output"})
I_PIECES = b"".join(delta(type="text", text=piece) for piece in PIECES)
I_RAN = event("step.start", index=0, step={"type": "code_execution_call", "id": "a", "arguments": {}})
I_RAN += delta(type="code_execution_call", arguments={"language": "python", "code": CODE})
I_RAN += event("step.start", index=1, step={"type": "code_execution_result", "call_id": "a", "result": ""})
I_RAN += delta(type="code_execution_result", result="1\n", is_error=False)
COMPLETED = event("interaction.completed", interaction={"id": "v1_x", "status": "completed"})
INCOMPLETE = event("interaction.completed", interaction={"id": "v1_x", "status": "incomplete"})
OVER = b"event: done\ndata: [DONE]\n\n"
BURNT = delta(type="code_execution_result", result="1\n", is_error=True)
INTERACTION_CASES = [
    (plain, False, interaction(SAID), NO_FAULT),
    (plain, False, interaction(), "text is"),
    (plain, False, interaction(SAID, SAID), "text is"),
    (plain, False, interaction(SAID, status="incomplete"), "finish_reason is 'incomplete'"),
    (plain, False, interaction(SAID, error={"message": "busy"}), "busy"),
    (plain, False, interaction(SAID, OWN), "calls is 1"),
    (plain, False, interaction(*called(), SAID), "code is"),
    (plain, False, b'{"status":"completed","steps":["Hello, you"]}', "not the JSON"),
    (coded, False, interaction(*called(), SAID), NO_FAULT),
    (coded, False, interaction(SAID), "code is []"),
    (coded, False, interaction(called()[0], SAID), "output is []"),
    (coded, False, interaction(*called("2\n"), SAID), "output is ['2']"),
    (coded, False, interaction(*called(is_error=True), SAID), "output is ['error: 1']"),
    (coded, False, interaction(*called(is_error=None), SAID), "output is ['error: 1']"),
    (plain, True, CREATED + START + I_PIECES + COMPLETED + OVER, NO_FAULT),
    (plain, True, CREATED + START + I_PIECES + COMPLETED, "before [DONE]"),
    (plain, True, CREATED + START + I_PIECES + OVER, "finish_reason is None"),
    (plain, True, CREATED + START + I_PIECES + INCOMPLETE + OVER, "finish_reason is 'incomplete'"),
    (plain, True, CREATED + START + COMPLETED + OVER, "text is ''"),
    (plain, True, CREATED + START + I_PIECES + COMPLETED + OVER + OVER, "not a frame"),
    (plain, True, CREATED + START + I_PIECES + COMPLETED + b"data: [DONE]\n\n", "not a frame"),
    (plain, True, CREATED + event("error", error={"message": "gone"}) + OVER, "gone"),
    (plain, True, START.replace(b"step.start", b"step.stop", 1) + I_PIECES + COMPLETED + OVER, "not a frame"),
    (plain, True, event("step.start", index=0, step=OWN) + I_PIECES + COMPLETED + OVER, "calls is 1"),
    (coded, True, CREATED + I_RAN + START + I_PIECES + COMPLETED + OVER, NO_FAULT),
    (coded, True, CREATED + START + I_PIECES + COMPLETED + OVER, "code is []"),
    (coded, True, CREATED + I_RAN + BURNT + START + I_PIECES + COMPLETED + OVER, "output is ['1', 'error: 1']"),
]


# --- DashScope --------------------------------------------------------------------------------------------------------

TOLD: dict[str, Any] = {"tool_info": [{"code_interpreter": {"code": CODE}, "type": "code_interpreter"}]}
COUNTED = {"plugins": {"code_interpreter": {"count": 1}}}
TWICE = {"plugins": {"code_interpreter": {"count": 2}}}


def generation(text: str, finish: str = "stop", usage: dict[str, Any] | None = None, **output: Any) -> bytes:
    choice = {"message": {"role": "assistant", "content": text}, "finish_reason": finish}
    told = {"output": {"choices": [choice]} | output, "usage": {"input_tokens": 1} | (usage or {}), "request_id": "x"}
    return json.dumps(told).encode()


def dashscope(*bodies: bytes, head: bytes = b"event:result\n:HTTP_STATUS/200") -> bytes:
    return b"".join(b"id:%d\n%s\ndata:%s\n\n" % (number, head, body) for number, body in enumerate(bodies, 1))


D_PIECES = [generation(piece, "null") for piece in PIECES]
D_RAN = [generation(piece, "null", COUNTED, **TOLD) for piece in ("", *PIECES)]
D_ERROR = b'{"code":"InternalError","message":"gone","request_id":"x"}'
DASHSCOPE_CASES = [
    (plain, False, generation(TEXT), NO_FAULT),
    (plain, False, generation("Hello"), "text is"),
    (plain, False, generation(TEXT, "null"), "finish_reason is None"),
    (plain, False, generation(TEXT, "length"), "finish_reason is 'length'"),
    (plain, False, generation(TEXT, usage=COUNTED, **TOLD), "code is ['print(1)'], not []; runs is 1, not 0"),
    (plain, False, D_ERROR, "InternalError: gone"),
    (plain, False, b'{"output":{"text":"Hello, you","finish_reason":"stop"}}', "text is ''"),
    (plain, False, b'{"output":"Hello, you"}', "not the JSON"),
    (coded, False, generation(TEXT, usage=COUNTED, **TOLD), NO_FAULT),
    (coded, False, generation(TEXT, usage=COUNTED), "code is []"),
    (coded, False, generation(TEXT, **TOLD), "runs is 0"),
    (coded, False, generation(TEXT, usage=TWICE, **TOLD), "runs is 2"),
    (coded, False, generation(TEXT), "code is []"),
    (plain, True, dashscope(*D_PIECES, generation("")), NO_FAULT),
    (plain, True, dashscope(*D_PIECES), "before its last frame"),
    (plain, True, dashscope(*D_PIECES, generation(""))[:-2], "before its last frame"),
    (plain, True, dashscope(*D_PIECES, generation("", "length")), "finish_reason is 'length'"),
    (plain, True, dashscope(generation("Hello, ", "null"), generation(TEXT)), "text is 'Hello, Hello, you'"),
    (plain, True, dashscope(*D_PIECES, generation(""), generation("")), "not a frame"),
    (plain, True, dashscope(*D_PIECES) + dashscope(D_ERROR, head=b"event:error\n:HTTP_STATUS/500"), "not a frame"),
    (plain, True, dashscope(*D_PIECES, D_ERROR), "InternalError: gone"),
    (plain, True, b"".join(b"data: " + body + b"\n\n" for body in D_PIECES), "not a frame"),
    (coded, True, dashscope(*D_RAN, generation("", usage=COUNTED, **TOLD)), NO_FAULT),
    (coded, True, dashscope(*D_RAN, generation("", usage=COUNTED)), "code is []"),
    (coded, True, dashscope(*D_PIECES, generation("")), "code is []"),
]


# --- compatible chat --------------------------------------------------------------------------------------------------


def completion(message: dict[str, Any] | None, finish: str | None = None, part: str = "message", **more: Any) -> bytes:
    choices = [] if message is None else [{"index": 0, part: message, "finish_reason": finish, "logprobs": None}]
    return json.dumps({"choices": choices, "usage": None} | more).encode()


def qwen(*bodies: bytes, end: bytes = b"data: [DONE]\n\n") -> bytes:
    return b"".join(b"data: " + body + b"\n\n" for body in bodies) + end


Q_PIECES = [completion({"content": piece}, part="delta") for piece in ("", *PIECES)]
Q_PIECES.append(completion({"content": ""}, "stop", part="delta"))
QWEN_CASES = [
    (plain, False, completion({"content": TEXT}, "stop"), NO_FAULT),
    (plain, False, completion({"content": TEXT}, "stop", usage=COUNTED), "runs is 1"),
    (plain, False, completion({"content": "Hello"}, "stop"), "text is"),
    (plain, False, b'{"error":{"message":"busy"}}', "busy"),
    (coded, False, completion({"content": TEXT}, "stop", usage=COUNTED), NO_FAULT),
    (coded, False, completion({"content": TEXT}, "stop", usage={"plugins": None}), "runs is 0"),
    (coded, False, completion({"content": TEXT}, "stop", usage=TWICE), "runs is 2"),
    (coded, False, completion({"content": TEXT, "tool_calls": [{}]}, "stop", usage=COUNTED), "calls is 1"),
    (plain, True, qwen(*Q_PIECES, completion(None, usage={"total_tokens": 1})), NO_FAULT),
    (coded, True, qwen(*Q_PIECES, completion(None, usage=COUNTED)), NO_FAULT),
    (coded, True, qwen(*Q_PIECES), "runs is 0"),
    (coded, True, qwen(*Q_PIECES, completion(None, usage=COUNTED), end=b""), "before [DONE]"),
]

# --- responses --------------------------------------------------------------------------------------------------------


def response(*items: dict[str, Any], status: str = "completed", **more: Any) -> bytes:
    told = {"id": "resp_x", "object": "response", "status": status, "error": None, "output": list(items)} | more
    return json.dumps(told).encode()


def told(kind: str, **more: Any) -> bytes:
    data = json.dumps({"type": f"response.{kind}", "sequence_number": 0} | more, separators=(",", ":"))
    return f"event: response.{kind}\ndata: {data}\n\n".encode()


def code_call(logs: str = "1\n", status: str = "completed") -> dict[str, Any]:
    return {
        "type": "code_interpreter_call",
        "status": status,
        "code": CODE,
        "outputs": [{"type": "logs", "logs": logs}],
    }


def ended(status: str = "completed", **more: Any) -> bytes:
    return told(status, response={"status": status, "output": [], "error": None} | more)


R_SAID = {"type": "message", "status": "completed", "content": [{"type": "output_text", "text": TEXT}]}
R_OWN = {"type": "function_call", "name": "f", "arguments": "{}"}
R_CREATED = told("created", response={"status": "in_progress", "output": []})
R_PIECES = b"".join(told("output_text.delta", output_index=0, delta=piece) for piece in PIECES)
R_RAN = told("output_item.added", item=code_call() | {"code": "", "outputs": [], "status": "in_progress"})
R_RAN += told("code_interpreter_call_code.delta", delta=CODE) + told("output_item.done", item=code_call())
RESPONSE_CASES = [
    (plain, False, response(R_SAID), NO_FAULT),
    (plain, False, response(), "text is"),
    (plain, False, response(R_SAID, R_SAID), "text is"),
    (plain, False, response(R_SAID, status="incomplete"), "finish_reason is 'incomplete'"),
    (plain, False, response(R_SAID, status="failed", error={"message": "busy"}), "busy"),
    (plain, False, response(R_SAID, R_OWN), "calls is 1"),
    (plain, False, response(code_call(), R_SAID), "code is"),
    (plain, False, b'{"status":"completed","output":["Hello, you"]}', "not the JSON"),
    (coded, False, response(code_call(), R_SAID), NO_FAULT),
    (coded, False, response(R_SAID), "code is []"),
    (coded, False, response(code_call() | {"outputs": None}, R_SAID), "output is ['']"),
    (coded, False, response(code_call("2\n"), R_SAID), "output is ['2']"),
    (coded, False, response(code_call(status="failed"), R_SAID), "output is ['failed: 1']"),
    (plain, True, R_CREATED + R_PIECES + ended(), NO_FAULT),
    (plain, True, R_CREATED + R_PIECES, "before its last frame"),
    (plain, True, R_CREATED + ended(), "text is ''"),
    (plain, True, R_CREATED + R_PIECES + ended("incomplete"), "finish_reason is 'incomplete'"),
    (plain, True, R_CREATED + R_PIECES + ended("failed", error={"message": "gone"}), "gone"),
    (plain, True, R_CREATED + R_PIECES + ended() + ended(), "not a frame"),
    (plain, True, R_CREATED.replace(b"created", b"queued", 1) + R_PIECES + ended(), "not a frame"),
    (plain, True, R_CREATED + told("output_item.done", item=R_OWN) + R_PIECES + ended(), "calls is 1"),
    (coded, True, R_CREATED + R_RAN + R_PIECES + ended(), NO_FAULT),
    (coded, True, R_CREATED + R_PIECES + ended(), "code is []"),
]

TABLES = {
    GEMINI: GEMINI_CASES,
    INTERACTIONS: INTERACTION_CASES,
    DASHSCOPE: DASHSCOPE_CASES,
    QWEN_CHAT: QWEN_CASES,
    RESPONSES: RESPONSE_CASES,
}
CASES = [
    pytest.param(step(wire), stream, body, fault, id=f"{wire}, {step.__name__}, {'stream' if stream else 'whole'}")
    for wire, table in TABLES.items()
    for step, stream, body, fault in table
]


@pytest.mark.parametrize(("step", "stream", "body", "fault"), CASES)
def test_an_answer_is_right_or_its_fault_is_named(step: Step, stream: bool, body: bytes, fault: str) -> None:
    cuts = [[body], *([body[:at], body[at:]] for at in range(1, len(body)))] if stream else [[body]]
    faults = {judge(step, pieces, stream=stream)[1] for pieces in cuts}
    assert len(faults) == 1
    assert (fault in faults.pop()) if fault else faults == {""}


RIGHT = [
    (plain(GEMINI), [gemini(body) for body in (*G_PIECES, G_END)], 1),
    (coded(GEMINI), [gemini(body) for body in (*G_RAN, *G_PIECES, G_END)], 3),
    (coded(INTERACTIONS), [CREATED + I_RAN, START, I_PIECES, COMPLETED + OVER], 3),
    (coded(DASHSCOPE), [dashscope(body) for body in (*D_RAN, generation("", usage=COUNTED, **TOLD))], 2),
    (plain(QWEN_CHAT), [qwen(body, end=b"") for body in Q_PIECES] + [b"data: [DONE]\n\n"], 2),
    (coded(RESPONSES), [R_CREATED + R_RAN, R_PIECES, ended()], 2),
]


@pytest.mark.parametrize(("step", "pieces", "first"), RIGHT, ids=lambda value: getattr(value, "wire", None))
def test_the_first_text_has_its_time(step: Step, pieces: list[bytes], first: int) -> None:
    answer, fault = judge(step, pieces, stream=True)
    assert (fault, answer.first) == (NO_FAULT, first)


@pytest.mark.parametrize("wire", WIRES)
def test_a_comment_is_no_frame_and_a_status_is_a_fault(wire: str) -> None:
    alive = b": alive" + WIRES[wire].separator
    end = WIRES[wire].end
    missing = f"the stream ended before {end.decode() if end else 'its last frame'}"
    assert judge(plain(wire), [alive], stream=True)[1] == missing
    assert judge(plain(wire), [b"{}"], stream=True, status=429)[1] == "status 429: {}"


def test_each_dialect_is_asked_in_its_own_wire() -> None:
    assert {CHAT, *(dialect.plain.wire for dialect in DIALECTS)} == set(WIRES)
    for dialect in DIALECTS:
        coded = dialect.coded
        assert dialect.plain.wire == coded.wire
        assert dialect.name.startswith(coded.wire)  # Responses take part twice
        assert coded.output or coded.runs  # an answer without its execution is never right
