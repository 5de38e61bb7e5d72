"""What the server remembers of responses, through OpenAI's SDK: kept answers, conversations, work in the background."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from sdks.responses import (
    INTERPRETER,
    OUTPUTS,
    WEATHER,
    Follower,
    codes,
    connect,
    connect_async,
    container_of,
    follow,
    logs,
    python,
    thoughts,
)
from sdks.ways import VERBATIM
from servers import Belljar

ROOT: dict[str, Any] = {
    "model": "openai/gpt-oss-20b",
    "input": "What is the square root of 101? Use code.",
    "tools": [INTERPRETER],
    "include": [OUTPUTS],
}
SLOW: dict[str, Any] = {"model": "test/slow", "input": "Count.", "tools": [INTERPRETER], "background": True}
BACKGROUND = 50


@pytest.fixture
def client(belljar: Belljar) -> Iterator[openai.OpenAI]:
    with connect(belljar.url) as made:
        yield made


def gone(*doings: Callable[[], Any]) -> None:
    for do in doings:
        with pytest.raises(openai.APIStatusError) as caught:
            do()
        assert caught.value.status_code in (400, 404)


def heard(answer: Any) -> list[str]:
    """The roles and texts of the messages that test/echo was asked with."""
    told = json.loads(answer.output_text)["messages"]
    return [f"{message['role']}: {message['content'] or ''}" for message in told]


# --- kept -------------------------------------------------------------------------------------------------------------


def test_what_is_kept_can_be_had_again_and_deleted(client: openai.OpenAI) -> None:
    first = client.responses.create(**ROOT)
    again = client.responses.retrieve(first.id, include=[OUTPUTS])
    assert again.to_dict() == first.to_dict()
    bare = client.responses.retrieve(first.id)
    assert codes(bare) == codes(first)
    client.responses.delete(first.id)
    gone(
        lambda: client.responses.retrieve(first.id),
        lambda: client.responses.delete(first.id),
        lambda: client.responses.input_items.list(first.id),
        lambda: client.responses.create(model="test/echo", input="x", previous_response_id=first.id),
    )


def test_a_kept_answer_as_a_stream(client: openai.OpenAI) -> None:
    """The vendor streams what was asked for as a stream in the background; a client may read it again."""
    live = list(client.responses.create(**ROOT, stream=True, background=True))
    again = list(client.responses.retrieve(live[0].response.id, stream=True, include=[OUTPUTS]))
    assert [event.type for event in again] == [event.type for event in live]
    assert follow(again).output == live[-1].response.output
    rest = list(client.responses.retrieve(live[0].response.id, stream=True, starting_after=4, include=[OUTPUTS]))
    assert [event.sequence_number for event in rest] == list(range(5, len(live)))


def test_several_includes(client: openai.OpenAI) -> None:
    first = client.responses.create(**ROOT | {"include": []})
    again = client.responses.retrieve(first.id, include=["reasoning.encrypted_content", OUTPUTS])
    assert "10.04987562112089" in logs(again)
    assert [item.encrypted_content is not None for item in again.output if item.type == "reasoning"] == [True]


def test_counting_tokens(client: openai.OpenAI) -> None:
    counted = client.responses.input_tokens.count(model="test/thinks", input="Hello.")
    assert counted.object == "response.input_tokens"
    usage = client.responses.create(model="test/thinks", input="Hello.").usage
    assert usage is not None
    assert counted.input_tokens == usage.input_tokens
    model, words = "belljar/verbatim", "one two three"
    kept = client.responses.create(model=model, input=words)
    first, more = (
        client.responses.input_tokens.count(model=model, input=words, **before).input_tokens
        for before in ({}, {"previous_response_id": kept.id})
    )
    assert more == first * 2 + len(kept.output_text.split())
    with pytest.raises(openai.BadRequestError, match="not found"):
        client.responses.input_tokens.count(model=model, input=words, previous_response_id="resp_0")


def test_what_nobody_waits_for_is_counted_once(client: openai.OpenAI, belljar: Belljar) -> None:
    def turns() -> float:
        lines = client.get("../metrics", cast_to=str).splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("belljar_turns_total{"))

    before = turns()
    client.responses.create(model=VERBATIM, input="one", background=True)
    assert [event.type for event in client.responses.create(model=VERBATIM, input="two", background=True, stream=True)]
    belljar.until(lambda: turns() == before + 2)


def test_what_cannot_be_gone_on_from(client: openai.OpenAI) -> None:
    waiting = client.responses.create(model="test/weather", input="x", tools=[WEATHER])
    unfinished = client.responses.create(**SLOW)
    result: Any = {"type": "function_call_output", "call_id": "call_none", "output": "x"}
    for previous, asked in ((waiting, "Never mind."), (waiting, [result]), (unfinished, "x")):
        with pytest.raises(openai.BadRequestError):
            client.responses.create(model="test/echo", input=asked, previous_response_id=previous.id)
    client.responses.cancel(unfinished.id)


def test_what_is_not_to_be_kept(client: openai.OpenAI) -> None:
    first = client.responses.create(**ROOT, store=False)
    assert first.store is False
    gone(
        lambda: client.responses.retrieve(first.id),
        lambda: client.responses.create(model="test/echo", input="x", previous_response_id=first.id),
    )


def test_going_on(client: openai.OpenAI) -> None:
    first = client.responses.create(**ROOT, instructions="Be brief.")
    second = client.responses.create(model="test/echo", input="And now?", previous_response_id=first.id)
    assert second.previous_response_id == first.id
    roles = [line.partition(":")[0] for line in heard(second)]
    assert roles == ["user", "assistant", "user", "assistant", "user"] or roles[1:3] == ["assistant", "tool"]
    told = "\n".join(heard(second))
    assert "10.04987562112089" in told
    assert "Be brief." not in told  # instructions are those of one request
    third = client.responses.create(model="test/echo", input="And then?", previous_response_id=second.id)
    assert [line for line in heard(third) if line.startswith("user: And")] == ["user: And now?", "user: And then?"]


def test_going_on_in_the_same_interpreter(client: openai.OpenAI) -> None:
    first = client.responses.create(**ROOT | {"model": VERBATIM, "input": python("kept = 41")})
    asked = {"model": VERBATIM, "tools": [INTERPRETER], "include": [OUTPUTS]}
    second = client.responses.create(**asked, input=python("print(kept + 1)"), previous_response_id=first.id)
    assert logs(second) == "42\n"
    assert container_of(second) == container_of(first)
    other = client.responses.create(**asked, input=python("print('kept' in globals())"))
    assert logs(other) == "False\n"


def test_input_items(client: openai.OpenAI) -> None:
    asked = [{"role": "user", "content": f"Number {number}."} for number in range(5)]
    answer = client.responses.create(model="test/thinks", input=asked)
    texts = [item.content[0].text for item in client.responses.input_items.list(answer.id, limit=2)]
    assert texts == [f"Number {number}." for number in reversed(range(5))]
    page = client.responses.input_items.list(answer.id, order="asc", limit=2)
    assert [item.content[0].text for item in page.data] == ["Number 0.", "Number 1."]
    assert all(item.id.startswith("msg_") for item in page.data)


def test_an_item_by_its_name(client: openai.OpenAI) -> None:
    """As the AI SDK goes on: ids in the place of what was said."""
    first = client.responses.create(**ROOT)
    references: Any = [{"type": "item_reference", "id": item.id} for item in first.output]
    asked = [{"role": "user", "content": ROOT["input"]}, *references, {"role": "user", "content": "And now?"}]
    told = "\n".join(heard(client.responses.create(model="test/echo", input=asked)))
    assert "math.sqrt(101)" in told or "10.04987562112089" in told
    gone(lambda: client.responses.create(model="test/echo", input=[{"type": "item_reference", "id": "msg_none"}]))


def test_reasoning_goes_round(client: openai.OpenAI) -> None:
    first = client.responses.create(**ROOT, store=False)
    assert thoughts(first) == "Python can do that."
    history: Any = [{"role": "user", "content": ROOT["input"]}, *(item.to_dict() for item in first.output)]
    again = {"role": "user", "content": "And now?"}
    second = client.responses.create(model="test/echo", input=[*history, again], store=False)
    assert "10.04987562112089" in "\n".join(heard(second))


# --- conversations ----------------------------------------------------------------------------------------------------


def test_a_conversation(client: openai.OpenAI) -> None:
    talk = client.conversations.create(metadata={"topic": "roots"}, items=[{"role": "user", "content": "Hello."}])
    assert (talk.id[:5], talk.metadata) == ("conv_", {"topic": "roots"})
    first = client.responses.create(**ROOT, conversation=talk.id)
    assert first.conversation is not None
    assert first.conversation.id == talk.id
    second = client.responses.create(model="test/echo", input="And now?", conversation={"id": talk.id})
    lines = heard(second)
    assert [line for line in lines if line.startswith("user:")][:2] == ["user: Hello.", f"user: {ROOT['input']}"]
    kinds = [item.type for item in client.conversations.items.list(talk.id, order="asc", limit=3)]
    assert kinds == ["message", "message", "reasoning", "code_interpreter_call", "message", "message", "message"]
    client.conversations.delete(talk.id)
    gone(
        lambda: client.conversations.retrieve(talk.id),
        lambda: client.responses.create(model="test/echo", input="x", conversation=talk.id),
    )
    assert client.responses.retrieve(first.id).status == "completed"  # what was answered in it is kept


def test_a_conversations_items(client: openai.OpenAI) -> None:
    talk = client.conversations.create()
    added = client.conversations.items.create(
        talk.id,
        items=[
            {"role": "user", "content": "One."},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Two."}]},
        ],
    )
    first, second = added.data
    assert client.conversations.items.retrieve(first.id, conversation_id=talk.id).to_dict() == first.to_dict()
    client.conversations.items.delete(first.id, conversation_id=talk.id)
    assert [item.id for item in client.conversations.items.list(talk.id)] == [second.id]
    assert client.conversations.update(talk.id, metadata={"a": "b"}).metadata == {"a": "b"}
    assert client.conversations.retrieve(talk.id).metadata == {"a": "b"}
    gone(lambda: client.conversations.items.retrieve(first.id, conversation_id=talk.id))


def test_a_conversation_goes_on_in_its_container(client: openai.OpenAI) -> None:
    talk = client.conversations.create()
    asked = {"model": VERBATIM, "tools": [INTERPRETER], "include": [OUTPUTS], "conversation": talk.id}
    first = client.responses.create(**asked, input=python("kept = 41"))
    second = client.responses.create(**asked, input=python("print(kept + 1)"))
    assert logs(second) == "42\n"
    assert container_of(second) == container_of(first)


def test_a_conversation_or_an_answer_to_go_on_from(client: openai.OpenAI) -> None:
    talk = client.conversations.create()
    first = client.responses.create(model="test/thinks", input="x")
    with pytest.raises(openai.BadRequestError):
        client.responses.create(model="test/thinks", input="x", conversation=talk.id, previous_response_id=first.id)


# --- the background ---------------------------------------------------------------------------------------------------


def until_ended(client: openai.OpenAI, identity: str) -> Any:
    end = time.monotonic() + 20
    while (answer := client.responses.retrieve(identity, include=[OUTPUTS])).status in ("queued", "in_progress"):
        assert time.monotonic() < end, answer.status
        time.sleep(0.02)
    return answer


def test_in_the_background(client: openai.OpenAI) -> None:
    first = client.responses.create(**ROOT, background=True)
    assert first.status in ("queued", "in_progress")
    assert first.background is True
    assert "10.04987562112089" in until_ended(client, first.id).output_text
    failed = until_ended(client, client.responses.create(model="test/status-503", input="x", background=True).id)
    assert (failed.status, failed.error.code) == ("failed", "server_error")


def test_looking_on_and_coming_back(client: openai.OpenAI, belljar: Belljar) -> None:
    seen = []
    stream = client.responses.create(**SLOW, stream=True)
    for event in stream:
        seen.append(event)
        if event.type == "response.code_interpreter_call.interpreting":
            break
    stream.close()
    seen += client.responses.retrieve(seen[0].response.id, stream=True, starting_after=seen[-1].sequence_number)
    assert follow(seen).status == "completed"
    belljar.until(lambda: belljar.upstream.playing == 0)


def test_the_helper_comes_back(client: openai.OpenAI) -> None:
    """`responses.stream(response_id=…)` reads all of it again, and shows what came after."""
    first = client.responses.create(**ROOT, background=True)
    with client.responses.stream(response_id=first.id, starting_after=3) as stream:
        numbers = [event.sequence_number for event in stream]
        final = stream.get_final_response()
    assert numbers[0] == 4
    assert "10.04987562112089" in final.output_text


def test_cancelling(client: openai.OpenAI, belljar: Belljar) -> None:
    first = client.responses.create(**SLOW | {"model": "test/spin"})
    belljar.until(lambda: belljar.upstream.playing == 0 and belljar.in_use > 0)
    assert client.responses.cancel(first.id).status == "cancelled"
    assert client.responses.retrieve(first.id).status == "cancelled"
    assert client.responses.cancel(first.id).status == "cancelled"  # again: nothing changes
    kept = client.responses.create(model="test/thinks", input="x")
    with pytest.raises(openai.BadRequestError):
        client.responses.cancel(kept.id)  # not of the background


async def watch(client: openai.AsyncOpenAI, number: int) -> str:
    """One of the fifty: polled, cancelled, or looked on at in three pieces; how it ended."""
    kind = ("poll", "cancel", "resume")[number % 3]
    code = python(f"import time\ntime.sleep({60 if kind == 'cancel' else 0.02})\nprint({number})")
    asked: dict[str, Any] = {"model": VERBATIM, "input": code, "tools": [INTERPRETER], "background": True}
    if kind == "resume":
        return await look_on(client, asked, number)
    first = await client.responses.create(**asked)
    if kind == "cancel":
        return str((await client.responses.cancel(first.id)).status)
    while (answer := await client.responses.retrieve(first.id, include=[OUTPUTS])).status in ("queued", "in_progress"):
        await asyncio.sleep(0.05)
    assert logs(answer) == f"{number}\n"
    return str(answer.status)


async def look_on(client: openai.AsyncOpenAI, asked: dict[str, Any], number: int) -> str:
    follower = Follower()
    stream: Any = await client.responses.create(**asked, stream=True, include=[OUTPUTS])
    while follower.end is None:
        left = 4
        async for event in stream:
            follower.take(event.to_dict())
            left -= 1
            if not left:
                break
        await stream.close()
        if follower.end is None:
            stream = await client.responses.retrieve(
                str(follower.identity), stream=True, starting_after=follower.next - 1, include=[OUTPUTS]
            )
    end = follower.close()
    assert f'"{number}\\n"' in json.dumps(end["output"])
    return str(end["status"])


async def test_fifty_in_the_background(belljar: Belljar) -> None:
    async with connect_async(belljar.url) as client:
        ends = await asyncio.gather(*(watch(client, number) for number in range(BACKGROUND)))
    assert ends == [("completed", "cancelled", "completed")[number % 3] for number in range(BACKGROUND)]
