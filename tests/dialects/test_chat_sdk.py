"""Chat completions as the official SDKs of Groq and OpenAI see them: unchanged clients, without a network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import groq
import httpx
import openai
import pytest

from belljar import errors
from belljar.dialects.base import Incoming
from belljar.dialects.chat_completions import DIALECT
from belljar.errors import BelljarError
from belljar.events import Event, Failed, Finish, Finished, Fold, TextDelta
from belljar.execution import Execution, Outcome, Result
from belljar.model import ModelInfo
from dialects.chat_helpers import PNG, START, asked, one_execution, ran, turn, written

Q: Any = [{"role": "user", "content": "sqrt(101)?"}]
CODE_INTERPRETER: Any = [{"type": "code_interpreter"}]
CODE = "import math\nmath.sqrt(101)\n"
FIGURE = Execution(outcome=Outcome.OK, results=(Result(data={"image/png": PNG}),))


class Server:
    """Answers an SDK's requests through the dialect, in the way that the HTTP server does."""

    def __init__(self, events: list[Event], error: BelljarError | None = None) -> None:
        self.events, self.error = events, error
        self.asked = 0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        headers = {name.lower(): value for name, value in request.headers.items()}
        path = request.url.path
        incoming = Incoming(method=request.method, path=path, headers=headers, body=request.read())
        assert DIALECT.read_key(incoming) == "key"
        if path.endswith("/models"):
            return httpx.Response(200, content=DIALECT.write_models([ModelInfo(id="a/b", owner="me")]))
        try:
            read = DIALECT.read_request(incoming)
            if self.error:
                raise self.error
        except BelljarError as error:
            reply = DIALECT.write_error(error, None)
            return httpx.Response(
                reply.status, content=reply.body, headers={"content-type": reply.media_type} | dict(reply.headers)
            )
        writer = DIALECT.writer(read, START)
        if read.stream:
            frames = [frame for event in self.events for frame in (writer.write(event), writer.heartbeat)]
            return httpx.Response(200, content=b"".join(frames), headers={"content-type": writer.media_type})
        folding = Fold()
        for event in self.events:
            folding.add(event)
        body = DIALECT.heartbeat * 3 + writer.fold(folding.answer)
        return httpx.Response(200, content=body, headers={"content-type": "application/json"})


Client = Callable[[Server], Any]


@pytest.fixture(params=["groq", "openai"])
def sdk(request: pytest.FixtureRequest) -> Iterator[tuple[ModuleType, Client]]:
    """A module of an SDK, and how to make its client."""
    module, path, kind = {
        "groq": (groq, "", groq.Groq),
        "openai": (openai, "/openai/v1", openai.OpenAI),
    }[request.param]
    opened: list[Any] = []

    def client(server: Server) -> Any:
        http = httpx.Client(transport=httpx.MockTransport(server))
        opened.append(http)
        return kind(api_key="key", base_url=f"http://belljar{path}", http_client=http, max_retries=0)

    yield module, client
    for http in opened:
        http.close()


def field(value: Any, name: str) -> Any:
    """A field that one SDK has a type for, and the other passes through as a dictionary's."""
    return value.get(name) if isinstance(value, dict) else getattr(value, name)


def test_gpt_oss(sdk: tuple[ModuleType, Client]) -> None:
    answer = sdk[1](Server(one_execution())).chat.completions.create(
        model="openai/gpt-oss-20b", messages=Q, tools=CODE_INTERPRETER, tool_choice="required"
    )
    message = answer.choices[0].message
    (tool,) = message.executed_tools
    assert message.content == "It is 10.05."
    assert message.reasoning == "We need sqrt."
    assert field(tool, "arguments") == CODE
    assert field(tool, "name") == "python"
    assert field(field(tool, "code_results")[0], "text") == "10.04987562112089"
    assert answer.usage.total_tokens == 30


def test_gpt_oss_with_a_plot(sdk: tuple[ModuleType, Client]) -> None:
    answer = sdk[1](Server(one_execution(FIGURE))).chat.completions.create(
        model="m", messages=Q, tools=CODE_INTERPRETER
    )
    (tool,) = answer.choices[0].message.executed_tools
    assert field(field(tool, "code_results")[0], "png").startswith("iVBORw0KGgo")


def test_compound(sdk: tuple[ModuleType, Client]) -> None:
    answer = sdk[1](Server(one_execution())).chat.completions.create(
        model="groq/compound", messages=Q, extra_headers={"Groq-Model-Version": "latest"}
    )
    (tool,) = answer.choices[0].message.executed_tools
    assert field(tool, "type") == "python"
    assert field(tool, "output") == "10.04987562112089\n"
    assert field(field(answer.usage_breakdown, "models")[0], "model") == "m"
    assert field(answer.x_groq, "model_version") == "2025-08-16"


@pytest.mark.parametrize("model", ["openai/gpt-oss-20b", "groq/compound"])
def test_stream(sdk: tuple[ModuleType, Client], model: str) -> None:
    """With a heart-beat after every frame."""
    fields = {} if model.startswith("groq/") else {"tools": CODE_INTERPRETER}
    chunks = list(
        sdk[1](Server(one_execution())).chat.completions.create(model=model, messages=Q, stream=True, **fields)
    )
    tools, content, reasoning = {}, "", ""
    for chunk in chunks:
        delta = chunk.choices[0].delta
        content += delta.content or ""
        reasoning += getattr(delta, "reasoning", None) or ""
        tools |= {field(tool, "index"): tool for tool in getattr(delta, "executed_tools", None) or []}
    assert content == "It is 10.05."
    assert reasoning.startswith("We need sqrt.")
    assert "10.04987562112089" in str(
        field(tools[0], "output") if len(fields) == 0 else field(tools[0], "code_results")
    )
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert field(field(chunks[-1].x_groq, "usage"), "total_tokens") == 30


