"""The input of a response, into neutral messages.

Promises: a text, or items of every kind that there is here, become messages in their order; what this API has written
is read again as it was, whatever nulls and extra fields a client adds; a wrong item is a BadRequest that names its
place. Items and parts of a content are tables. Not covered: the response that it goes on from, whose calls the server
knows.
"""

from __future__ import annotations

import hashlib
from base64 import b64decode
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from belljar.dialects.attached import Attachments, is_data_url, read_base64, read_data_url
from belljar.dialects.base import write_json
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
from belljar.dialects.responses_settings import CONTAINER_PREFIX, PYTHON
from belljar.dialects.responses_tools import UNAVAILABLE_HERE, file_id
from belljar.errors import BadRequest
from belljar.model import Call, CallResult, FileRef, Image, ItemRef, Message, Part, Reasoning, Role, Text
from belljar.partial import write_code

MAX_ITEMS = 10_000
MAX_FILES = 1_000
MOST_IMAGES = 4  # of what code displayed, and is told again
UNTOLD = "(What it put out is not part of this conversation.)"
NOT_RUN = "(This code was not run.)"
PARAGRAPH = Text(text="\n\n")
REFERENCE = "item_reference"
UNAVAILABLE_PARTS = {
    "input_audio": "is `input_audio`, which is not available on this server: send the words as text",
    "computer_screenshot": "is `computer_screenshot`, which is not available on this server: send it as `input_image`",
}
UNAVAILABLE_ITEMS = (
    "additional_tools",
    "apply_patch_call",
    "apply_patch_call_output",
    "compaction",
    "compaction_trigger",
    "computer_call",
    "computer_call_output",
    "configuration_update",
    "file_search_call",
    "image_generation_call",
    "local_shell_call",
    "local_shell_call_output",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
    "mcp_list_tools",
    "program",
    "program_output",
    "shell_call",
    "shell_call_output",
    "tool_search_call",
    "tool_search_output",
    "web_search_call",
)
NO_OUTPUT = "No tool output found for function call {call}."
NO_CALL = "No tool call found for function call output with call_id {call}."


class Input:
    """What was read: `messages`, and the containers that code of earlier answers ran in, the first one first."""

    def __init__(self, reader: _Reader) -> None:
        self.messages = tuple(Message(role=role, parts=tuple(parts)) for role, parts in reader.messages)
        self.containers = tuple(dict.fromkeys(reader.containers))


def read_input(
    value: Any, *, images_as_files: bool, goes_on: bool, complete: bool = True, param: str = "input"
) -> Input:
    """All messages. Raises BadRequest.

    `images_as_files` puts pictures into the sandbox as well; `goes_on` says that there is an earlier response, or a
    conversation, whose function calls may be answered; `complete`, that no call may be left without its result.
    """
    reader = _Reader(images_as_files)
    if isinstance(value, str):
        reader.say(Role.USER, Text(text=value))
    else:
        if not isinstance(value, list):
            refuse(param, f"must be a string or a list of items, not {kind_of(value)}", code="invalid_type")
        if len(value) > MAX_ITEMS:
            refuse(param, f"must hold at most {MAX_ITEMS:,} items")
        reader.answered = {str(item.get("call_id")) for item in value if isinstance(item, dict) and "output" in item}
        for at, item in enumerate(value):
            reader.add(mapping(item, f"{param}.{at}"), f"{param}.{at}")
    reader.check(goes_on, complete, param)
    return Input(reader)


