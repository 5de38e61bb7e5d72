"""Errors as OpenAI writes them: {"error": {"message", "type", "param", "code"}}, from tables, and the `error` of a
response that has failed.

Promises: all four fields are always there; places are written as OpenAI writes them ("input[0].content[1].type"), ids
with the prefixes that they have on the wire.
"""

from __future__ import annotations

import re
from typing import Any

from belljar.dialects import openai_errors
from belljar.dialects.base import Reply, write_json
from belljar.dialects.openai_errors import INVALID, Fault, headers_of, shape_of
from belljar.dialects.responses_settings import CONVERSATION_PREFIX, settings_of
from belljar.errors import BelljarError, ClientError, UnknownItem, UnknownModel, UpstreamRefused
from belljar.model import Request

SERVER = "server_error"
LIMIT = "rate_limit_error"
TYPES = {
    Fault.CLIENT: INVALID,
    Fault.FORBIDDEN: "permission_error",
    Fault.SERVER: SERVER,
    Fault.UPSTREAM: SERVER,
}
REFUSALS = {401: "authentication_error", 403: "permission_error", 429: LIMIT}  # types of an upstream's, if unsaid
FAILED_CODE = "server_error"  # of a response that has failed, where nothing says more
REFUSED_CODE = "invalid_prompt"  # the same, where the request is to blame
FAILED_CODES = {429: "rate_limit_exceeded"}  # status -> code of a response that has failed
FOREIGN_CODES = ("failed_precondition",)  # words that readers share with other vendors, and OpenAI does not know
QWEN_CODE = "InvalidParameter"  # of what Alibaba refuses in a request

GONE = "{what} with id '{item}' not found."
GONE_PREVIOUS = "Previous response with id '{item}' not found."
GONE_ITEM = (
    "Item with id '{item}' not found. Items are not kept where `store` is false: "
    "set it to true, or remove this item from the input."
)
KINDS = {"resp_": "Response", CONVERSATION_PREFIX: "Conversation"}  # how an id begins -> what it names
ITEM_PREFIXES = ("msg_", "rs_", "ci_", "fc_", "ctc_")
_NUMBER = re.compile(r"\.(\d+)(?=\.|$)")


def write_error(error: BelljarError, request: Request | None, request_id: str = "") -> Reply:
    """An error as a whole response."""
    body: dict[str, Any] = {"error": error_body(error, request)}
    if settings_of(request).qwen and request_id:
        body["request_id"] = request_id
    return Reply(status=status_of(error, request), body=write_json(body), headers=headers_of(error))


def status_of(error: BelljarError, request: Request | None = None) -> int:
    """The HTTP status: the error's own, but for a response that a request wants to go on from."""
    if isinstance(error, UnknownItem) and _is_previous(error, request):
        return 400
    return openai_errors.status_of(error)


def error_body(error: BelljarError, request: Request | None = None) -> dict[str, Any]:
    """What stands under "error"; `request`, where it could be read, tells what an unknown id was meant for."""
    shape = shape_of(error)
    kind, code = TYPES[shape.fault], getattr(error, "code", None)
    if isinstance(error, UpstreamRefused):
        kind = error.kind or REFUSALS.get(error.status, INVALID if error.status < 500 else SERVER)
    told = {
        "message": str(error) or type(error).__name__,
        "type": kind,
        "param": getattr(error, "param", None),
        "code": code if code and code not in FOREIGN_CODES else shape.code,
    }
    if isinstance(error, UnknownModel):
        told["param"] = "model"
    if isinstance(error, UnknownItem):
        told |= {"code": None} | _gone(error, request)
    if told["code"] is None and settings_of(request).qwen and isinstance(error, ClientError):
        told["code"] = QWEN_CODE
    return _placed(told)


def error_object(error: BelljarError) -> dict[str, Any]:
    """The `error` of a response that has failed: `code` and `message`, and the `type` that some clients insist on."""
    told = error_body(error)
    code = FAILED_CODES.get(error.status) or (REFUSED_CODE if told["type"] == INVALID else FAILED_CODE)
    return {"code": told["code"] or code, "message": told["message"], "type": told["type"]}


# --- places -----------------------------------------------------------------------------------------------------------


def place_of(param: str) -> str:
    """A place as OpenAI writes it: "input.0.content" becomes "input[0].content"."""
    return _NUMBER.sub(r"[\1]", param)


def _placed(told: dict[str, Any]) -> dict[str, Any]:
    param = told["param"]
    if not isinstance(param, str) or (place := place_of(param)) == param:
        return told
    return told | {"param": place, "message": told["message"].replace(f"`{param}`", f"`{place}`")}


# --- ids that name nothing --------------------------------------------------------------------------------------------


def _is_previous(error: UnknownItem, request: Request | None) -> bool:
    return request is not None and request.previous is not None and error.item == request.previous


def _gone(error: UnknownItem, request: Request | None) -> dict[str, Any]:
    """What is said of an id that names nothing, in OpenAI's words."""
    if _is_previous(error, request):
        said = GONE_PREVIOUS.format(item=error.item[:80])
        return {"message": said, "param": "previous_response_id", "code": "previous_response_not_found"}
    item = error.item
    if request is not None and item and item == request.conversation:
        item = CONVERSATION_PREFIX + item
    if item.startswith(ITEM_PREFIXES) and error.param is None:
        return {"message": GONE_ITEM.format(item=item[:80]), "param": "input"}
    what = next((name for prefix, name in KINDS.items() if item.startswith(prefix)), None)
    return {"message": GONE.format(what=what, item=item[:80])} if what else {}
