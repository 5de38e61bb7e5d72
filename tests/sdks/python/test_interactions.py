"""Google's Interactions API through its own SDK, unchanged: whole, streamed, kept, gone on from, in the background."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google import genai
from google.genai import types
from google.oauth2.credentials import Credentials

from servers import Belljar

CODE = [{"type": "code_execution"}]
SHOWN = {"thinking_summaries": "auto"}
ROOT = {"model": "openai/gpt-oss-20b", "input": "What is the square root of 101? Use code.", "tools": CODE}
PLOT = {"model": "test/plot", "input": "Plot.", "tools": CODE}
WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
# The SDK's asynchronous client subclasses another library's class.
pytestmark = pytest.mark.filterwarnings("ignore:Inheritance class AiohttpClientSession:DeprecationWarning")


def connect(url: str, key: str = "any-key", version: str = "v1beta", attempts: int | None = None) -> genai.Client:
    again = types.HttpRetryOptions(attempts=attempts) if attempts else None
    options = types.HttpOptions(base_url=url, api_version=version, retry_options=again)
    return genai.Client(api_key=key, vertexai=False, http_options=options)


@pytest.fixture
def client(belljar: Belljar) -> Iterator[genai.Client]:
    with connect(belljar.url) as made:
        yield made


def gather(events: Any) -> tuple[list[dict[str, Any]], Any]:
    """The steps of a stream, and the interaction that ends it."""
    steps: dict[int, dict[str, Any]] = {}
    last: Any = None
    for event in events:
        if event.event_type == "step.start":
            steps[event.index] = {"type": event.step.type, "text": "", "images": [], "arguments": ""}
        elif event.event_type == "step.delta":
            take(steps[event.index], event.delta)
        elif event.event_type == "interaction.completed":
            last = event.interaction
    return [steps[index] for index in sorted(steps)], last


def take(step: dict[str, Any], delta: Any) -> None:
    if delta.type == "text":
        step["text"] += delta.text
    elif delta.type == "thought_summary":
        step["text"] += delta.content.text
    elif delta.type == "code_execution_call":
        step["text"] += delta.arguments.code
    elif delta.type == "code_execution_result":
        step["text"] += delta.result
        step["error"] = delta.is_error
    elif delta.type == "image":
        step["images"].append(base64.b64decode(delta.data))
    elif delta.type == "arguments_delta":
        step["arguments"] += delta.arguments


def simplify(interaction: Any) -> list[dict[str, Any]]:
    """The steps of a whole interaction, in the same form."""
    simple = []
    for step in interaction.steps:
        seen: dict[str, Any] = {"type": step.type, "text": "", "images": [], "arguments": ""}
        if step.type == "thought":
            seen["text"] = step.summary[0].text
        elif step.type == "model_output":
            seen["text"] = "".join(content.text for content in step.content)
        elif step.type == "code_execution_call":
            seen["text"] = step.arguments.code
        elif step.type == "code_execution_result":
            contents = step.result if isinstance(step.result, list) else []
            seen["text"] = "".join(c.text for c in contents if c.type == "text") if contents else step.result
            seen["images"] = [base64.b64decode(c.data) for c in contents if c.type == "image"]
            seen["error"] = step.is_error
        elif step.type == "function_call":
            seen["arguments"] = json.dumps(step.arguments)
        simple.append(seen)
    return simple


def ask(client: genai.Client, way: str, **request: Any) -> tuple[list[dict[str, Any]], Any]:
    """Steps and interaction of an answer, whole or streamed."""
    if way == "stream":
        return gather(client.interactions.create(**request, stream=True))
    answer = client.interactions.create(**request)
    return simplify(answer), answer


ways = pytest.mark.parametrize("way", ["whole", "stream"])


@ways
def test_one_execution(client: genai.Client, way: str) -> None:
    steps, answer = ask(client, way, **ROOT, generation_config=SHOWN)
    assert [step["type"] for step in steps] == [
        "thought",
        "code_execution_call",
        "code_execution_result",
        "model_output",
    ]
    assert steps[0]["text"] == "Python can do that."
    assert "math.sqrt(101)" in steps[1]["text"]
    assert "10.04987562112089" in steps[2]["text"]
    assert steps[2]["error"] is False
    assert "10.04987562112089" in steps[3]["text"]
    assert answer.status == "completed"
    usage = answer.usage
    parts = (
        usage.total_input_tokens,
        usage.total_output_tokens,
        usage.total_tool_use_tokens,
        usage.total_thought_tokens,
    )
    assert usage.total_tokens == sum(parts)
    assert usage.total_tool_use_tokens > 0


@ways
def test_a_plot(client: genai.Client, way: str) -> None:
    steps, _ = ask(client, way, **PLOT)
    result = next(step for step in steps if step["type"] == "code_execution_result")
    assert result["text"] == "drawn\n"
    assert result["images"][0].startswith(b"\x89PNG")


@ways
def test_an_exception(client: genai.Client, way: str) -> None:
    steps, _ = ask(client, way, model="openai/gpt-oss-20b", input="Please raise an error.", tools=CODE)
    result = next(step for step in steps if step["type"] == "code_execution_result")
    assert result["error"] is True
    assert "Error" in result["text"]


@ways
def test_output_text_and_a_conversation(client: genai.Client, way: str) -> None:
    _, first = ask(client, way, **ROOT)
    _, second = ask(client, way, model="test/echo", input="And now?", previous_interaction_id=first.id)
    told = client.interactions.get(id=second.id)
    assert told.previous_interaction_id == first.id
    asked = json.loads(told.output_text)
    assert [message["role"] for message in asked["messages"]] == ["user", "assistant", "user", "assistant", "user"]
    assert "10.04987562112089" in asked["messages"][2]["content"]
    assert asked["messages"][-1]["content"] == "And now?"


@ways
def test_a_function_of_the_clients(client: genai.Client, way: str) -> None:
    tools = [*CODE, WEATHER]
    steps, first = ask(client, way, model="test/mixes", input="Compute, then ask.", tools=tools)
    assert first.status == "requires_action"
    assert steps[-1]["type"] == "function_call"
    assert json.loads(steps[-1]["arguments"]) == {"city": "Tokyo"}
    call = next(step for step in client.interactions.get(id=first.id).steps if step.type == "function_call")
    result = {"type": "function_result", "call_id": call.id, "name": call.name, "result": "sunny"}
    steps, second = ask(client, way, model="test/mixes", input=[result], tools=tools, previous_interaction_id=first.id)
    assert second.status == "completed"
    assert steps[-1]["text"] == "computed 42, weather sunny"


def test_a_conversation_without_the_servers_memory(client: genai.Client) -> None:
    question = {"type": "user_input", "content": [{"type": "text", "text": ROOT["input"]}]}
    first = client.interactions.create(**ROOT | {"input": [question]}, store=False)
    history = [question, *[step.model_dump(exclude_none=True) for step in first.steps]]
    again = {"type": "user_input", "content": [{"type": "text", "text": "And now?"}]}
    second = client.interactions.create(model="test/echo", input=[*history, again], store=False)
    asked = json.loads(second.output_text)
    assert [message["role"] for message in asked["messages"]] == ["user", "assistant", "user", "assistant", "user"]
    with pytest.raises(Exception, match="404") as caught:
        client.interactions.get(id=first.id)
    assert type(caught.value).__name__ == "NotFoundError"


def test_what_is_kept_can_be_had_again_and_deleted(client: genai.Client) -> None:
    first = client.interactions.create(**ROOT)
    again = client.interactions.get(id=first.id, include_input=True)
    assert again.steps == first.steps
    assert again.usage.total_tokens == first.usage.total_tokens
    assert again.input[0].content[0].text == ROOT["input"]
    events = list(client.interactions.get(id=first.id, stream=True))
    assert gather(events)[0] == simplify(first)
    rest = list(client.interactions.get(id=first.id, stream=True, last_event_id=events[4].event_id))
    assert rest == events[5:]
    client.interactions.delete(id=first.id)
    for gone in (
        lambda: client.interactions.get(id=first.id),
        lambda: client.interactions.delete(id=first.id),
        lambda: client.interactions.create(model="test/echo", input="x", previous_interaction_id=first.id),
    ):
        with pytest.raises(Exception, match="not_found"):
            gone()


def until(client: genai.Client, identity: str, ended: Callable[[Any], bool]) -> Any:
    end = time.monotonic() + 20
    while not ended(answer := client.interactions.get(id=identity)):
        assert time.monotonic() < end, answer.status
        time.sleep(0.02)
    return answer


def test_in_the_background(client: genai.Client) -> None:
    first = client.interactions.create(**ROOT, background=True)
    assert first.status == "in_progress"
    done = until(client, first.id, lambda answer: answer.status != "in_progress")
    assert done.status == "completed"
    assert "10.04987562112089" in done.output_text
    failed = client.interactions.create(model="test/status-429", input="x", background=True)
    told = until(client, failed.id, lambda answer: answer.status != "in_progress")
    assert told.status == "failed"
    assert told.errors[0].code == "rate_limit_exceeded"


def test_in_the_background_looking_on(client: genai.Client, belljar: Belljar) -> None:
    """Who looks away, and comes back, misses nothing."""
    stream = client.interactions.create(model="test/slow", input="Count.", tools=CODE, background=True, stream=True)
    seen = []
    for event in stream:
        seen.append(event)
        if event.event_type == "step.stop":
            break
    stream.close()
    identity = seen[0].interaction.id
    seen += client.interactions.get(id=identity, stream=True, last_event_id=seen[-1].event_id)
    assert [event.event_id for event in seen] == [str(number) for number in range(1, len(seen) + 1)]
    steps, last = gather(seen)
    assert last.status == "completed"
    assert steps == simplify(client.interactions.get(id=identity))
    belljar.until(lambda: belljar.in_use == 0)


def test_cancelling(client: genai.Client, belljar: Belljar) -> None:
    first = client.interactions.create(model="test/spin", input="Spin.", tools=CODE, background=True)
    belljar.until(lambda: belljar.in_use == 1)
    assert client.interactions.cancel(id=first.id).status == "cancelled"
    belljar.until(lambda: belljar.in_use == 0 and belljar.upstream.playing == 0, 2.0)
    assert client.interactions.get(id=first.id).status == "cancelled"
    kept = client.interactions.create(model="test/thinks", input="x")
    with pytest.raises(Exception, match="failed_precondition"):
        client.interactions.cancel(id=kept.id)


def test_json(client: genai.Client) -> None:
    schema = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}
    form = {"type": "text", "mime_type": "application/json", "schema": schema}
    answer = client.interactions.create(model="test/json-after-code", input="x", tools=CODE, response_format=form)
    assert json.loads(answer.output_text) == {"answer": 42}


async def test_asynchronously(belljar: Belljar) -> None:
    client = connect(belljar.url)
    try:
        first = await client.aio.interactions.create(**ROOT)
        assert simplify(first)[-1]["text"].startswith("The square root")
        stream = await client.aio.interactions.create(**ROOT, previous_interaction_id=first.id, stream=True)
        steps, last = gather([event async for event in stream])
        assert last.status == "completed"
        assert steps[-1]["type"] == "model_output"
        assert (await client.aio.interactions.get(id=first.id)).steps == first.steps
        await client.aio.interactions.delete(id=first.id)
    finally:
        await client.aio.aclose()


@pytest.mark.parametrize("version", ["v1", "v1beta", "v1beta1", "v1alpha"])
def test_versions(belljar: Belljar, version: str) -> None:
    with connect(belljar.url, version=version) as client:
        answer = client.interactions.create(model="test/thinks", input="x")
        assert client.interactions.get(id=answer.id).output_text == "Thought."


def test_vertex(belljar: Belljar) -> None:
    options = types.HttpOptions(base_url=belljar.url)
    credentials = Credentials("any")  # type: ignore[no-untyped-call]
    with genai.Client(
        vertexai=True, project="p", location="global", credentials=credentials, http_options=options
    ) as client:
        answer = client.interactions.create(model="test/thinks", input="x")
        assert client.interactions.get(id=answer.id).output_text == "Thought."


def test_owners_are_apart(belljar: Belljar) -> None:
    url = belljar.listen(api_key=("one", "two"))
    with connect(url, "one") as one, connect(url, "two") as two:
        answer = one.interactions.create(model="test/thinks", input="x")
        assert one.interactions.get(id=answer.id).output_text == "Thought."
        for gone in (
            lambda: two.interactions.get(id=answer.id),
            lambda: two.interactions.delete(id=answer.id),
            lambda: two.interactions.create(model="test/thinks", input="x", previous_interaction_id=answer.id),
        ):
            with pytest.raises(Exception, match="not_found"):
                gone()
    with connect(url, "three") as stranger, pytest.raises(Exception, match="authentication"):
        stranger.interactions.get(id=answer.id)


FAILURES = [
    ({"model": "no/such-model"}, "NotFoundError", "model_not_found"),
    ({"model": "no/such-model", "background": True}, "NotFoundError", "model_not_found"),
    ({"tools": [{"type": "google_search"}]}, "BadRequestError", "invalid_request"),
    ({"model": "test/status-429"}, "RateLimitError", "rate_limit_exceeded"),
    ({"model": "test/status-503"}, "InternalServerError", "service_unavailable"),
]


@pytest.mark.parametrize(("fields", "kind", "code"), FAILURES)
@ways
def test_errors(belljar: Belljar, fields: dict[str, Any], kind: str, code: str, way: str) -> None:
    with connect(belljar.url, attempts=1) as client, pytest.raises(Exception, match=code) as caught:
        ask(client, way, **{"model": "test/thinks", "input": "x"} | fields)
    assert type(caught.value).__name__ == kind
    assert caught.value.body["error"]["code"] == code


def test_an_error_in_mid_stream(client: genai.Client) -> None:
    events = list(client.interactions.create(model="test/breaks", input="x", stream=True))
    assert [event.event_type for event in events[-2:]] == ["step.stop", "error"]
    assert "the engine fell over" in events[-1].error.message


@ways
def test_heartbeats(impatient: str, way: str) -> None:
    with connect(impatient) as client:
        steps, _ = ask(client, way, model="test/slow", input="Count.", tools=CODE)
    assert steps[-1]["text"] == "It counted."


def test_curl(belljar: Belljar) -> None:
    """As the documentation of the API has it."""
    body = json.dumps({"model": "test/thinks", "input": "Count from 1 to 25.", "stream": True})
    command = ["curl", "-sS", "--no-buffer", "-H", "x-goog-api-key: any", "-H", "Content-Type: application/json"]
    done = subprocess.run(
        [*command, "-d", body, f"{belljar.url}/v1beta/interactions"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith('event: interaction.created\ndata: {"interaction":{"id":"v1_')
    assert done.stdout.endswith("event: done\ndata: [DONE]\n\n")
