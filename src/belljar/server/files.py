"""Files that clients have uploaded, for as long as they may be used: in a temporary folder, apart by owner.

Promises: a file is seen by its owner alone; sizes and numbers are bounded; what has expired is gone. Not covered: what
survives a restart.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from belljar.errors import BadRequest, TooLarge
from belljar.model import File, FileRef, Image, Part, Request, new_id

LIFETIME = 48 * 3600.0  # seconds, as Google keeps them
MAX_FILE = 512 << 20  # bytes
MAX_OWNED = 2 << 30  # bytes of one owner
MAX_FILES = 10_000  # of all owners


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """An uploaded file. Times in seconds since 1970; `digest` is its SHA-256."""

    id: str
    owner: str
    name: str
    media_type: str
    size: int
    digest: bytes
    created: float
    expires: float


class FileStore:
    """All uploaded files of a server."""

    def __init__(self, lifetime: float = LIFETIME) -> None:
        """`lifetime` in seconds."""
        self._lifetime = lifetime
        self._folder: Path | None = None
        self._files: dict[str, Stored] = {}

    def add(self, owner: str, name: str, media_type: str, data: bytes) -> Stored:
        """Keep a file. Raises TooLarge."""
        self._sweep()
        held = sum(file.size for file in self._files.values() if file.owner == owner)
        if len(data) > MAX_FILE or held + len(data) > MAX_OWNED or len(self._files) >= MAX_FILES:
            raise TooLarge("there is no room for this file; delete others first")
        now = time.time()
        file = Stored(
            id=new_id(""),
            owner=owner,
            name=name,
            media_type=media_type,
            size=len(data),
            digest=hashlib.sha256(data).digest(),
            created=now,
            expires=now + self._lifetime,
        )
        self._path(file.id).write_bytes(data)
        self._files[file.id] = file
        return file

    def get(self, owner: str, identity: str) -> Stored | None:
        """A file of this owner; None where there is none of that name, or no longer."""
        self._sweep()
        file = self._files.get(identity)
        return file if file is not None and file.owner == owner else None

    def list(self, owner: str) -> Sequence[Stored]:
        """All files of this owner, the newest first."""
        self._sweep()
        return sorted((f for f in self._files.values() if f.owner == owner), key=lambda f: -f.created)

    def read(self, file: Stored) -> bytes:
        """Its content."""
        return self._path(file.id).read_bytes()

    def delete(self, owner: str, identity: str) -> bool:
        """Forget a file; False where there was none."""
        if self.get(owner, identity) is None:
            return False
        self._drop(identity)
        return True

    def parts(self, request: Request, ref: FileRef) -> tuple[Part, ...]:
        """What stands for an uploaded file in a message. Raises BadRequest: there is none of that name."""
        file = self.get(request.owner, ref.uri.rstrip("/").rpartition("/")[2])
        if file is None:
            raise BadRequest(f"there is no uploaded file {ref.uri[:200]!r}; it may have expired", param="file_uri")
        data, kind = self.read(file), ref.media_type or file.media_type
        attached = File(name=file.name, media_type=kind, data=data)
        if not kind.startswith("image/"):
            return (attached,)
        picture = Image(media_type=kind, data=data)
        return (picture, attached) if request.builtin else (picture,)

    def close(self) -> None:
        """Delete everything."""
        self._files.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _path(self, identity: str) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="belljar-files-"))
        return self._folder / identity

    def _drop(self, identity: str) -> None:
        del self._files[identity]
        self._path(identity).unlink(missing_ok=True)

    def _sweep(self) -> None:
        now = time.time()
        for identity in [i for i, file in self._files.items() if file.expires <= now]:
            self._drop(identity)