def test_usage_of_a_stream(sdk: tuple[ModuleType, Client]) -> None:
    if sdk[0] is groq:
        options = {"extra_body": {"stream_options": {"include_usage": True}}}
    else:
        options = {"stream_options": {"include_usage": True}}
    chunks = list(
        sdk[1](Server(one_execution())).chat.completions.create(model="m", messages=Q, stream=True, **options)
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage.total_tokens == 30


def test_own_calls(sdk: tuple[ModuleType, Client]) -> None:
    events = [*turn(0, *asked('{"city": "Oslo"}'), finish=Finish.CALLS), Finished(finish=Finish.CALLS)]
    tools: Any = [{"type": "function", "function": {"name": "weather"}}]
    create = sdk[1](Server(events)).chat.completions.create
    answer = create(model="m", messages=Q, tools=tools)
    (call,) = answer.choices[0].message.tool_calls
    assert (call.id, call.function.name, call.function.arguments) == ("f1", "weather", '{"city": "Oslo"}')
    assert answer.choices[0].message.content is None
    chunks = list(create(model="m", messages=Q, tools=tools, stream=True))
    pieces = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert "".join(piece.function.arguments for piece in pieces) == '{"city": "Oslo"}'
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


def test_an_answer_sent_back_is_understood(sdk: tuple[ModuleType, Client]) -> None:
    """As SDKs dump it, with all its nulls."""
    server = Server(one_execution())
    create = sdk[1](server).chat.completions.create
    for model, fields in (("groq/compound", {}), ("m", {"tools": CODE_INTERPRETER})):
        said = create(model=model, messages=Q, **fields).choices[0].message.model_dump()
        again = create(model=model, messages=[*Q, said, *Q], **fields)
        assert again.choices[0].message.content == "It is 10.05."
    assert server.asked == 4


def test_models(sdk: tuple[ModuleType, Client]) -> None:
    (model,) = sdk[1](Server([])).models.list().data
    assert (model.id, model.owned_by) == ("a/b", "me")


ERRORS = [
    (errors.Unauthorized("x"), "AuthenticationError"),
    (errors.Forbidden("x"), "PermissionDeniedError"),
    (errors.UnknownModel("x", model="m"), "NotFoundError"),
    (errors.ToolUseFailed("x", generation="g"), "BadRequestError"),
    (errors.UpstreamRefused("x", status=429), "RateLimitError"),
    (errors.AtCapacity("x"), "InternalServerError"),
]


@pytest.mark.parametrize(("error", "kind"), ERRORS, ids=[kind for _, kind in ERRORS])
def test_error(sdk: tuple[ModuleType, Client], error: BelljarError, kind: str) -> None:
    module, client = sdk
    with pytest.raises(getattr(module, kind)) as caught:
        client(Server([], error)).chat.completions.create(model="m", messages=Q)
    body = caught.value.body
    assert body.get("error", body)["message"] == "x"  # Groq's SDK keeps the whole body, OpenAI's what is inside


def test_bad_request(sdk: tuple[ModuleType, Client]) -> None:
    with pytest.raises(sdk[0].BadRequestError, match=r"messages\.0\.role"):
        sdk[1](Server([])).chat.completions.create(model="m", messages=[{"role": "bot", "content": "x"}])


def test_error_in_mid_stream(sdk: tuple[ModuleType, Client]) -> None:
    events = [*turn(0, TextDelta(text="a")), Failed(error=errors.ToolUseFailed("gone wrong", generation="g"))]
    chunks = sdk[1](Server(events)).chat.completions.create(model="m", messages=Q, stream=True)
    with pytest.raises(sdk[0].APIError, match="gone wrong") as caught:
        list(chunks)
    assert caught.value.body["code"] == "tool_use_failed"
    assert caught.value.body["failed_generation"] == "g"


@pytest.mark.parametrize(
    ("error", "times"),
    [(errors.UpstreamTimeout("x"), 1), (errors.HostError("x"), 1), (errors.UpstreamUnavailable("x"), 2)],
    ids=["took too long", "not set up", "may come back"],
)
def test_what_clients_repeat(sdk: tuple[ModuleType, Client], error: BelljarError, times: int) -> None:
    server = Server([], error)
    with pytest.raises(sdk[0].InternalServerError):
        sdk[1](server).with_options(max_retries=1).chat.completions.create(model="m", messages=Q)
    assert server.asked == times


def test_two_executions_keep_their_places(sdk: tuple[ModuleType, Client]) -> None:
    events = [
        *turn(0, *written("1", "c1"), *written("2", "c2"), finish=Finish.CALLS),
        *ran(Execution(outcome=Outcome.OK, stdout="1\n"), "c1"),
        *ran(Execution(outcome=Outcome.OK, stdout="2\n"), "c2"),
        *turn(1, TextDelta(text="done")),
        Finished(finish=Finish.STOP),
    ]
    answer = sdk[1](Server(events)).chat.completions.create(model="groq/compound", messages=Q)
    tools = answer.choices[0].message.executed_tools
    assert [(field(tool, "index"), field(tool, "output")) for tool in tools] == [(0, "1\n"), (1, "2\n")]
