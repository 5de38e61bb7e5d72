"""An exception as the reader of an answer wants it: Python's own form, cut to the frames that are the code's own.

Of the libraries' frames only the last is kept, since it says where the call failed; the runner's are never shown.
"""

from __future__ import annotations

import os
import traceback

RUNNER = os.path.dirname(os.path.abspath(__file__)) + "/"
VALUE_LIMIT = 8 << 10
TEXT_LIMIT = 32 << 10


def describe(error: BaseException, library_folders: tuple[str, ...]) -> dict[str, str]:
    """`name`, `value` and `traceback` of an exception, each of bounded size; never raises."""
    try:
        value = str(error)
    except Exception as broken:
        value = f"<{type(error).__name__} whose str() raised {type(broken).__name__}>"
    try:
        text = _format(error, library_folders)
    except Exception:
        text = f"{type(error).__name__}: {value}"
    return {"name": type(error).__name__, "value": cut(value, VALUE_LIMIT), "traceback": cut(text, TEXT_LIMIT)}


def cut(text: str, limit: int) -> str:
    """The text, or its head and tail with a note between them, in characters."""
    if len(text) <= limit:
        return text
    return f"{text[: limit // 2]}\n[... {len(text) - limit:,} characters left out ...]\n{text[-limit // 2 :]}"


def _format(error: BaseException, library_folders: tuple[str, ...]) -> str:
    report = traceback.TracebackException.from_exception(error, compact=True)
    if _is_usage_error(error):
        return "".join(report.format_exception_only()).rstrip("\n")
    waiting: list[traceback.TracebackException | None] = [report]
    while waiting:
        part = waiting.pop()
        if part is not None:
            part.stack = _trim(part.stack, library_folders)
            waiting += [part.__cause__, part.__context__, *(getattr(part, "exceptions", None) or ())]
    return "".join(report.format()).rstrip("\n")


def _is_usage_error(error: BaseException) -> bool:
    """IPython's way of saying that a magic was called wrongly: where in IPython that was found out tells nothing."""
    return type(error).__module__ == "IPython.core.error"


def _trim(stack: traceback.StackSummary, library_folders: tuple[str, ...]) -> traceback.StackSummary:
    own = [not frame.filename.startswith(library_folders) for frame in stack]
    first = own.index(True) if True in own else len(stack)
    last = max((i for i, frame in enumerate(stack) if not frame.filename.startswith(RUNNER)), default=-1)
    kept = [frame for i, frame in enumerate(stack) if i >= first and (own[i] or i == last)]
    for frame in kept:
        frame.filename = _short(frame.filename, library_folders)
    return traceback.StackSummary.from_list(kept)


def _short(name: str, library_folders: tuple[str, ...]) -> str:
    for folder in library_folders:
        if name.startswith(folder):
            return os.path.relpath(name, folder)
    return name
