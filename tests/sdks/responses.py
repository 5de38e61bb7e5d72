"""OpenAI's Responses from Python: its clients, and streams held to the order that the vendor keeps.

`follow` reads a stream as the vendor's documents tell it, event by event, and fails where one is missing, doubled or
says something else than the response at the end. Whoever asks in one of WAYS has his answer judged so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
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
BEGINNINGS = [  # of a stream; the second way, in the background
    ["response.created", "response.in_progress"],
    ["response.created", "response.queued", "response.in_progress"],
]


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
        self.is_whole = first == 0
        self.open: dict[int, Open] = {}
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
        assert not self.is_whole or any(self.kinds[: len(ways)] == ways for ways in BEGINNINGS), self.kinds
        if kind == "response.output_item.added":
            assert event["output_index"] == len(self.open), "items are added in their order"
            left = [item.item["type"] for item in self.open.values() if not item.done]
            may = {"code_interpreter_call"} if event["item"]["type"].endswith("_call") else set()
            assert set(left) <= may, f"{left} are open"  # the code of a turn runs when all its calls are written
            self.open[event["output_index"]] = Open(event["item"])
            return
        item = self.open[event["output_index"]]
        assert not item.done, f"{kind} for an item that is done"
        assert event.get("item_id", item.item["id"]) == item.item["id"]
        item.seen.append(kind)
        if kind == "response.output_item.done":
            item.done = True
            _hold(item, event["item"])
            item.item = event["item"]
        elif kind == "response.output_text.annotation.added":
            assert event["annotation_index"] == len(item.annotations)
            item.annotations.append(event["annotation"])
        else:
            _take_text(item, event)

    def _take_response(self, kind: str, response: Json) -> None:
        assert self.identity in (None, response["id"])
        self.identity = response["id"]
        if kind in ENDS:
            assert all(item.done for item in self.open.values()), "an item is open at the end"
            assert kind.removeprefix("response.") == response["status"]
            self.end = response
            return
        assert any(self.kinds == ways[: len(self.kinds)] for ways in BEGINNINGS), self.kinds
        assert response["output"] == []
        if kind != "response.created":
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


# What comes of an item, in this order. Deltas and annotations may be several.
ORDERS: Mapping[str, Sequence[str]] = {
    "code_interpreter_call": (
        "code_interpreter_call.in_progress",
        "code_interpreter_call_code.delta",
        "code_interpreter_call_code.done",
        "code_interpreter_call.interpreting",
        "code_interpreter_call.completed",
    ),
    "message": (
        "content_part.added",
        "output_text.delta",
        "output_text.annotation.added",
        "output_text.done",
        "content_part.done",
    ),
    "function_call": ("function_call_arguments.delta", "function_call_arguments.done"),
    "custom_tool_call": ("custom_tool_call_input.delta", "custom_tool_call_input.done"),
    "reasoning": ("content_part.added", "reasoning_text.delta", "reasoning_text.done", "content_part.done"),
    "reasoning, summary": (
        "reasoning_summary_part.added",
        "reasoning_summary_text.delta",
        "reasoning_summary_text.done",
        "reasoning_summary_part.done",
    ),
}
OPTIONAL = {"output_text.annotation.added"}


def _came(seen: Sequence[str]) -> list[str]:
    """The events of an item but the last, with runs of those that may be several as one."""
    names = [name.removeprefix("response.") for name in seen[:-1]]
    several = (".delta", ".annotation.added")
    return [n for at, n in enumerate(names) if names[at - 1 : at] != [n] or not n.endswith(several)]


def _hold(item: Open, done: Json) -> None:
    """A finished item against what came of it."""
    kind = done["type"]
    assert (kind, done["id"]) == (item.item["type"], item.item["id"])
    if done.get("status", "completed") == "completed":
        came = _came(item.seen)
        order = ORDERS["reasoning, summary" if kind == "reasoning" and done["summary"] else kind]
        assert came == [name for name in order if name not in OPTIONAL or name in came], came
    said = "".join(item.texts.values())
    if kind == "code_interpreter_call":
        assert done["code"] == said
    elif kind == "function_call":
        assert done["arguments"] == said
    elif kind == "custom_tool_call":
        assert done["input"] == said
    elif kind == "reasoning":
        assert "".join(part["text"] for part in done["summary"] or done["content"]) == said
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
    """The items at the end are those that were written."""
    assert end["output"] == [item.item for item in follower.open.values()]


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
