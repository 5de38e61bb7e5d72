"""The messages of a chat completions request, into neutral ones.

Promises: every message becomes what a model needs of it, in its order; a wrong one is a BadRequest that names its
place. Roles, and the parts that each may hold, are tables. Not covered: tools that ran in earlier answers
(chat_history).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from belljar.dialects.attached import Attachments, is_data_url, read_base64, read_data_url, read_document
from belljar.dialects.chat_history import read_history
from belljar.dialects.fields import (
    content_of,
    filled,
    kind_of,
    listing,
    mapping,
    maybe,
    member,
    one_of,
    refuse,
    text,
    words,
)
from belljar.model import Call, CallResult, File, Image, Message, Part, Role, Text

MAX_MESSAGES = 10_000
MAX_FILES = 1_000


def read_messages(values: list[Any], documents: list[Any] | None, *, images_as_files: bool) -> tuple[Message, ...]:
    """All messages, with the request's documents as files of the last one of the user's. Raises BadRequest.

    `images_as_files` puts pictures into the sandbox as well, so that code can work on them.
    """
    if not values:
        refuse("messages", "must hold at least one message")
    if len(values) > MAX_MESSAGES:
        refuse("messages", f"must hold at most {MAX_MESSAGES:,} messages")
    reader = _Reader(images_as_files)
    for at, value in enumerate(values):
        param = f"messages.{at}"
        reader.add(mapping(value, param), param, at)
    if documents:
        reader.attach(documents)
    if len(reader.files) > MAX_FILES:
        refuse("messages", f"must hold at most {MAX_FILES:,} files and pictures")
    return tuple(reader.messages)


class _Reader:
    """The conversation so far: messages, names of files, calls that may be answered."""

    def __init__(self, images_as_files: bool) -> None:
        self.messages: list[Message] = []
        self.files = Attachments()
        self.images_as_files = images_as_files
        self.calls: set[str] = set()
        self.legacy: dict[str, str] = {}  # name of a function -> the id made up for its last call

    def add(self, value: Mapping[str, Any], param: str, at: int) -> None:
        """Read one message."""
        role = value.get("role")
        handler = ROLES.get(role) if type(role) is str else None
        if handler is None:
            if role is None:
                refuse(f"{param}.role", "is required")
            shown = repr(role[:40]) if type(role) is str else kind_of(role)
            refuse(f"{param}.role", f"must be one of {words(ROLES)}, not {shown}")
        handler(self, value, param, at)

    def attach(self, documents: list[Any]) -> None:
        """Put the request's own documents before the last words of the user."""
        files = tuple(self._document(value, f"documents.{at}") for at, value in enumerate(documents))
        last = next((n for n in reversed(range(len(self.messages))) if self.messages[n].role is Role.USER), None)
        if last is None:
            self.messages.append(Message(role=Role.USER, parts=files))
        else:
            message = self.messages[last]
            self.messages[last] = Message(role=Role.USER, name=message.name, parts=(*files, *message.parts))

    def _document(self, value: Any, param: str) -> File:
        source = member(mapping(value, param), "source", mapping, param)
        kind = member(source, "type", one_of(*SOURCES), f"{param}.source")
        name = maybe(value, "id", text, param) or ""
        if kind == "text":
            data = member(source, "text", text, f"{param}.source").encode()
            return self.files.add("document", data, "", name)
        kind, data = read_document(member(source, "data", mapping, f"{param}.source"), f"{param}.source.data")
        return self.files.add("document", data, kind, name)

    # --- roles --------------------------------------------------------------------------------------------------------

    def on_system(self, value: Mapping[str, Any], param: str, at: int) -> None:
        """Words only."""
        self._say(Role.SYSTEM, value, param, self._parts(value, param, TEXT_PARTS))

    def on_user(self, value: Mapping[str, Any], param: str, at: int) -> None:
        """Words, pictures and files."""
        self._say(Role.USER, value, param, self._parts(value, param, USER_PARTS))

    def on_assistant(self, value: Mapping[str, Any], param: str, at: int) -> None:
        """An earlier answer: what ran in it first, then its words and the client's calls."""
        parts = self._parts(value, param, ASSISTANT_PARTS) if value.get("content") is not None else ()
        before, first = read_history(value, param, at)
        self.messages.extend(before)
        self._say(Role.ASSISTANT, value, param, (*first, *parts, *self._calls(value, param, at)))

    def on_tool(self, value: Mapping[str, Any], param: str, at: int) -> None:
        """What a function of the client's gave."""
        call = member(value, "tool_call_id", text, param)
        if call not in self.calls:
            refuse(f"{param}.tool_call_id", f"{call[:80]!r} is the id of no earlier tool call")
        self._tell(call, value, param)

    def on_function(self, value: Mapping[str, Any], param: str, at: int) -> None:
        """The same, in the form before there were ids."""
        name = member(value, "name", text, param)
        if name not in self.legacy:
            refuse(f"{param}.name", f"{name[:80]!r} is the name of no earlier function call")
        self._tell(self.legacy[name], value, param)

    def _say(self, role: Role, value: Mapping[str, Any], param: str, parts: tuple[Part, ...]) -> None:
        self.messages.append(Message(role=role, parts=parts, name=maybe(value, "name", text, param)))

    def _tell(self, call: str, value: Mapping[str, Any], param: str) -> None:
        parts = self._parts(value, param, TOOL_PARTS)
        words = "".join(part.text for part in parts if isinstance(part, Text))
        images = tuple(part for part in parts if isinstance(part, Image))
        self.messages.append(Message(role=Role.TOOL, parts=(CallResult(call=call, text=words, images=images),)))

    def _calls(self, value: Mapping[str, Any], param: str, at: int) -> list[Call]:
        """The calls of the client's functions that an answer made."""
        calls = [
            self._call(mapping(item, f"{param}.tool_calls.{n}"), f"{param}.tool_calls.{n}")
            for n, item in enumerate(maybe(value, "tool_calls", listing, param) or ())
        ]
        legacy = maybe(value, "function_call", mapping, param)
        if legacy is not None:
            call = _read_call(legacy, f"{param}.function_call", f"f{at:08}")
            self.legacy[call.name] = call.id
            calls.append(call)
        self.calls.update(call.id for call in calls)
        return calls

    def _call(self, value: Mapping[str, Any], param: str) -> Call:
        identity = member(value, "id", filled, param)
        maybe(value, "type", one_of("function"), param)
        return _read_call(member(value, "function", mapping, param), f"{param}.function", identity)

    # --- content ------------------------------------------------------------------------------------------------------

    def _parts(self, value: Mapping[str, Any], param: str, known: Mapping[str, PartReader]) -> tuple[Part, ...]:
        content = content_of(value, param)
        if type(content) is str:
            return (Text(text=content),)
        param += ".content"
        parts: list[Part] = []
        for at, item in enumerate(content):
            place = f"{param}.{at}"
            kind = member(mapping(item, place), "type", text, place)
            if kind not in known:
                refuse(f"{place}.type", NOT_TAKEN.get(kind) or f"must be one of {words(known)} here, not {kind[:40]!r}")
            parts.extend(known[kind](self, item, place))
        return tuple(parts)

    def on_text(self, item: Mapping[str, Any], param: str) -> list[Part]:
        """Words."""
        return [Text(text=member(item, "text", text, param))]

    def on_refusal(self, item: Mapping[str, Any], param: str) -> list[Part]:
        """Words of an answer that was none."""
        return [Text(text=member(item, "refusal", text, param))]

    def on_image(self, item: Mapping[str, Any], param: str) -> list[Part]:
        """A picture: a web address, or a data URL, which becomes a file as well."""
        given, place = item.get("image_url"), f"{param}.image_url"
        options = {"url": given} if type(given) is str else member(item, "image_url", mapping, param)
        detail = maybe(options, "detail", one_of(*DETAILS), place)
        url = member(options, "url", text, place)
        place = place if options is not given else f"{place}.url"
        extra = {"detail": detail} if detail else {}
        return self.files.picture(url, place, as_file=self.images_as_files, extra=extra)

    def on_document(self, item: Mapping[str, Any], param: str) -> list[Part]:
        """A document as Groq has it: text, base64 or an object under `data`."""
        document = member(item, "document", mapping, param)
        if document.get("data") is None:
            refuse(f"{param}.document.data", "is required")
        kind, data = read_document(document["data"], f"{param}.document.data")
        return [self.files.add("document", data, kind, maybe(document, "id", text, f"{param}.document") or "")]

    def on_file(self, item: Mapping[str, Any], param: str) -> list[Part]:
        """A file as OpenAI has it: a data URL or base64 under `file_data`."""
        file, place = member(item, "file", mapping, param), f"{param}.file"
        name = maybe(file, "filename", text, place) or ""
        if file.get("file_data") is None and file.get("file_id") is not None:
            refuse(f"{place}.file_id", "is not supported here: send the file itself as `file_data`")
        given, place = member(file, "file_data", text, place), f"{place}.file_data"
        kind, data = read_data_url(given, place) if is_data_url(given) else ("", read_base64(given, place))
        return [self.files.add("file", data, kind, name)]


