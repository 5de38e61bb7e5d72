"""Every error that Belljar raises, as one tree that says whose fault it was.

The class carries an HTTP status *hint*; the shape on the wire belongs to a dialect. What goes wrong inside a sandbox is
no error here: it is an `Outcome`, a value.
"""

from __future__ import annotations


class BelljarError(Exception):
    """Base of all errors; never raised itself. `status` is the HTTP status that fits best; `retry_after`, in seconds,
    says when the same request may do better.
    """

    status = 500
    retry_after: float | None = None


class ClientError(BelljarError):
    """The caller asked for something that cannot be: it must change the request."""

    status = 400


class FileError(ClientError):
    """A file's path or size was refused: outside the sandbox's folder, no regular file, or over the limit."""


class SessionClosed(ClientError):
    """The session has ended (closed, killed or died) and can run nothing more."""

    status = 410


class AtCapacity(BelljarError):
    """No sandbox was free: the queue is full, or the wait for a place in it is over. Try again later."""

    status = 503
    retry_after = 1.0


class HostError(BelljarError):
    """This host is not set up for what was asked; the message says what is missing."""

    status = 500


class IsolationUnavailable(HostError):
    """A wall of the requested profile cannot be put up here. Nothing was run."""


class ImageError(HostError):
    """An image is missing, half-built or broken; the message names it and what is wrong with it."""


class SandboxFailed(HostError):
    """A sandbox or its zygote died, or did not answer in time, before it could run anything."""


# --- requests of the server -------------------------------------------------------------------------------------------


class BadRequest(ClientError):
    """A request that says something wrong. `param` names the place ("messages.0.role"), `code` is a vendor's word."""

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class Unauthorized(ClientError):
    """No API key, or a wrong one."""

    status = 401


class Forbidden(ClientError):
    """Known, and not allowed: another site's page in a browser, a host name that is not ours."""

    status = 403


class UnknownPath(ClientError):
    """Nothing is served at this path."""

    status = 404


class UnknownModel(ClientError):
    """No model of this name."""

    status = 404

    def __init__(self, message: str, *, model: str) -> None:
        super().__init__(message)
        self.model = model


class UnknownItem(ClientError):
    """Nothing of this name is kept here: it never was, it has expired or was deleted, or it is somebody else's.

    `item` is the name as the client wrote it; `param` names the place of the request that held it.
    """

    status = 404

    def __init__(self, message: str, *, item: str = "", param: str | None = None) -> None:
        super().__init__(message)
        self.item = item
        self.param = param


class Expired(ClientError):
    """What was named here was kept for as long as it is kept: nobody has used it since. Only its name is known."""

    status = 400


class Cancelled(ClientError):
    """The client itself ended an answer that was being written without it."""

    status = 499


class WrongMethod(ClientError):
    """The path is served, but not for this HTTP method."""

    status = 405


class TooSlow(ClientError):
    """The client did not send its request in time."""

    status = 408


class TooLarge(ClientError):
    """The request's body is over the limit."""

    status = 413


class UnsupportedEncoding(ClientError):
    """The request's body is compressed in a way that is not read here."""

    status = 415


class ToolUseFailed(ClientError):
    """The model did not call a tool as it was told to, or called one that is not there; `generation` is what it wrote.

    A client's error, as at Groq: the request asked for something that this model does not do.
    """

    def __init__(self, message: str, *, generation: str) -> None:
        super().__init__(message)
        self.generation = generation


class FormatFailed(ClientError):
    """The model's answer is not of the format that was asked for; `generation` is what it wrote."""

    def __init__(self, message: str, *, generation: str) -> None:
        super().__init__(message)
        self.generation = generation


class ShuttingDown(BelljarError):
    """The server is stopping. Send the request again, to the next one."""

    status = 503


# --- the upstream, where the model is ---------------------------------------------------------------------------------


class UpstreamError(BelljarError):
    """The server with the model failed. The message names it, and never holds its key."""

    status = 502


class UpstreamRefused(UpstreamError):
    """It refused what the client asked for: its status, message, `code`, `type` and `param` are passed on."""

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        kind: str | None = None,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.kind = kind
        self.param = param
        self.retry_after = retry_after


class UpstreamUnavailable(UpstreamError):
    """It cannot be reached, or says that it is overloaded."""

    status = 503


class UpstreamTimeout(UpstreamError):
    """It did not answer, or stopped in mid-answer, for longer than allowed."""

    status = 504