class _Reader:
    """The conversation so far: messages, names of files, calls."""

    def __init__(self, images_as_files: bool) -> None:
        self.messages: list[tuple[Role, list[Part]]] = []
        self.containers: list[str] = []
        self.files = Attachments()
        self.images_as_files = images_as_files
        self.calls: dict[str, None] = {}  # that wait for a result
        self.results: dict[str, None] = {}  # of calls that are not in the input
        self.answered: set[str] = set()  # ids of calls that have a result somewhere in the input
        self.refers = False  # to items that may be calls

    def say(self, role: Role, *parts: Part) -> None:
        """More of what somebody says. Items of the model's in a row are one message of its."""
        if not parts:
            return
        last = self.messages[-1] if self.messages else None
        if role is Role.ASSISTANT and last is not None and last[0] is role and not isinstance(last[1][0], ItemRef):
            joins = isinstance(parts[0], Text) and any(isinstance(part, Text) for part in last[1])
            last[1].extend((PARAGRAPH, *parts) if joins else parts)
        else:
            self.messages.append((role, list(parts)))

    def add(self, value: Mapping[str, Any], param: str) -> None:
        """Read one item."""
        kind = maybe(value, "type", text, param)
        if kind is None:
            kind = "message" if "role" in value or "id" not in value else REFERENCE
        if kind in UNAVAILABLE_ITEMS:
            refuse(f"{param}.type", UNAVAILABLE_HERE.format(name=kind, instead=words(ITEMS)), code="unsupported_value")
        if kind not in ITEMS:
            refuse(f"{param}.type", f"must be one of {words(ITEMS)}, not {kind[:40]!r}", code="invalid_value")
        ITEMS[kind](self, value, param)

    def check(self, goes_on: bool, complete: bool, param: str) -> None:
        """Each call has its result, and each result its call."""
        for call in self.calls if complete else ():
            _refuse_call(NO_OUTPUT, call, param)
        if not (goes_on or self.refers):
            for call in self.results:
                _refuse_call(NO_CALL, call, param)
        if len(self.files) > MAX_FILES:
            refuse(param, f"must hold at most {MAX_FILES:,} files and pictures")

    # --- messages -----------------------------------------------------------------------------------------------------

    def on_message(self, value: Mapping[str, Any], param: str) -> None:
        """What somebody said."""
        name = member(value, "role", text, param)
        if name not in ROLES:
            refuse(f"{param}.role", f"must be one of {words(ROLES)}, not {name[:40]!r}", code="invalid_value")
        role, known = ROLES[name]
        self.say(role, *self._content(content_of(value, param), f"{param}.content", known))

    def _content(self, content: str | list[Any], param: str, known: Mapping[str, PartReader]) -> list[Part]:
        if isinstance(content, str):
            return [Text(text=content)]
        parts: list[Part] = []
        for at, item in enumerate(content):
            place = f"{param}.{at}"
            kind = member(mapping(item, place), "type", text, place)
            if kind in UNAVAILABLE_PARTS:
                refuse(f"{place}.type", UNAVAILABLE_PARTS[kind], code="unsupported_value")
            if kind not in known:
                refuse(f"{place}.type", f"must be one of {words(known)} here, not {kind[:40]!r}", code="invalid_value")
            parts.extend(known[kind](self, item, place))
        return parts

    def on_text(self, value: Mapping[str, Any], param: str) -> list[Part]:
        """Words."""
        return [Text(text=member(value, "text", text, param))]

    def on_refusal(self, value: Mapping[str, Any], param: str) -> list[Part]:
        """Words of an answer that was none."""
        return [Text(text=member(value, "refusal", text, param))]

    def on_image(self, value: Mapping[str, Any], param: str) -> list[Part]:
        """A picture: a web address, a data URL, or an uploaded file."""
        detail = maybe(value, "detail", one_of(*DETAILS), param)
        url, upload = maybe(value, "image_url", text, param), maybe(value, "file_id", filled, param)
        if (url is None) == (upload is None):
            refuse(param, "must have either `image_url` or `file_id`")
        if upload is not None:
            file_id(upload, f"{param}.file_id")
            return [FileRef(uri=upload)]
        extra = {"detail": detail} if detail else {}
        assert url is not None
        return self.files.picture(url, f"{param}.image_url", as_file=self.images_as_files, extra=extra)

    def on_file(self, value: Mapping[str, Any], param: str) -> list[Part]:
        """A file: a data URL or base64, or an uploaded one."""
        upload, given = maybe(value, "file_id", filled, param), maybe(value, "file_data", text, param)
        if given is None and upload is None:
            if value.get("file_url") is not None:
                refuse(
                    f"{param}.file_url",
                    "is not available on this server: send the file itself as `file_data`",
                    code="unsupported_value",
                )
            refuse(param, "must have either `file_data` or `file_id`")
        if given is None:
            file_id(upload, f"{param}.file_id")
            return [FileRef(uri=upload)]
        if upload is not None:
            refuse(param, "must have either `file_data` or `file_id`, not both")
        place = f"{param}.file_data"
        kind, data = read_data_url(given, place) if is_data_url(given) else ("", read_base64(given, place))
        return [self.files.add("file", data, kind, maybe(value, "filename", text, param) or "")]

    # --- other items --------------------------------------------------------------------------------------------------

    def on_reasoning(self, value: Mapping[str, Any], param: str) -> None:
        """What the model thought, where it was shown."""
        thought = [
            maybe(mapping(item, f"{param}.{name}.{at}"), "text", text, f"{param}.{name}.{at}") or ""
            for name in ("content", "summary")
            for at, item in enumerate(maybe(value, name, listing, param) or ())
        ]
        told = "\n\n".join(filter(None, thought)) or _decoded(maybe(value, "encrypted_content", text, param) or "")
        if told:
            self.say(Role.ASSISTANT, Reasoning(text=told))

    def on_call(self, value: Mapping[str, Any], param: str) -> None:
        """A call of the client's function."""
        name, arguments = member(value, "name", filled, param), maybe(value, "arguments", text, param)
        call = Call(id=member(value, "call_id", filled, param), name=name, arguments=arguments or "")
        self._call(call, value.get("status"), param)

    def on_custom_call(self, value: Mapping[str, Any], param: str) -> None:
        """A call of the client's tool that takes any text."""
        name, given = member(value, "name", filled, param), maybe(value, "input", text, param)
        arguments = write_json({"input": given or ""}).decode()
        call = Call(id=member(value, "call_id", filled, param), name=name, arguments=arguments)
        self._call(call, value.get("status"), param)

    def _call(self, call: Call, status: Any, param: str) -> None:
        """One that the model did not write to its end is left out: nobody can answer it."""
        if status == "incomplete" and call.id not in self.answered:
            return
        if call.id in self.calls:
            refuse(f"{param}.call_id", f"{call.id[:80]!r} is the id of another call")
        self.calls[call.id] = None
        self.say(Role.ASSISTANT, call)

    def on_output(self, value: Mapping[str, Any], param: str) -> None:
        """What the client's function or tool gave."""
        call = member(value, "call_id", filled, param)
        if call in self.calls:
            del self.calls[call]
        else:
            self.results[call] = None
        if value.get("output") is None:
            refuse(f"{param}.output", "is required: a string or a list of parts", code="missing_required_parameter")
        output, place = value["output"], f"{param}.output"
        if not isinstance(output, str | list):
            refuse(place, f"must be a string or a list of parts, not {kind_of(output)}", code="invalid_type")
        parts = self._content(output, place, OUTPUT_PARTS)
        told = "\n".join(part.text for part in parts if isinstance(part, Text))
        images = tuple(part for part in parts if isinstance(part, Image))
        self.say(Role.TOOL, CallResult(call=call, text=told, images=images))

    def on_output_image(self, value: Mapping[str, Any], param: str) -> list[Part]:
        """A picture that a function gave."""
        url = member(value, "image_url", text, param)
        return self.files.picture(url, f"{param}.image_url", as_file=False)

    def on_code(self, value: Mapping[str, Any], param: str) -> None:
        """Code that ran in an earlier answer, and what it gave, as far as that was shown."""
        code, identity = maybe(value, "code", text, param), maybe(value, "id", text, param)
        call = "c" + hashlib.sha256((identity or param).encode("utf-8", "replace")).hexdigest()[:8]
        container = maybe(value, "container_id", text, param) or ""
        if container.startswith(CONTAINER_PREFIX):
            self.containers.append(container.removeprefix(CONTAINER_PREFIX))
        outputs = maybe(value, "outputs", listing, param)
        logs: list[str] = []
        images: list[Image] = []
        for at, item in enumerate(outputs or ()):
            place = f"{param}.outputs.{at}"
            kind = member(mapping(item, place), "type", one_of("logs", "image"), place)
            if kind == "logs":
                logs.append(maybe(item, "logs", text, place) or "")
            else:
                images += self._shown(item, place)
        told = "\n".join(filter(None, logs)) if outputs is not None else UNTOLD
        if value.get("status") == "incomplete":
            told = NOT_RUN
        self.say(Role.ASSISTANT, Call(id=call, name=PYTHON, arguments=write_code(code or ""), builtin=True))
        self.say(Role.TOOL, CallResult(call=call, text=told, images=tuple(images[-MOST_IMAGES:]), builtin=True))

    def _shown(self, value: Mapping[str, Any], param: str) -> list[Image]:
        """A picture that code displayed; others than models take are left out."""
        url = member(value, "url", text, param)
        kind = url[:40].lower()
        if is_data_url(url) and not kind.startswith(("data:image/png", "data:image/jpeg")):
            return []
        return [part for part in self.files.picture(url, f"{param}.url", as_file=False) if isinstance(part, Image)]

    def on_reference(self, value: Mapping[str, Any], param: str) -> None:
        """An item that is kept here."""
        self.refers = True
        self.say(Role.ASSISTANT, ItemRef(id=member(value, "id", filled, param)))


