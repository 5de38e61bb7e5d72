"""DashScope's own format through both clients of its SDK: the older functions, and `dashscope.Client`."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import dashscope
import requests
from dashscope.v2 import errors

from conformance.says import Fact
from conformance.seen import (
    FUNCTION_NAME,
    FUNCTION_PARAMETERS,
    FUNCTION_TEXT,
    KEY,
    PATIENCE,
    Failure,
    Question,
    Seen,
    Tokens,
    Way,
    fault_of,
)

FUNCTION = {"name": FUNCTION_NAME, "description": FUNCTION_TEXT, "parameters": FUNCTION_PARAMETERS}
SERVER_ERRORS = (errors.InternalServerError, errors.ServiceUnavailableError, errors.GatewayTimeoutError)
FINISHES = {"stop": "stop", "length": "length", "tool_calls": "calls", "null": ""}


@dataclass
class State:
    """What has come so far."""

    text: str = ""
    reasoning: str = ""
    codes: list[str] = field(default_factory=list)
    calls: dict[int, list[str]] = field(default_factory=dict)
    finish: str = ""
    usage: Any = None

    def take_message(self, message: Any, *, merge: bool) -> None:
        """A message, or a piece of one; with `merge` False it is all that there is so far."""
        text, reasoning = words(message.get("content")), message.get("reasoning_content") or ""
        self.text = self.text + text if merge else text or self.text
        self.reasoning = self.reasoning + reasoning if merge else reasoning or self.reasoning
        for place, call in enumerate(message.get("tool_calls") or ()):
            known = self.calls.setdefault(call.get("index") or place, ["", ""])
            for at, part in enumerate(("name", "arguments")):
                piece = call["function"].get(part) or ""
                known[at] = known[at] + piece if merge else piece or known[at]

    def seen(self, failure: Failure | None = None) -> Seen:
        """All of it."""
        usage = self.usage
        return Seen(
            text=self.text,
            reasoning=self.reasoning,
            codes=self.codes,
            calls=[(name, json.loads(arguments)) for name, arguments in self.calls.values()],
            finish=FINISHES.get(self.finish, self.finish),
            usage=usage
            and Tokens(prompt=usage["input_tokens"], completion=usage["output_tokens"], total=usage["total_tokens"]),
            failure=failure,
        )


def words(content: Any) -> str:
    """The text of a message, which the multimodal path gives as a list."""
    if isinstance(content, list):
        return "".join(part.get("text") or "" for part in content)
    return content or ""


def parameters(question: Question) -> dict[str, Any]:
    """What is asked for beside the messages."""
    asked: dict[str, Any] = {"enable_thinking": True} if question.thoughts else {}
    asked |= {"enable_code_interpreter": True} if question.code else {}
    return asked | ({"tools": [{"type": "function", "function": FUNCTION}]} if question.own else {})


def content(question: Question, *, listed: bool = False) -> Any:
    """What a message says: a text, or a list of parts."""
    if question.file is None:
        return [{"text": question.text}] if listed else question.text
    data = base64.b64encode(question.file.text.encode()).decode()
    file = {"file": f"data:{question.file.media_type};base64,{data}", "filename": question.file.name}
    return [{"text": question.text}, file]


# --- the older functions ----------------------------------------------------------------------------------------------


def call(kind: Any, url: str, question: Question, **more: Any) -> Any:
    """Generation or MultiModalConversation."""
    listed = kind is dashscope.MultiModalConversation
    return kind.call(
        api_key=KEY,
        base_address=f"{url}/api/v1",
        model=question.model,
        messages=[{"role": "user", "content": content(question, listed=listed)}],
        **({"result_format": "message"} if kind is dashscope.Generation else {}),
        **parameters(question),
        **more,
    )


def older(kind: Any, *, streams: bool, incremental: bool = True) -> Way:
    """It raises nothing: an error is a response with another status."""
    stream = {"stream": True, "incremental_output": incremental} if streams else {}

    def ask(url: str, question: Question) -> Seen:
        answer = call(kind, url, question, **stream)
        responses: Iterable[Any] = answer if streams else [answer]
        state = State()
        for response in responses:
            if response.status_code != 200:
                fault = fault_of(response.status_code)
                return state.seen(Failure(status=response.status_code, message=response.message, fault=fault))
            [choice] = response.output["choices"]
            state.take_message(choice["message"], merge=streams and incremental)
            state.finish = choice["finish_reason"]
            state.codes = [tool["code_interpreter"]["code"] for tool in response.output.get("tool_info") or ()]
            state.usage = response.usage
        return state.seen()

    def leave(url: str, question: Question) -> None:
        if not streams:
            try:
                call(kind, url, question, request_timeout=PATIENCE)
            except requests.exceptions.Timeout:
                return
            raise AssertionError("it should have taken longer")
        answer = call(kind, url, question, **stream)
        next(response for response in answer if words(response.output["choices"][0]["message"].get("content")))
        answer.close()

    return Way(streams=streams, ask=ask, leave=leave)


# --- the newer client -------------------------------------------------------------------------------------------------


def newer(*, streams: bool) -> Way:
    """`dashscope.Client`: it drops `tool_info` and the status of an error in mid-stream, and sends no files."""

    def create(client: Any, question: Question) -> Any:
        return client.chat.completions.create(
            model=question.model,
            messages=[{"role": "user", "content": content(question)}],
            stream=streams,
            parameters=parameters(question),
        )

    def ask(url: str, question: Question) -> Seen:
        state = State()
        try:
            with open_client(url) as client:
                answer = create(client, question)
                for part in answer if streams else [answer]:
                    take(state, part, streams)
        except errors.APIStatusError as error:
            fault = "server" if isinstance(error, SERVER_ERRORS) or (error.status_code or 0) >= 500 else "client"
            status = error.status_code if error.status_code != 200 else None  # that of the stream
            return state.seen(Failure(status=status, message=error.message, fault=fault))
        return state.seen()

    def leave(url: str, question: Question) -> None:
        with open_client(url, **({} if streams else {"timeout": PATIENCE})) as client:
            try:
                answer = create(client, question)
            except errors.APITimeoutError:
                return
            assert streams, "it should have taken longer"
            next(chunk for chunk in answer if chunk.delta is not None and chunk.delta.content)
            answer.close()

    return Way(streams=streams, ask=ask, leave=leave, drops=frozenset({Fact.CODE, Fact.LATE, Fact.FILE_IN}))


def open_client(url: str, **more: Any) -> Any:
    """The newer client."""
    return dashscope.Client(api_key=KEY, base_url=f"{url}/api/v1", protocol="native", max_retries=0, **more)


def take(state: State, part: Any, streams: bool) -> None:
    """Take in a completion or a chunk."""
    [choice] = part.choices
    message = choice.delta if streams else choice.message
    state.take_message(message.model_dump(), merge=streams)
    state.finish = choice.finish_reason or state.finish
    if part.usage is not None:
        state.usage = part.usage.model_dump()


WAYS = {
    "Generation": older(dashscope.Generation, streams=False),
    "Generation, streaming": older(dashscope.Generation, streams=True),
    "Generation, cumulative": older(dashscope.Generation, streams=True, incremental=False),
    "MultiModalConversation": older(dashscope.MultiModalConversation, streams=False),
    "MultiModalConversation, streaming": older(dashscope.MultiModalConversation, streams=True),
    "Client": newer(streams=False),
    "Client, streaming": newer(streams=True),
}
