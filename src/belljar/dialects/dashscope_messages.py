"""The input of a DashScope request, into neutral messages: `messages`, or the older `prompt` and `history`.

Promises: every message becomes what a model needs of it, in its order; a wrong one is a BadRequest that names its
place. Roles, and the parts that content may hold, are tables. Content is a string or a list, on both paths. A part
{"file": data URL} is not the vendor's: it puts a file into the sandbox.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from belljar.dialects.attached import Attachments, is_data_url, read_data_url
from belljar.dialects.fields import content_of, filled, listing, mapping, maybe, member, refuse, text, words
from belljar.model import Call, CallResult, Message, Part, Reasoning, Role, Text

MAX_MESSAGES = 10_000
MAX_FILES = 1_000


def read_input(value: Mapping[str, Any], *, images_as_files: bool) -> tuple[Message, ...]:
    """All messages. `images_as_files` puts pictures into the sandbox as well. Raises BadRequest."""
    messages = maybe(value, "messages", listing, "input")
    if messages is None:
        return _read_prompt(value)
    if not messages:
        refuse("input.messages", "must hold at least one message")
    if len(messages) > MAX_MESSAGES:
        refuse("input.messages", f"must hold at most {MAX_MESSAGES:,} messages")
    reader = _Reader(images_as_files)
    for at, message in enumerate(messages):
        reader.add(mapping(message, f"input.messages.{at}"), f"input.messages.{at}", at)
    if len(reader.files) > MAX_FILES:
        refuse("input.messages", f"must hold at most {MAX_FILES:,} files and pictures")
    return tuple(reader.messages)


def _read_prompt(value: Mapping[str, Any]) -> tuple[Message, ...]:
    """The form before there were messages."""
    prompt = maybe(value, "prompt", filled, "input")
    if prompt is None:
        refuse("input.messages", "is required, or `input.prompt`")
    messages = []
    for at, turn in enumerate(maybe(value, "history", listing, "input") or ()):
        place = f"input.history.{at}"
        for name, role in (("user", Role.USER), ("bot", Role.ASSISTANT)):
            said = maybe(mapping(turn, place), name, text, place)
            if said:
                messages.append(Message(role=role, parts=(Text(text=said),)))
    return (*messages, Message(role=Role.USER, parts=(Text(text=prompt),)))


class _Reader:
    """The conversation so far: messages, names of files, calls that wait for what they gave."""

    def __init__(self, images_as_files: bool) -> None:
        self.messages: list[Message] = []
        self.files = Attachments()
        self.images_as_files = images_as_files
        self.calls: dict[str, str] = {}  # id -> name, of calls that have no result yet
        self.known: set[str] = set()

    def add(self, value: Mapping[str, Any], param: str, at: int) -> None:
        """Read one message."""
        role = member(value, "role", text, param)
        if role not in ROLES:
            refuse(f"{param}.role", f"must be one of {words(ROLES)}, not {role[:40]!r}")
        ROLES[role](self, value, param, at)

    # --- roles --------------------------------------------------------------------------------------------------------

    def on_system(self, value: Mapping[str, Any], param: str, at: int) -> None:
        """Words only."""
        self._say(Role.SYSTEM, self._parts(value, param, TEXT_PARTS))

    def on_user(self, value: Mapping[str, Any], param: str, at: int) -> None:
        """Words, pictures and files."""
        self._say(Role.USER, self._parts(value, param, USER_PARTS))

    def on_assistant(self, value: Mapping[str, Any], param: str, at: int) -> None:
        """An earlier answer: its reasoning, its words, the client's calls."""
        reasoning = maybe(value, "reasoning_content", text, param)
        first = (Reasoning(text=reasoning),) if reasoning else ()
        parts = self._parts(value, param, TEXT_PARTS) if value.get("content") is not None else ()
        self._say(Role.ASSISTANT, (*first, *parts, *self._calls(value, param, at)))

    def on_tool(self, value: Mapping[str, Any], param: str, at: int) -> None:
        """What a function of the client's gave: of the call with this id; else of the first open one of its name."""
        parts = self._parts(value, param, TEXT_PARTS)
        call = self._answered(value, param)
        self.calls.pop(call, None)
        told = "".join(part.text for part in parts if isinstance(part, Text))
        self.messages.append(Message(role=Role.TOOL, parts=(CallResult(call=call, text=told),)))

    def _answered(self, value: Mapping[str, Any], param: str) -> str:
        identity = maybe(value, "tool_call_id", text, param)
        if identity:
            if identity not in self.known:
                refuse(f"{param}.tool_call_id", f"{identity[:80]!r} is the id of no earlier tool call")
            return str(identity)
        name = maybe(value, "name", text, param)
        found = next((call for call, called in self.calls.items() if name in (None, "", called)), None)
        if found is None:
            refuse(f"{param}.tool_call_id", "is required: no earlier tool call waits for this result")
        return found

    def _say(self, role: Role, parts: tuple[Part, ...]) -> None:
        self.messages.append(Message(role=role, parts=parts))

    def _calls(self, value: Mapping[str, Any], param: str, at: int) -> list[Call]:
        calls = []
        for number, item in enumerate(maybe(value, "tool_calls", listing, param) or ()):
            place = f"{param}.tool_calls.{number}"
            function = member(mapping(item, place), "function", mapping, place)
            call = Call(
                id=maybe(item, "id", text, place) or f"d{at:05}{number:03}",
                name=member(function, "name", filled, f"{place}.function"),
                arguments=maybe(function, "arguments", text, f"{place}.function") or "",
            )
            self.calls[call.id] = call.name
            self.known.add(call.id)
            calls.append(call)
        return calls

    # --- content ------------------------------------------------------------------------------------------------------

    def _parts(self, value: Mapping[str, Any], param: str, known: Mapping[str, PartReader]) -> tuple[Part, ...]:
        content = content_of(value, param)
        if type(content) is str:
            return (Text(text=content),)
        param += ".content"
        parts: list[Part] = []
        for at, item in enumerate(content):
            parts.extend(self._part(mapping(item, f"{param}.{at}"), f"{param}.{at}", known))
        return tuple(parts)

    def _part(self, item: Mapping[str, Any], param: str, known: Mapping[str, PartReader]) -> list[Part]:
        kind = next((name for name in known if item.get(name) is not None), None)
        if kind is None:
            refused = next((name for name in NOT_TAKEN if name in item), None)
            if refused is not None:
                refuse(f"{param}.{refused}", NOT_TAKEN[refused])
            refuse(param, f"must have one of {words(known)} here")
        return known[kind](self, item, param)

    def on_text(self, item: Mapping[str, Any], param: str) -> list[Part]:
        """Words."""
        return [Text(text=member(item, "text", text, param))]

    def on_image(self, item: Mapping[str, Any], param: str) -> list[Part]:
        """A picture: a web address, or a data URL, which becomes a file as well."""
        return self._image(member(item, "image", text, param), f"{param}.image")

    def on_image_url(self, item: Mapping[str, Any], param: str) -> list[Part]:
        """The same as OpenAI's clients say it."""
        given, place = item["image_url"], f"{param}.image_url"
        if type(given) is str:
            return self._image(given, place)
        return self._image(member(mapping(given, place), "url", text, place), f"{place}.url")

    def _image(self, url: str, param: str) -> list[Part]:
        return self.files.picture(url, param, as_file=self.images_as_files)

    def on_file(self, item: Mapping[str, Any], param: str) -> list[Part]:
        """A file for code to read."""
        url = member(item, "file", text, param)
        if not is_data_url(url):
            refuse(f"{param}.file", "must be a data URL of the form data:TYPE;base64,DATA")
        kind, data = read_data_url(url, f"{param}.file")
        return [self.files.add("file", data, kind, maybe(item, "filename", text, param) or "")]


RoleReader = Callable[[_Reader, Mapping[str, Any], str, int], None]
PartReader = Callable[[_Reader, Mapping[str, Any], str], list[Part]]

ROLES: Mapping[str, RoleReader] = {
    "system": _Reader.on_system,
    "user": _Reader.on_user,
    "assistant": _Reader.on_assistant,
    "tool": _Reader.on_tool,
}
TEXT_PARTS: Mapping[str, PartReader] = {"text": _Reader.on_text}
USER_PARTS: Mapping[str, PartReader] = {
    **TEXT_PARTS,
    "image": _Reader.on_image,
    "image_url": _Reader.on_image_url,
    "file": _Reader.on_file,
}
NOT_TAKEN = {
    "audio": "is not supported here: send the words as text",
    "video": "is not supported here: send single frames as `image`",
    **dict.fromkeys(("image", "image_url", "file"), "is taken in messages of the user's only, and must not be null"),
}
