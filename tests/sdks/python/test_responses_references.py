"""References to items of kept responses, as clients send them that keep only ids (the AI SDK, as a rule)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from sdks.responses import INTERPRETER, OUTPUTS, connect, container_of, items, logs, python
from sdks.ways import VERBATIM
from servers import Belljar


@pytest.fixture
def client(belljar: Belljar) -> Iterator[openai.OpenAI]:
    with connect(belljar.url) as made:
        yield made


def ask(client: openai.OpenAI, given: Any) -> Any:
    return client.responses.create(model=VERBATIM, input=given, tools=[INTERPRETER], include=[OUTPUTS])


def test_code_goes_on_in_the_container_of_what_is_referred_to(client: openai.OpenAI) -> None:
    first = ask(client, python("kept = 41"))
    refs = [{"type": "item_reference", "id": item.id} for item in first.output]
    again = ask(
        client, [{"role": "user", "content": "?"}, *refs, {"role": "user", "content": python("print(kept + 1)")}]
    )
    assert (container_of(again), logs(again)) == (container_of(first), "42\n")


def test_a_reference_to_nothing(client: openai.OpenAI) -> None:
    first = ask(client, python("1"))
    (call,) = items(first, "code_interpreter_call")
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError, match=call.id):
        ask(client, [{"type": "item_reference", "id": call.id}, {"role": "user", "content": "?"}])
