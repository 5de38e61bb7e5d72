"""Requests made wrong in some way: the steps by which a valid one becomes one of a thousand others.

`mutate` gives the same bytes for the same dice. What is valid, and what an answer must look like, is a dialect's.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 1.5, -0.0, 1e308, 10**30, -(10**30), 2**63, "", " ", "x", "auto", "none", "\0"),
    *(
        "\ud83d\ude00" * 3,
        "é" * 500,
        "x" * 5000,
        "../../etc/passwd",
        "data:;base64,",
        "data:image/png;base64,%%%",
        "{}",
    ),
    *([], {}, [None], [[]], [{}], {"": None}, {"type": "text"}, {"type": "function"}, {"type": None}, [1, "a", {}]),
    *(["code_interpreter"], {"role": "user"}, {"type": "code_interpreter", "container": {"type": "auto"}}, "required"),
]
Place = tuple[Any, Any]  # a container, and the key or index of something in it


def places(value: Any) -> Iterator[Place]:
    """Every place in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from places(inner)


def replace(dice: random.Random, body: Any) -> None:
    container, key = dice.choice(list(places(body)))
    container[key] = copy.deepcopy(dice.choice(ODD))


def remove(dice: random.Random, body: Any) -> None:
    container, key = dice.choice(list(places(body)))
    del container[key]


def rename(dice: random.Random, body: Any) -> None:
    container, key = dice.choice([place for place in places(body) if isinstance(place[0], dict)])
    container[dice.choice(["", "Model", f"{key}s", "é", "__proto__"])] = container.pop(key)


def move(dice: random.Random, body: Any) -> None:
    """Put what stands at one place to another one, too."""
    everywhere = list(places(body))
    (there, to), (here, origin) = dice.choice(everywhere), dice.choice(everywhere)
    there[to] = copy.deepcopy(here[origin])


def repeat(dice: random.Random, body: Any) -> None:
    lists = [value for container, key in places(body) if isinstance(value := container[key], list) and value]
    for value in lists[:1]:
        value.extend(copy.deepcopy(value) * dice.randint(1, 20))


def bury(dice: random.Random, body: Any) -> None:
    container, key = dice.choice(list(places(body)))
    for _ in range(dice.choice([5, 90, 150])):
        container[key] = [container[key]] if dice.random() < 0.5 else {"a": container[key]}


def flip(dice: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        changed[dice.randrange(len(changed))] = dice.randrange(256)
    return bytes(changed)


def cut_off(dice: random.Random, data: bytes) -> bytes:
    return data[: dice.randrange(len(data))]


def insert(dice: random.Random, data: bytes) -> bytes:
    piece = dice.choice(
        [b"\0", b"\xff\xfe", b"NaN", b"1e999", b"[" * 3000, b'"', b"\\ud800", b"}", b",", b"\xef\xbb\xbf"]
    )
    at = dice.randrange(len(data))
    return data[:at] + piece + data[at:]


OF_VALUES = [replace, replace, replace, remove, remove, rename, move, move, repeat, bury]
OF_BYTES = [flip, cut_off, insert]


def mutate(dice: random.Random, valid: Sequence[Any]) -> bytes:
    """One of the valid bodies, changed in a few places, as bytes that may be changed as well."""
    body = copy.deepcopy(dice.choice(valid))
    for _ in range(dice.choice([1, 1, 1, 2, 3])):
        if list(places(body)):
            dice.choice(OF_VALUES)(dice, body)
    data = json.dumps(body).encode("utf-8", "surrogatepass")
    if dice.random() < 0.25 and data:
        data = dice.choice(OF_BYTES)(dice, data)
    return data