def _refuse_call(said: str, call: str, param: str) -> NoReturn:
    raise BadRequest(said.format(call=call[:80]), param=param)


def _decoded(value: str) -> str:
    """Reasoning that this API has written as `encrypted_content`; "" for what another one has."""
    try:
        return b64decode(value, validate=True).decode()
    except ValueError:
        return ""


PartReader = Callable[[_Reader, Mapping[str, Any], str], list[Part]]
ItemReader = Callable[[_Reader, Mapping[str, Any], str], None]

DETAILS = ("auto", "low", "high", "original")
WORDS: Mapping[str, PartReader] = {"input_text": _Reader.on_text}
USER_PARTS: Mapping[str, PartReader] = {**WORDS, "input_image": _Reader.on_image, "input_file": _Reader.on_file}
OUTPUT_PARTS: Mapping[str, PartReader] = {**WORDS, "input_image": _Reader.on_output_image}
ASSISTANT_PARTS: Mapping[str, PartReader] = {
    "output_text": _Reader.on_text,
    "refusal": _Reader.on_refusal,
    "input_text": _Reader.on_text,
    "summary_text": _Reader.on_text,
}
ROLES: Mapping[str, tuple[Role, Mapping[str, PartReader]]] = {
    "user": (Role.USER, USER_PARTS),
    "assistant": (Role.ASSISTANT, ASSISTANT_PARTS),
    "system": (Role.SYSTEM, WORDS),
    "developer": (Role.SYSTEM, WORDS),
}
ITEMS: Mapping[str, ItemReader] = {
    "message": _Reader.on_message,
    "reasoning": _Reader.on_reasoning,
    "function_call": _Reader.on_call,
    "function_call_output": _Reader.on_output,
    "custom_tool_call": _Reader.on_custom_call,
    "custom_tool_call_output": _Reader.on_output,
    "code_interpreter_call": _Reader.on_code,
    REFERENCE: _Reader.on_reference,
}
