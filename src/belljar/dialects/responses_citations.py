"""Which files of its container a message cites: `container_file_citation`s, as bodies and streams both show them.

Promises: each picture that code displayed is cited once, by the first message of the turns after it, with both indices
0; each file that was in the container before a message, and that its text names, is cited once in it, at the first of:
a link `sandbox:/mnt/data/NAME`, a path `/mnt/data/NAME`, the bare name as a word of its own. Indices count characters
of the text. Nothing is cited without a container, whose files alone have ids. Not covered: names that the model
shortened or misspelt; of more than MOST_FILES files, those that were there first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from belljar.dialects.responses_settings import CONTAINER_PREFIX
from belljar.events import Answer, CallItem, TextItem
from belljar.execution import WORK_FOLDER, FileInfo

Json = dict[str, Any]
LINK = f"sandbox:{WORK_FOLDER}/"
PATH = f"{WORK_FOLDER}/"
MOST_FILES = 1_000
# What may not stand around a name: then it is part of another one.
_BEFORE_PATH, _BEFORE_NAME = r"(?<![\w])", r"(?<![\w./\\-])"
_AFTER = r"(?![\w/-])(?!\.\w)"


def citations_of(answer: Answer, message: TextItem) -> list[Json]:
    """The annotations of a message, in the order of their places."""
    if answer.housed is None:
        return []
    container = CONTAINER_PREFIX + answer.housed.container
    shown = [_citation(container, info, 0, 0) for info in _pictures_before(answer, message)]
    named = _named(message.text, _files_before(answer, message))
    return [*shown, *(_citation(container, info, start, end) for start, end, info in named)]


def _citation(container: str, info: FileInfo, start: int, end: int) -> Json:
    return {
        "type": "container_file_citation",
        "container_id": container,
        "file_id": f"cfile_{info.id}",
        "filename": info.path.rpartition("/")[2],
        "start_index": start,
        "end_index": end,
    }


def _calls_before(answer: Answer, message: TextItem) -> Iterator[CallItem]:
    """The calls that had run when this was said."""
    for item in answer.items:
        if isinstance(item, CallItem) and item.turn < message.turn and item.execution is not None:
            yield item


def _pictures_before(answer: Answer, message: TextItem) -> Iterator[FileInfo]:
    """The pictures that were displayed since the last message."""
    earlier = -1  # the turn of the message before
    for item in answer.items:
        if item is message:
            break
        if isinstance(item, TextItem) and item.text:
            earlier = item.turn
    for call in _calls_before(answer, message):
        if call.turn >= earlier and call.execution is not None:
            yield from (info for info in call.execution.pictures if info.id is not None)


def _files_before(answer: Answer, message: TextItem) -> dict[str, FileInfo]:
    """The files that were there, by path: of two at one path, the later."""
    files = {info.path: info for info in answer.housed.files} if answer.housed is not None else {}
    for call in _calls_before(answer, message):
        if call.execution is not None:
            files |= {info.path: info for info in call.execution.files}
    kept = {path: info for path, info in files.items() if info.id is not None}
    return dict(list(kept.items())[-MOST_FILES:])


def _named(text: str, files: dict[str, FileInfo]) -> list[tuple[int, int, FileInfo]]:
    """Where the text names which files. Longer names first, and links before bare names, so that none is taken for
    part of another.
    """
    found: dict[str, tuple[int, int, FileInfo]] = {}
    taken: list[tuple[int, int]] = []
    likely = [path for path in files if _is_likely(path, text)]
    for patterns in (_as_links, _as_paths, _as_words, _as_names):
        for path in sorted(likely, key=len, reverse=True):
            if path in found:
                continue
            place = _first(text, patterns(path), taken)
            if place is not None:
                taken.append(place)
                found[path] = (*place, files[path])
    return sorted(found.values(), key=lambda entry: entry[:2])


def _is_likely(path: str, text: str) -> bool:
    """Whether the text may name it at all."""
    name = path.rpartition("/")[2]
    return any(written in text for written in _spellings(name))


def _first(text: str, patterns: Iterator[tuple[str, str]], taken: list[tuple[int, int]]) -> tuple[int, int] | None:
    """The first place of one of the names that overlaps none that is taken."""
    for before, name in patterns:
        if name not in text:
            continue
        for match in re.finditer(before + re.escape(name) + _AFTER, text):
            start, end = match.span()
            if all(end <= other or start >= stop for other, stop in taken):
                return start, end
    return None


def _as_links(path: str) -> Iterator[tuple[str, str]]:
    yield from (("", LINK + written) for written in _spellings(path))


def _spellings(path: str) -> tuple[str, ...]:
    """How models write a path in a link: as it is, without spaces, or as an URL has it."""
    return path, path.replace(" ", "%20"), quote(path, errors="surrogateescape")


def _as_paths(path: str) -> Iterator[tuple[str, str]]:
    yield _BEFORE_PATH, PATH + path


def _as_words(path: str) -> Iterator[tuple[str, str]]:
    """The path alone; without an ending it could be any word."""
    if "." in path.rpartition("/")[2].strip("."):
        yield _BEFORE_NAME, path


def _as_names(path: str) -> Iterator[tuple[str, str]]:
    """The last part of the path."""
    return _as_words(path.rpartition("/")[2])