def _read_call(value: Mapping[str, Any], param: str, identity: str) -> Call:
    name, arguments = member(value, "name", filled, param), maybe(value, "arguments", text, param)
    return Call(id=identity, name=name, arguments=arguments or "")


RoleReader = Callable[[_Reader, Mapping[str, Any], str, int], None]
PartReader = Callable[[_Reader, Mapping[str, Any], str], list[Part]]

ROLES: Mapping[str, RoleReader] = {
    "system": _Reader.on_system,
    "developer": _Reader.on_system,
    "user": _Reader.on_user,
    "assistant": _Reader.on_assistant,
    "tool": _Reader.on_tool,
    "function": _Reader.on_function,
}
SOURCES = ("text", "json")
DETAILS = ("auto", "low", "high", "original")

TEXT_PARTS: Mapping[str, PartReader] = {"text": _Reader.on_text}
ASSISTANT_PARTS: Mapping[str, PartReader] = {**TEXT_PARTS, "refusal": _Reader.on_refusal}
TOOL_PARTS: Mapping[str, PartReader] = {**TEXT_PARTS, "image_url": _Reader.on_image}
USER_PARTS: Mapping[str, PartReader] = {**TOOL_PARTS, "document": _Reader.on_document, "file": _Reader.on_file}
NOT_TAKEN = {
    "input_audio": "is `input_audio`, which is not supported here: send the words as text",
    "video_url": "is `video_url`, which is not supported here: send single frames as `image_url`",
}
