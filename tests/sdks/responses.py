"""OpenAI's Responses from Python: its clients, and streams held to the order that the vendor keeps.

`follow` reads a stream as the vendor's documents tell it, event by event, and fails where one is missing, doubled or
says something else than the response at the end. Whoever asks in one of WAYS has his answer judged so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import openai

from sdks.ways import CERTIFICATES, KEY

OUTPUTS = "code_interpreter_call.outputs"
INTERPRETER: dict[str, Any] = {"type": "code_interpreter", "container": {"type": "auto"}}
WEATHER: dict[str, Any] = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "strict": True,
}
Json = dict[str, Any]


def connect(url: str, key: str = KEY, path: str = "/v1", **more: Any) -> openai.OpenAI:
    """The SDK, with the base that the vendor's own has."""
    own = {"api_key": key, "base_url": url + path, "max_retries": 0}
    return openai.OpenAI(**{"http_client": openai.DefaultHttpxClient(verify=CERTIFICATES)} | own | more)


def connect_async(url: str, key: str = KEY, path: str = "/v1", **more: Any) -> openai.AsyncOpenAI:
    """The same for coroutines."""
    own = {"api_key": key, "base_url": url + path, "max_retries": 0}
    return openai.AsyncOpenAI(**{"http_client": openai.DefaultAsyncHttpxClient(verify=CERTIFICATES)} | own | more)


def python(*codes: str) -> str:
    """A question that belljar/verbatim answers by running these codes, one after the other."""
    return "\n".join(f"```python\n{code}\n```" for code in codes)


# --- what is in an answer ---------------------------------------------------------------------------------------------


def items(response: Any, kind: str) -> list[Any]:
    """The output items of a kind."""
    return [item for item in response.output if item.type == kind]


def codes(response: Any) -> list[str]:
    """The code that ran."""
    return [item.code for item in items(response, "code_interpreter_call")]


def logs(response: Any) -> str:
    """What it printed, as the vendor's guide reads it."""
    calls = items(response, "code_interpreter_call")
    return "".join(output.logs for call in calls for output in call.outputs or [] if output.type == "logs")


def pictures(response: Any) -> list[str]:
    """What it drew, as URLs."""
    calls = items(response, "code_interpreter_call")
    return [output.url for call in calls for output in call.outputs or [] if output.type == "image"]


def citations(response: Any) -> list[Any]:
    """The files of the container that the answer names."""
    parts = [part for item in items(response, "message") for part in item.content if part.type == "output_text"]
    return [one for part in parts for one in part.annotations if one.type == "container_file_citation"]


def container_of(response: Any) -> str:
    """The container that the code ran in: one, for all of it."""
    [container] = {item.container_id for item in items(response, "code_interpreter_call")}
    return str(container)


def thoughts(response: Any) -> str:
    """The model's reasoning: the summary where it has one, else its own words."""
    said = []
    for item in items(response, "reasoning"):
        said += [part.text for part in item.summary or item.content or []]
    return "".join(said)


# --- streams ----------------------------------------------------------------------------------------------------------

ENDS = ("response.completed", "response.incomplete", "response.failed")
BEGINNINGS = ("response.queued", "response.in_progress")


@dataclass
class Open:
    """An output item that a stream is writing: what its deltas have said so far."""

    item: Json
    texts: dict[str, str] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    annotations: list[Json] = field(default_factory=list)
    done: bool = False


class Follower:
    """Takes the events of a stream, as dicts, and asserts what the vendor promises of them. `first` is the sequence
    number of the first one, where a stream goes on from an earlier one.
    """

    def __init__(self, first: int = 0) -> None:
        self.next = first
        self.open: dict[int, Open] = {}
        self.begun = first > 0
        self.identity: str | None = None
        self.end: Json | None = None
        self.kinds: list[str] = []

    def take(self, event: Json) -> None:
        """The next event."""
        kind = event["type"]
        assert self.end is None, f"{kind} after the end"
        assert event["sequence_number"] == self.next, f"{kind} is number {event['sequence_number']}, not {self.next}"
        self.next += 1
        self.kinds.append(kind)
        if "response" in event:
            self._take_response(kind, event["response"])
            return
        assert self.begun, f"{kind} before response.created"
        if kind == "response.output_item.added":
            assert event["output_index"] == len(self.open), "items are added in their order"
            self.open[event["output_index"]] = Open(event["item"])
            return
        item = self.open[event["output_index"]]
        assert not item.done, f"{kind} for an item that is done"
        assert event.get("item_id", item.item["id"]) == item.item["id"]
        item.seen.append(kind)
        if kind == "response.output_item.done":
            item.done = True
            _hold(item, event["item"])
        elif kind == "response.output_text.annotation.added":
            assert event["annotation_index"] == len(item.annotations)
            item.annotations.append(event["annotation"])
        else:
            _take_text(item, event)

    def _take_response(self, kind: str, response: Json) -> None:
        assert self.identity in (None, response["id"])
        self.identity = response["id"]
        if kind == "response.created":
            assert not self.begun, "created twice"
            assert response["status"] in ("in_progress", "queued")
            assert response["output"] == []
            self.begun = True
        elif kind in ENDS:
            assert all(item.done for item in self.open.values()), "an item is open at the end"
            assert kind.removeprefix("response.") == response["status"]
            self.end = response
        else:
            assert kind in BEGINNINGS, kind
            assert response["status"] == kind.removeprefix("response.")

    def close(self) -> Json:
        """The response at the end, which says what the events have said."""
        assert self.end is not None, f"no end: {self.kinds[-3:]}"
        return self.end


