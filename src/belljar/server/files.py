"""Files that clients have uploaded, for as long as they may be used: in a temporary folder, apart by owner.

Promises: a file is seen by its owner alone; sizes and numbers are bounded, for one owner and for all, what is still
being uploaded included; what has expired is gone; a file may come in pieces, and is there when the last has come. Not
covered: what survives a restart.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from belljar.errors import BadRequest, TooLarge, UnknownItem
from belljar.model import File, FileRef, Image, Part, Request, new_id

if TYPE_CHECKING:
    from hashlib import _Hash

LIFETIME = 48 * 3600.0  # seconds, as Google keeps them
PATIENCE = 3600.0  # seconds without a further piece, after which an upload is forgotten
MAX_FILE = 512 << 20  # bytes
MAX_OWNED = 2 << 30  # bytes of one owner
MAX_ALL = 8 << 30  # bytes of all owners
MAX_FILES = 10_000  # of all owners


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """An uploaded file: `name` is what it is called in sandboxes, `title` what its client calls it.

    Times in seconds since 1970; `digest` is its SHA-256.
    """

    id: str
    owner: str
    name: str
    media_type: str
    size: int
    digest: bytes
    created: float
    expires: float
    path: Path
    title: str | None = None


@dataclass(kw_only=True, slots=True)
class Upload:
    """A file that comes in pieces. `id` cannot be guessed: who knows it may send them. `size` None: not announced."""

    id: str
    owner: str
    file_id: str
    name: str
    media_type: str
    path: Path
    title: str | None = None
    size: int | None = None
    received: int = 0
    touched: float = 0.0
    busy: bool = False
    digest: _Hash = field(default_factory=hashlib.sha256)


class FileStore:
    """All uploaded files of a server. Methods are for one thread."""

    def __init__(
        self,
        lifetime: float = LIFETIME,
        *,
        max_file: int = MAX_FILE,
        max_owned: int = MAX_OWNED,
        max_all: int = MAX_ALL,
        max_files: int = MAX_FILES,
    ) -> None:
        """`lifetime` in seconds, sizes in bytes."""
        self._lifetime = lifetime
        self._max_file, self._max_owned, self._max_all, self._max_files = max_file, max_owned, max_all, max_files
        self._folder: Path | None = None
        self._files: dict[tuple[str, str], Stored] = {}
        self._uploads: dict[str, Upload] = {}

    # --- whole files --------------------------------------------------------------------------------------------------

    def add(self, owner: str, name: str, media_type: str, data: bytes, title: str | None = None) -> Stored:
        """Keep a file. Raises TooLarge."""
        upload = self.begin(owner, name, media_type, size=len(data), title=title)
        _append(upload, data)
        return self.finish(upload)

    def get(self, owner: str, identity: str) -> Stored | None:
        """A file of this owner; None where there is none of that name, or no longer."""
        self._sweep()
        return self._files.get((owner, identity))

    def list(self, owner: str) -> Sequence[Stored]:
        """All files of this owner, the newest first."""
        self._sweep()
        return sorted((f for f in self._files.values() if f.owner == owner), key=lambda f: (-f.created, f.id))

    def read(self, file: Stored) -> bytes:
        """Its content. Raises BadRequest: it was deleted in the meantime."""
        try:
            return file.path.read_bytes()
        except FileNotFoundError:
            raise BadRequest(f"the uploaded file {file.id!r} is gone", param="file_uri") from None

    def delete(self, owner: str, identity: str) -> bool:
        """Forget a file; False where there was none."""
        file = self.get(owner, identity)
        if file is None:
            return False
        self._drop(file)
        return True

    # --- in pieces ----------------------------------------------------------------------------------------------------

    def begin(
        self,
        owner: str,
        name: str,
        media_type: str,
        *,
        size: int | None = None,
        title: str | None = None,
        file_id: str | None = None,
    ) -> Upload:
        """A file that is still to come. Raises TooLarge; BadRequest: `file_id` is taken."""
        self._sweep()
        if file_id is not None and (owner, file_id) in self._files:
            raise BadRequest(f"there is a file {file_id!r} already", param="file.name")
        if len(self._files) + len(self._uploads) >= self._max_files:
            raise TooLarge("there is no room for more files; delete others first")
        self._check_room(owner, size or 0, size or 0)
        identity = new_id("")
        upload = Upload(
            id=identity,
            owner=owner,
            file_id=file_id or new_id(""),
            name=name,
            media_type=media_type,
            path=self._home() / identity,
            title=title,
            size=size,
            touched=time.time(),
        )
        upload.path.touch()
        self._uploads[identity] = upload
        return upload

    def upload(self, identity: str) -> Upload:
        """An upload that has begun. Raises UnknownItem."""
        self._sweep()
        upload = self._uploads.get(identity)
        if upload is None:
            raise UnknownItem("there is no such upload; it may be over, or was given up")
        return upload

    async def append(self, upload: Upload, offset: int, data: bytes) -> None:
        """The next piece. Raises BadRequest: it is not the next, or too much; TooLarge."""
        if offset != upload.received or upload.busy:
            raise BadRequest(f"the next piece begins at byte {upload.received}, not {offset}")
        if upload.size is not None and offset + len(data) > upload.size:
            raise BadRequest(f"the file was to have {upload.size} bytes; this is more")
        if upload.size is None:
            self._check_room(upload.owner, offset + len(data), len(data))
        upload.busy = True
        try:
            await asyncio.to_thread(_append, upload, data)
        except FileNotFoundError:
            raise UnknownItem("the upload was given up") from None
        finally:
            upload.busy = False
        upload.touched = time.time()

    def finish(self, upload: Upload) -> Stored:
        """All has come. Raises BadRequest: less than was announced, or the name was taken meanwhile."""
        if upload.size is not None and upload.received != upload.size:
            raise BadRequest(f"the file was to have {upload.size} bytes; {upload.received} have come")
        if (upload.owner, upload.file_id) in self._files:
            raise BadRequest(f"there is a file {upload.file_id!r} already", param="file.name")
        del self._uploads[upload.id]
        now = time.time()
        file = Stored(
            id=upload.file_id,
            owner=upload.owner,
            name=upload.name,
            media_type=upload.media_type,
            size=upload.received,
            digest=upload.digest.digest(),
            created=now,
            expires=now + self._lifetime,
            path=upload.path,
            title=upload.title,
        )
        self._files[file.owner, file.id] = file
        return file

    def give_up(self, upload: Upload) -> None:
        """Forget an upload."""
        self._uploads.pop(upload.id, None)
        upload.path.unlink(missing_ok=True)

    # --- in a conversation --------------------------------------------------------------------------------------------

    def find(self, request: Request, ref: FileRef) -> Stored:
        """The file that a part of a message names. Raises BadRequest: there is none of that name."""
        file = self.get(request.owner, ref.uri.rstrip("/").rpartition("/")[2])
        if file is None:
            raise BadRequest(f"there is no uploaded file {ref.uri[:200]!r}; it may have expired", param="file_uri")
        return file

    async def parts(self, request: Request, ref: FileRef) -> tuple[Part, ...]:
        """What stands for an uploaded file in a message. Raises BadRequest: there is none of that name."""
        file = self.find(request, ref)
        data, kind = await asyncio.to_thread(self.read, file), ref.media_type or file.media_type
        attached = File(name=file.name, media_type=kind, data=data)
        if not kind.startswith("image/"):
            return (attached,)
        picture = Image(media_type=kind, data=data)
        return (picture, attached) if request.builtin else (picture,)

    # --- bounds -------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Delete everything."""
        self._files.clear()
        self._uploads.clear()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _home(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="belljar-files-"))
        return self._folder

    def _check_room(self, owner: str, size: int, more: int) -> None:
        if size > self._max_file:
            raise TooLarge(f"a file may have {self._max_file:,} bytes at most")
        if self._held(owner) + more > self._max_owned or self._held(None) + more > self._max_all:
            raise TooLarge("there is no room for this file; delete others first")

    def _held(self, owner: str | None) -> int:
        """Bytes of an owner, or of all, with those that uploads have announced."""
        kept = sum(file.size for file in self._files.values() if owner in (None, file.owner))
        return kept + sum(
            upload.received if upload.size is None else upload.size
            for upload in self._uploads.values()
            if owner in (None, upload.owner)
        )

    def _drop(self, file: Stored) -> None:
        del self._files[file.owner, file.id]
        file.path.unlink(missing_ok=True)

    def _sweep(self) -> None:
        now = time.time()
        for file in [file for file in self._files.values() if file.expires <= now]:
            self._drop(file)
        for upload in [u for u in self._uploads.values() if u.touched + PATIENCE <= now and not u.busy]:
            self.give_up(upload)


def _append(upload: Upload, data: bytes) -> None:
    with upload.path.open("r+b") as file:
        file.seek(upload.received)
        file.write(data)
    upload.digest.update(data)
    upload.received += len(data)
