"""Two keys at one server: whatever one of them makes, the other can neither see, list, use, change nor delete."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import openai
import pytest

from sdks.responses import INTERPRETER, OUTPUTS, connect_async, container_of, logs, python
from sdks.ways import VERBATIM
from servers import Belljar

REQUESTS = 200
Client = openai.AsyncOpenAI
Things = dict[str, str]


async def make(client: Client, secret: str) -> Things:
    """One of everything, with a secret in it."""
    upload = await client.files.create(file=(f"{secret}.txt", secret.encode()), purpose="user_data")
    box = await client.containers.create(name=secret)
    given = await client.containers.files.create(box.id, file=(f"{secret}.txt", secret.encode()))
    talk = await client.conversations.create(items=[{"role": "user", "content": secret}])
    [item] = [one async for one in client.conversations.items.list(talk.id)]
    tool = {"type": "code_interpreter", "container": box.id}
    code = python(f"kept = {secret!r}\nprint(kept)")
    answer: Any = await client.responses.create(model=VERBATIM, input=code, tools=[tool], include=[OUTPUTS])
    assert logs(answer) == f"{secret}\n"
    later = await client.responses.create(model=VERBATIM, input=python("1"), tools=[INTERPRETER], background=True)
    return {
        "upload": upload.id,
        "box": box.id,
        "given": given.id,
        "talk": talk.id,
        "item": item.id or "",
        "answer": answer.id,
        "said": answer.output[-1].id,
        "later": later.id,
    }


async def ask(client: Client, **request: Any) -> Any:
    return await client.responses.create(**{"model": "test/echo", "input": "x"} | request)


# Everything that somebody else might try with it: each must fail as if it were not there.
THEFTS: Mapping[str, Callable[[Client, Things], Awaitable[Any]]] = {
    "read an answer": lambda c, t: c.responses.retrieve(t["answer"]),
    "stream an answer": lambda c, t: c.responses.retrieve(t["answer"], stream=True),
    "its input": lambda c, t: _first(c.responses.input_items.list(t["answer"])),
    "cancel": lambda c, t: c.responses.cancel(t["later"]),
    "delete an answer": lambda c, t: c.responses.delete(t["answer"]),
    "go on from an answer": lambda c, t: ask(c, previous_response_id=t["answer"]),
    "refer to what was said": lambda c, t: ask(c, input=[{"type": "item_reference", "id": t["said"]}]),
    "run in a container": lambda c, t: ask(
        c, model=VERBATIM, input=python("1"), tools=[{"type": "code_interpreter", "container": t["box"]}]
    ),
    "run with a file": lambda c, t: ask(
        c,
        model=VERBATIM,
        input=python("1"),
        tools=[{"type": "code_interpreter", "container": {"type": "auto", "file_ids": [t["upload"]]}}],
    ),
    "ask with a file": lambda c, t: ask(
        c, input=[{"role": "user", "content": [{"type": "input_file", "file_id": t["upload"]}]}]
    ),
    "read a container": lambda c, t: c.containers.retrieve(t["box"]),
    "delete a container": lambda c, t: c.containers.delete(t["box"]),
    "list its files": lambda c, t: _first(c.containers.files.list(t["box"])),
    "add a file": lambda c, t: c.containers.files.create(t["box"], file=("x.txt", b"x")),
    "read its file": lambda c, t: c.containers.files.content.retrieve(t["given"], container_id=t["box"]),
    "see its file": lambda c, t: c.containers.files.retrieve(t["given"], container_id=t["box"]),
    "delete its file": lambda c, t: c.containers.files.delete(t["given"], container_id=t["box"]),
    "fill a container": lambda c, t: c.containers.create(name="x", file_ids=[t["upload"]]),
    "see a file": lambda c, t: c.files.retrieve(t["upload"]),
    "read a file": lambda c, t: c.files.content(t["upload"]),
    "delete a file": lambda c, t: c.files.delete(t["upload"]),
    "read a conversation": lambda c, t: c.conversations.retrieve(t["talk"]),
    "change a conversation": lambda c, t: c.conversations.update(t["talk"], metadata={"a": "b"}),
    "delete a conversation": lambda c, t: c.conversations.delete(t["talk"]),
    "list its items": lambda c, t: _first(c.conversations.items.list(t["talk"])),
    "read its item": lambda c, t: c.conversations.items.retrieve(t["item"], conversation_id=t["talk"]),
    "delete its item": lambda c, t: c.conversations.items.delete(t["item"], conversation_id=t["talk"]),
    "add to it": lambda c, t: c.conversations.items.create(t["talk"], items=[{"role": "user", "content": "x"}]),
    "go on in it": lambda c, t: ask(c, conversation=t["talk"]),
}


async def _first(listing: Any) -> Any:
    return [one async for one in listing]


async def steal(name: str, thief: Client, things: Things) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        await THEFTS[name](thief, things)
    assert caught.value.status_code in (400, 404), f"{name}: {caught.value.status_code} {caught.value.message}"


async def look(client: Client, own: Things, others: Things) -> None:
    """What one is shown of what there is."""
    files = {one.id async for one in client.files.list()}
    boxes = {one.id async for one in client.containers.list()}
    assert own["upload"] in files
    assert own["box"] in boxes
    assert not (files | boxes) & set(others.values())


async def use(client: Client, own: Things, secret: str) -> None:
    """It is all there, and all one's own: also what the container was left with."""
    answer: Any = await client.responses.retrieve(own["answer"], include=[OUTPUTS])
    assert logs(answer) == f"{secret}\n"
    assert container_of(answer) == own["box"]
    tool = {"type": "code_interpreter", "container": own["box"]}
    again: Any = await client.responses.create(
        model=VERBATIM, input=python(f"print(kept, open('{secret}.txt').read())"), tools=[tool], include=[OUTPUTS]
    )
    assert logs(again) == f"{secret} {secret}\n"
    assert (await client.files.content(own["upload"])).read() == secret.encode()
    [item] = [one async for one in client.conversations.items.list(own["talk"])]
    assert item.id == own["item"]


async def test_two_keys(belljar: Belljar) -> None:
    """Two hundred requests at once, mixed: two thirds are tries at what is the other's."""
    url = belljar.listen(api_key=("one", "two"))
    async with connect_async(url, "one") as one, connect_async(url, "two") as two:
        of_one, of_two = await asyncio.gather(make(one, "alpha"), make(two, "beta"))
        sides = [(one, of_one, "alpha", of_two), (two, of_two, "beta", of_one)]
        works: list[Awaitable[None]] = []
        names = list(THEFTS)
        for number in range(REQUESTS):
            client, own, secret, others = sides[number % 2]
            if number % 3:
                works.append(steal(names[number // 2 % len(names)], client, others))
            elif number % 5 == 0:
                works.append(use(client, own, secret))
            else:
                works.append(look(client, own, others))
        await asyncio.gather(*works)
        await asyncio.gather(*(steal(name, thief, things) for name in names for thief, _, _, things in sides))
        for client, own, secret, _ in sides:
            await use(client, own, secret)
