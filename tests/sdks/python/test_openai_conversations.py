"""OpenAI's Conversations API through its own SDK, unchanged."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from openai.types.conversations import ConversationItem
from pydantic import TypeAdapter

from sdks.responses import OUTPUTS, connect, python
from sdks.ways import VERBATIM
from servers import Belljar

ITEM: TypeAdapter[Any] = TypeAdapter(ConversationItem)


@pytest.fixture(scope="module")
def client(belljar: Belljar) -> Iterator[openai.OpenAI]:
    with connect(belljar.url) as made:
        yield made


def said(item: Any) -> str:
    return "".join(part.text for part in item.content)


def test_one_is_made_shown_changed_and_deleted(client: openai.OpenAI) -> None:
    talk = client.conversations.create(metadata={"topic": "demo"})
    assert talk.id.startswith("conv_")
    assert (talk.object, talk.metadata) == ("conversation", {"topic": "demo"})
    assert client.conversations.retrieve(talk.id) == talk
    changed = client.conversations.update(talk.id, metadata={"topic": "other"})
    assert (changed.id, changed.created_at, changed.metadata) == (talk.id, talk.created_at, {"topic": "other"})
    assert client.conversations.update(talk.id, metadata=None).metadata == {}
    deleted = client.conversations.delete(talk.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (talk.id, "conversation.deleted", True)
    for gone in (client.conversations.retrieve, client.conversations.delete, client.conversations.items.list):
        with pytest.raises(openai.NotFoundError) as caught:
            gone(talk.id)
        assert caught.value.body == {
            "message": f"Conversation with id '{talk.id}' not found.",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }


def test_without_anything(client: openai.OpenAI) -> None:
    talk = client.conversations.create()
    assert talk.metadata == {}
    page = client.conversations.items.list(talk.id)
    assert (page.data, page.has_more, page.last_id) == ([], False, None)


# as it is put in -> as it is shown, without its id
ITEMS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (
        {"role": "user", "content": "hello"},
        {
            "type": "message",
            "role": "user",
            "status": "completed",
            "content": [{"type": "input_text", "text": "hello"}],
        },
    ),
    (
        {"type": "message", "role": "assistant", "content": "hi"},
        {
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "hi", "annotations": [], "logprobs": []}],
        },
    ),
    (
        {"role": "developer", "content": [{"type": "input_text", "text": "be brief"}]},
        {
            "type": "message",
            "role": "developer",
            "status": "completed",
            "content": [{"type": "input_text", "text": "be brief"}],
        },
    ),
    (
        {"role": "user", "content": [{"type": "input_image", "image_url": "https://example.org/a.png"}]},
        {
            "type": "message",
            "role": "user",
            "status": "completed",
            "content": [
                {
                    "type": "input_image",
                    "detail": "auto",
                    "file_id": None,
                    "image_url": "https://example.org/a.png",
                }
            ],
        },
    ),
    (
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "id": "fc_of_mine", "status": None},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"},
    ),
    (
        {"type": "function_call_output", "call_id": "c", "output": "42"},
        {"type": "function_call_output", "call_id": "c", "output": "42", "status": "completed"},
    ),
    (
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
    ),
]


def test_items_are_shown_in_full(client: openai.OpenAI) -> None:
    talk = client.conversations.create(items=[given for given, _ in ITEMS[:3]])  # type: ignore[misc]
    raw = client.conversations.items.with_raw_response
    added = raw.create(talk.id, items=[given for given, _ in ITEMS[3:]])  # type: ignore[misc]
    assert len(json.loads(added.text)["data"]) == len(ITEMS) - 3
    listed = json.loads(raw.list(talk.id, order="asc").text)
    assert listed["object"] == "list"
    assert (listed["first_id"], listed["last_id"]) == (listed["data"][0]["id"], listed["data"][-1]["id"])
    for item, (_, wanted) in zip(listed["data"], ITEMS, strict=True):
        ITEM.validate_python(item)
        assert json.loads(raw.retrieve(item["id"], conversation_id=talk.id).text) == item
        del item["id"]
        assert item == wanted


def test_pages_of_items(client: openai.OpenAI) -> None:
    talk = client.conversations.create(items=[{"role": "user", "content": str(n)} for n in range(20)])
    client.conversations.items.create(talk.id, items=[{"role": "user", "content": str(n)} for n in range(20, 25)])
    first = client.conversations.items.list(talk.id)
    assert ([said(item) for item in first.data], first.has_more) == ([str(n) for n in range(24, 4, -1)], True)
    assert [said(item) for item in client.conversations.items.list(talk.id)] == [str(n) for n in range(24, -1, -1)]
    upwards = client.conversations.items.list(talk.id, order="asc", limit=7)
    assert [said(item) for item in upwards] == [str(n) for n in range(25)]
    rest = client.conversations.items.list(talk.id, after=str(upwards.data[-1].id), order="asc", limit=100)
    assert [said(item) for item in rest] == [str(n) for n in range(7, 25)]


def test_an_item_is_deleted(client: openai.OpenAI) -> None:
    talk = client.conversations.create(items=[{"role": "user", "content": word} for word in ("a", "b")])
    first, second = client.conversations.items.list(talk.id, order="asc")
    assert client.conversations.items.delete(str(first.id), conversation_id=talk.id) == talk
    assert [item.id for item in client.conversations.items.list(talk.id)] == [second.id]
    for gone in (client.conversations.items.retrieve, client.conversations.items.delete):
        with pytest.raises(openai.NotFoundError, match="not found in conversation"):
            gone(str(first.id), conversation_id=talk.id)


def test_responses_go_on_from_items_and_add_theirs(client: openai.OpenAI) -> None:
    talk = client.conversations.create(items=[{"role": "user", "content": "My name is Ada."}])
    code = python("print('ran')")
    tool: Any = {"type": "code_interpreter", "container": {"type": "auto"}}
    client.responses.create(model=VERBATIM, input=code, tools=[tool], conversation=talk.id)
    listed = list(client.conversations.items.list(talk.id, order="asc"))
    assert [item.type for item in listed[:3]] == ["message", "message", "code_interpreter_call"]
    call: Any = listed[2]
    assert call.outputs is None
    shown: Any = client.conversations.items.retrieve(call.id, conversation_id=talk.id, include=[OUTPUTS])
    assert shown.outputs[0].logs == "ran\n"
    shown = next(
        item
        for item in client.conversations.items.list(talk.id, include=[OUTPUTS, "message.output_text.logprobs"])
        if item.id == call.id
    )
    assert shown.outputs[0].logs == "ran\n"
    told = client.responses.create(model="test/echo", input="Who am I?", conversation=talk.id)
    messages = json.loads(told.output_text)["messages"]
    assert messages[0]["content"] == "My name is Ada."
    assert "ran" in json.dumps(messages)


REFUSED: list[tuple[Callable[[Any, str], object], str, str]] = [
    (lambda c, talk: c.create(items=[{"role": "user", "content": "x"}] * 21), "items", "at most 20"),
    (lambda c, talk: c.create(items="hello"), "items", "must be a list"),
    (lambda c, talk: c.create(items=[{"type": "poem"}]), "items[0].type", "must be one of"),
    (lambda c, talk: c.create(items=[{"type": "item_reference", "id": "msg_1"}]), "items[0].type", "send the item"),
    (lambda c, talk: c.create(items=[{"role": "user", "content": [{"type": "input_text"}]}]), "", "is required"),
    (lambda c, talk: c.create(metadata={"a": 3}), "metadata.a", "must be a string"),
    (lambda c, talk: c.create(metadata={str(n): "" for n in range(17)}), "metadata", "16 pairs"),
    (lambda c, talk: c.create(metadata={"a": "x" * 513}), "metadata.a", "512"),
    (lambda c, talk: c.create(extra_body={"poem": 1}), "poem", "Unknown parameter"),
    (lambda c, talk: c.update(talk, metadata={"x" * 65: ""}), "metadata", "64"),
    (lambda c, talk: c.items.create(talk, items=[]), "items", "an item at least"),
    (lambda c, talk: c.items.create(talk, items=[{"role": "poet", "content": ""}]), "items[0].role", "must be one"),
    (lambda c, talk: c.items.list(talk, limit=101), "limit", "from 1 to 100"),
    (lambda c, talk: c.items.list(talk, after="msg_none"), "after", "msg_none"),
    (lambda c, talk: c.items.list(talk, include=["poems"]), "include", "poems"),
]


@pytest.mark.parametrize(("call", "param", "said"), REFUSED)
def test_refusals(client: openai.OpenAI, call: Callable[[Any, str], object], param: str, said: str) -> None:
    talk = client.conversations.create()
    with pytest.raises(openai.BadRequestError) as caught:
        call(client.conversations, talk.id)
    assert said in caught.value.message
    assert caught.value.type == "invalid_request_error"
    assert not param or caught.value.param == param


def test_two_keys(belljar: Belljar) -> None:
    url = belljar.listen(api_key=("one", "two"))
    with connect(url, "one") as one, connect(url, "two") as two:
        talk = one.conversations.create(items=[{"role": "user", "content": "secret"}])
        [item] = one.conversations.items.list(talk.id)
        thefts: list[Callable[[], object]] = [
            lambda: two.conversations.retrieve(talk.id),
            lambda: two.conversations.update(talk.id, metadata={}),
            lambda: two.conversations.delete(talk.id),
            lambda: two.conversations.items.list(talk.id),
            lambda: two.conversations.items.create(talk.id, items=[{"role": "user", "content": "x"}]),
            lambda: two.conversations.items.retrieve(str(item.id), conversation_id=talk.id),
            lambda: two.conversations.items.delete(str(item.id), conversation_id=talk.id),
            lambda: two.responses.create(model="test/echo", input="x", conversation=talk.id),
        ]
        for theft in thefts:
            with pytest.raises(openai.NotFoundError, match="not found"):
                theft()
        assert [found.id for found in one.conversations.items.list(talk.id)] == [item.id]
