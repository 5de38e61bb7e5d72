"""What the loop does to a conversation: attaches files, offers tools, says what a model said, tells what a call gave.

Pure: values in, values out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeGuard

from msgspec.structs import replace

from belljar.errors import BadRequest
from belljar.execution import WORK_FOLDER, Execution
from belljar.model import Call, CallResult, File, Image, Message, Part, Reasoning, Role, Text
from belljar.partial import read_code

CALL_PARTS = (Call, CallResult)
SEEN_IMAGES = ("image/png", "image/jpeg")  # what models take; and so many of one call, the last ones
MOST_IMAGES = 4  # and so many of all calls together, as engines bound the pictures of a conversation
LARGEST_IMAGE = 4 << 20  # bytes; a larger one is for the user only


def attach(messages: Sequence[Message], *, to_sandbox: bool) -> tuple[tuple[Message, ...], tuple[File, ...]]:
    """The messages with words in the place of files, and the files, each under a name of its own.

    `to_sandbox` says whether code can read them: then the words name the path. Otherwise the words are the file's own
    text. Raises BadRequest for a file that is no text where no code can read it.
    """
    if not any(isinstance(part, File) for message in messages for part in message.parts):
        return tuple(messages), ()
    files: dict[str, File] = {}
    attached = tuple(
        Message(role=m.role, name=m.name, parts=tuple(_attached(part, files, to_sandbox) for part in m.parts))
        if any(isinstance(part, File) for part in m.parts)
        else m
        for m in messages
    )
    return attached, tuple(files.values())


def _attached(part: Part, files: dict[str, File], to_sandbox: bool) -> Part:
    if not isinstance(part, File):
        return part
    if not to_sandbox:
        return Text(text=f"\n\n{part.name}:\n{_read_text(part)}\n\n")
    name = _free_name(part.name, files)
    files[name] = File(name=name, media_type=part.media_type, data=part.data)
    return Text(text=f"\n\n[Attached file: {WORK_FOLDER}/{name} ({part.media_type}, {len(part.data):,} bytes)]\n\n")


def _free_name(name: str, files: dict[str, File]) -> str:
    stem, dot, ending = name.rpartition(".") if "." in name else (name, "", "")
    number, free = 1, name
    while free in files:
        number += 1
        free = f"{stem}-{number}{dot}{ending}"
    return free


def _read_text(part: File) -> str:
    try:
        return part.data.decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest(
            f"the attached file {part.name} is no text: ask for code execution as well, so that code can read it"
        ) from None


def offer(messages: Sequence[Message], instructions: Sequence[str]) -> tuple[Message, ...]:
    """The conversation with what the tools have to say in its system message."""
    text = "\n\n".join(filter(None, instructions))
    if not text:
        return tuple(messages)
    if messages and messages[0].role is Role.SYSTEM:
        first = messages[0]
        return (
            Message(role=first.role, name=first.name, parts=(*first.parts, Text(text=f"\n\n{text}"))),
            *messages[1:],
        )
    return (Message(role=Role.SYSTEM, parts=(Text(text=text),)), *messages)


def say(reasoning: str, text: str, calls: Iterable[Call], *, key: str = "") -> Message:
    """What a model said in a turn. `key` is the name under which its upstream wants the reasoning back."""
    parts: list[Part] = []
    if reasoning:
        parts.append(Reasoning(text=reasoning, extra={"key": key} if key else {}))
    if text:
        parts.append(Text(text=text))
    return Message(role=Role.ASSISTANT, parts=(*parts, *calls))


def tell(call: str, text: str, images: Sequence[Image] = ()) -> Message:
    """What a built-in call gave."""
    return Message(role=Role.TOOL, parts=(CallResult(call=call, text=text, images=tuple(images), builtin=True),))


def pictures_seen(execution: Execution) -> tuple[Image, ...]:
    """The pictures of an execution, as a model sees them."""
    pictures = [
        Image(media_type=kind, data=result.data[kind])
        for result in execution.results
        for kind in SEEN_IMAGES
        if isinstance(result.data.get(kind), bytes) and len(result.data[kind]) <= LARGEST_IMAGE
    ]
    return tuple(pictures[-MOST_IMAGES:])


def flatten(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation with built-in calls of earlier answers as words, for models that are offered no such tool.

    Results in a row become one message, as chat templates want users and assistants to take turns.
    """
    if not any(_is_builtin(part) for message in messages for part in message.parts):
        return tuple(messages)
    flat: list[Message] = []
    joins = False
    for message in messages:
        words = _flat(message)
        is_result = words is not message and message.role is Role.TOOL
        if is_result and joins:
            flat[-1] = replace(flat[-1], parts=(*flat[-1].parts, *words.parts))
        else:
            flat.append(words)
        joins = is_result
    return tuple(flat)


def _flat(message: Message) -> Message:
    if not any(_is_builtin(part) for part in message.parts):
        return message
    role = Role.USER if message.role is Role.TOOL else message.role
    return Message(role=role, name=message.name, parts=tuple(_flat_part(part) for part in message.parts))


def show_last(messages: Sequence[Message], most: int) -> list[Message]:
    """The conversation with only the last `most` pictures of built-in calls; what is said of the others stays."""
    shown: list[Message] = []
    for message in reversed(messages):
        pictures = sum(len(part.images) for part in message.parts if _is_result(part))
        if pictures > most:
            message = replace(message, parts=_with_last(message.parts, most))
        most -= min(most, pictures)
        shown.append(message)
    return shown[::-1]


def without_thoughts(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The conversation without reasoning: that of one model means nothing to another, whose upstream may refuse it."""
    return tuple(
        replace(message, parts=tuple(part for part in message.parts if not isinstance(part, Reasoning)))
        for message in messages
    )


def _with_last(parts: Sequence[Part], most: int) -> tuple[Part, ...]:
    kept: list[Part] = []
    for part in reversed(parts):
        if _is_result(part):
            part = replace(part, images=part.images[max(0, len(part.images) - most) :])
            most -= len(part.images)
        kept.append(part)
    return tuple(reversed(kept))


def _is_builtin(part: Part) -> bool:
    return isinstance(part, CALL_PARTS) and part.builtin


def _is_result(part: Part) -> TypeGuard[CallResult]:
    return isinstance(part, CallResult) and part.builtin


def _flat_part(part: Part) -> Part:
    if isinstance(part, Call) and part.builtin:
        return Text(text=f"\n```python\n{read_code(part.arguments)}\n```\n")
    if isinstance(part, CallResult) and part.builtin:
        return Text(text=f"Output of the code:\n```\n{part.text}\n```")
    return part