# What the deltas of a kind add up to: the event that says the whole, and its field.
WHOLE: Mapping[str, tuple[str, str]] = {
    "response.output_text": ("response.output_text.done", "text"),
    "response.reasoning_summary_text": ("response.reasoning_summary_text.done", "text"),
    "response.reasoning_text": ("response.reasoning_text.done", "text"),
    "response.code_interpreter_call_code": ("response.code_interpreter_call_code.done", "code"),
    "response.function_call_arguments": ("response.function_call_arguments.done", "arguments"),
    "response.custom_tool_call_input": ("response.custom_tool_call_input.done", "input"),
}


def _take_text(item: Open, event: Json) -> None:
    base, _, last = event["type"].rpartition(".")
    if base in WHOLE and last == "delta":
        item.texts[base] = item.texts.get(base, "") + event["delta"]
    elif base in WHOLE:
        assert event[WHOLE[base][1]] == item.texts.get(base, ""), f"{event['type']} says something else"


CODE_EVENTS = [
    "response.code_interpreter_call.in_progress",
    "response.code_interpreter_call_code.delta",
    "response.code_interpreter_call_code.done",
    "response.code_interpreter_call.interpreting",
    "response.code_interpreter_call.completed",
    "response.output_item.done",
]
TEXT_EVENTS = [
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.annotation.added",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
]
ORDERS: Mapping[str, list[str]] = {
    "code_interpreter_call": CODE_EVENTS,
    "message": TEXT_EVENTS,
    "function_call": [
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done",
        "response.output_item.done",
    ],
    "custom_tool_call": [
        "response.custom_tool_call_input.delta",
        "response.custom_tool_call_input.done",
        "response.output_item.done",
    ],
}
OPTIONAL = {"response.output_text.annotation.added"}


def _hold(item: Open, done: Json) -> None:
    """A finished item against what came of it."""
    kind = done["type"]
    assert (kind, done["id"]) == (item.item["type"], item.item["id"])
    if kind in ORDERS and done.get("status") == "completed":
        came = [name for place, name in enumerate(item.seen) if item.seen[place - 1 : place] != [name]]
        wanted = [name for name in ORDERS[kind] if name not in OPTIONAL or name in came]
        assert came == wanted, came
    said = "".join(item.texts.values())
    if kind == "code_interpreter_call":
        assert done["code"] == said
    elif kind == "function_call":
        assert done["arguments"] == said
    elif kind == "custom_tool_call":
        assert done["input"] == said
    elif kind == "message":
        assert "".join(part["text"] for part in done["content"]) == said
        assert [one for part in done["content"] for one in part["annotations"]] == item.annotations


def follow(events: Iterable[Any], first: int = 0) -> Any:
    """The response at the end of a stream of the SDK's events, which is held to the vendor's order."""
    follower = Follower(first)
    response = None
    for event in events:
        follower.take(event.to_dict())
        response = getattr(event, "response", response)
    end = follower.close()
    if first == 0:
        compare(follower, end)
    return response


def compare(follower: Follower, end: Json) -> None:
    """The items at the end are those that were announced."""
    assert [item["id"] for item in end["output"]] == [item.item["id"] for item in follower.open.values()]


# --- ways -------------------------------------------------------------------------------------------------------------

Ask = Callable[..., Any]


def _whole(client: openai.OpenAI, request: Mapping[str, Any]) -> Any:
    return client.responses.create(**request)


def _stream(client: openai.OpenAI, request: Mapping[str, Any]) -> Any:
    return follow(client.responses.create(stream=True, **request))


def _helper(client: openai.OpenAI, request: Mapping[str, Any]) -> Any:
    with client.responses.stream(**request) as stream:
        return stream.get_final_response()


def _sync(ask: Callable[[openai.OpenAI, Mapping[str, Any]], Any]) -> Ask:
    def way(url: str, path: str = "/v1", **request: Any) -> Any:
        with connect(url, path=path) as client:
            return ask(client, request)

    return way


def _async(*, stream: bool) -> Ask:
    async def work(url: str, path: str, request: Mapping[str, Any]) -> Any:
        async with connect_async(url, path=path) as client:
            if not stream:
                return await client.responses.create(**request)
            return follow([event async for event in await client.responses.create(stream=True, **request)])

    return lambda url, path="/v1", **request: asyncio.run(work(url, path, request))


WAYS: Mapping[str, Ask] = {
    "create": _sync(_whole),
    "create, streaming": _sync(_stream),
    "stream helper": _sync(_helper),
    "async": _async(stream=False),
    "async, streaming": _async(stream=True),
}


def pages(listing: Any) -> Iterator[Any]:
    """All of a list, page by page as the SDK turns them."""
    yield from listing
