"""Every error that Belljar raises, as one tree that says whose fault it was.

The class carries an HTTP status *hint*; the shape on the wire belongs to a dialect. What goes wrong inside a sandbox is
no error here: it is an `Outcome`, a value.
"""

from __future__ import annotations


class BelljarError(Exception):
    """Base of all errors; never raised itself. `status` is the HTTP status that fits best."""

    status = 500


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


class HostError(BelljarError):
    """This host is not set up for what was asked; the message says what is missing."""

    status = 500


class IsolationUnavailable(HostError):
    """A wall of the requested profile cannot be put up here. Nothing was run."""


class ImageError(HostError):
    """An image is missing, half-built or broken; the message names it and what is wrong with it."""


class SandboxFailed(HostError):
    """A sandbox or its zygote died, or did not answer in time, before it could run anything."""
