"""Files that clients have uploaded, in the store, apart by owner; and those that are still coming, in pieces.

Promises: a file is seen by its owner alone; sizes and numbers are bounded, for one owner and for all, what is still
being uploaded included; what has expired is gone; a file is durable once `finish` has returned, whichever API took it,
and every dialect can use it. Not covered: an upload that a restart interrupts begins anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from belljar.errors import BadRequest, BelljarError, TooLarge, UnknownItem
from belljar.model import File, FileRef, Image, Part, Request, new_id
from belljar.server.settings import Keep
from belljar.store.bounds import share_of
from belljar.store.rows import FileRow
from belljar.store.store import Store

if TYPE_CHECKING:
    from hashlib import _Hash

HOUR = 3600.0
PATIENCE = 3600.0  # seconds without a further piece, after which an upload is forgotten
MOST_UPLOADS = 1000  # of all owners, at once
MOST_OWN_UPLOADS = 250  # of one of them, so that none shuts out the others
MOST_PARTS = 10_000  # of one upload
PIECE = 1 << 20  # bytes that are written at once
PURPOSE = "user_data"  # of files whose client named none


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
    purpose: str = PURPOSE
    lifetime: float | None = None  # seconds; None for as long as files are kept
    size: int | None = None
    created: float = 0.0
    received: int = 0
    touched: float = 0.0
    busy: bool = False
    joining: bool = False  # its parts are being put together
    digest: _Hash = field(default_factory=hashlib.sha256)
    parts: dict[str, Upload] = field(default_factory=dict)  # of a file that comes in parts, in any order


class FileStore:
    """All uploaded files of a server. Methods are for one loop."""

    def __init__(self, store: Store, keep: Keep | None = None) -> None:
        """`keep` bounds files in size and time; `store.room` has the other bounds."""
        keep = keep or Keep()
        self.max_file = keep.keep_file  # bytes
        self._lifetime = keep.keep_hours * HOUR
        self._store = store
        self._uploads: dict[str, Upload] = {}

    # --- whole files --------------------------------------------------------------------------------------------------

    async def add(
        self, owner: str, name: str, media_type: str, data: bytes, *, title: str | None = None, purpose: str = PURPOSE
    ) -> FileRow:
        """Keep a file. Raises TooLarge."""
        upload = await self.begin(owner, name, media_type, size=len(data), title=title, purpose=purpose)
        try:
            await self.append(upload, 0, data)
            return await self.finish(upload)
        except BaseException:
            self.give_up(upload)
            raise

    async def get(self, owner: str, identity: str) -> FileRow | None:
        """A file of this owner; None where there is none of that name, or no longer."""
        return await self._store.files.get(owner, identity)

    async def page(
        self,
        owner: str,
        after: str | None = None,
        limit: int = 100,
        *,
        ascending: bool = False,
        purpose: str | None = None,
    ) -> tuple[Sequence[FileRow], bool]:
        """Files of this owner, the newest first or last, and whether there are more. Raises UnknownItem: `after`."""
        return await self._store.files.page(owner, after, limit, ascending, purpose)

    async def read(self, file: FileRow) -> bytes:
        """Its content. Raises BadRequest: it was deleted in the meantime."""
        try:
            return await self._store.blobs.read(file.blob)
        except FileNotFoundError:
            raise BadRequest(f"the uploaded file {file.id!r} is gone", param="file_uri") from None

    def path(self, file: FileRow) -> Path:
        """Where its content lies; there is nothing any more where it was deleted in the meantime."""
        return self._store.blobs.path(file.blob)

    async def delete(self, owner: str, identity: str) -> bool:
        """Forget a file; False where there was none."""
        return await self._store.files.delete(owner, identity)

    # --- in pieces ----------------------------------------------------------------------------------------------------

    async def begin(
        self,
        owner: str,
        name: str,
        media_type: str,
        *,
        size: int | None = None,
        title: str | None = None,
        purpose: str = PURPOSE,
        lifetime: float | None = None,
        file_id: str | None = None,
    ) -> Upload:
        """A file that is still to come; `lifetime` in seconds. Raises TooLarge; BadRequest: `file_id` is taken."""
        self._sweep()
        own = sum(upload.owner == owner for upload in self._uploads.values())
        if len(self._uploads) >= MOST_UPLOADS or own >= MOST_OWN_UPLOADS:
            raise TooLarge("there is no room for more files; finish other uploads first")
        identity, now = new_id(""), time.time()
        upload = Upload(
            id=identity,
            owner=owner,
            file_id=file_id or new_id(""),
            name=name,
            media_type=media_type,
            path=self._store.blobs.parts / identity,
            title=title,
            purpose=purpose,
            lifetime=lifetime,
            size=size,
            created=now,
            touched=now,
        )
        self._uploads[identity] = upload
        try:
            if file_id is not None and await self.get(owner, file_id) is not None:
                raise _taken(file_id)
            await self._check_room(upload, size or 0)
            await asyncio.to_thread(_create, upload.path)
        except BaseException:
            self.give_up(upload)
            raise
        return upload

    def upload(self, identity: str) -> Upload:
        """An upload that has begun. Raises UnknownItem."""
        self._sweep()
        upload = self._uploads.get(identity)
        if upload is None:
            raise UnknownItem("there is no such upload; it may be over, or was given up", item=identity)
        return upload

    async def append(self, upload: Upload, offset: int, data: bytes) -> None:
        """The next piece. Raises BadRequest: it is not the next, or too much; TooLarge."""
        if offset != upload.received or upload.busy:
            raise BadRequest(f"the next piece begins at byte {upload.received}, not {offset}")
        if upload.size is not None and offset + len(data) > upload.size:
            raise BadRequest(f"the file was to have {upload.size} bytes; this is more")
        upload.busy = True
        try:
            if upload.size is None:
                await self._check_room(upload, offset + len(data))
        except BaseException:
            upload.busy = False
            raise
        # Whoever is cancelled here leaves the piece to be written to its end: the next one must not come in between.
        writing = asyncio.ensure_future(asyncio.to_thread(_append, upload, data))
        writing.add_done_callback(lambda done: _rest(upload, done))
        try:
            await asyncio.shield(writing)
        except FileNotFoundError:
            raise UnknownItem("the upload was given up", item=upload.id) from None

    async def take(self, upload: Upload, offset: int, pieces: AsyncIterator[bytes]) -> None:
        """What follows from this byte on, as it comes; what has come before an error stays. Raises as `append` does."""
        held = bytearray()
        async for piece in pieces:
            held += piece
            if len(held) >= PIECE:
                data, held = bytes(held), bytearray()
                await self.append(upload, offset, data)
                offset += len(data)
        await self.append(upload, offset, bytes(held))

    async def begin_part(self, upload: Upload) -> Upload:
        """A part of a file, which is to be appended to, and whose place `join` tells. Raises TooLarge."""
        if len(upload.parts) >= MOST_PARTS:
            raise TooLarge(f"an upload may have {MOST_PARTS:,} parts at most")
        identity = new_id("")
        path = upload.path.with_name(identity)
        # Room was made for all of the file when it was announced.
        part = replace(upload, id=identity, path=path, received=0, digest=hashlib.sha256(), parts={}, busy=False)
        upload.parts[identity], upload.touched = part, time.time()
        await asyncio.to_thread(_create, path)
        return part

    async def append_part(self, upload: Upload, part: Upload, data: bytes) -> None:
        """More of a part. Raises BadRequest: the parts are more than was announced."""
        if upload.size is not None and sum(p.received for p in upload.parts.values()) + len(data) > upload.size:
            raise BadRequest(f"the file was to have {upload.size} bytes; its parts have more")
        await self.append(part, part.received, data)
        upload.touched = time.time()

    def drop_part(self, upload: Upload, part: Upload) -> None:
        """Forget a part."""
        upload.parts.pop(part.id, None)
        part.path.unlink(missing_ok=True)

    async def join(self, upload: Upload, parts: Sequence[str]) -> str:
        """Put parts together, in this order; their MD5 in hexadecimal. Raises BadRequest: one of them is none; they
        are not the whole file.
        """
        if unknown := [name for name in parts if name not in upload.parts]:
            raise BadRequest(f"there is no part {unknown[0][:80]!r} of this upload", param="part_ids")
        found = [upload.parts[name] for name in parts]
        if upload.joining:  # the client asks again: that must not end what it asked for first
            raise BadRequest("the upload is being completed already")
        if len(set(parts)) < len(parts) or any(part.busy for part in found):
            raise BadRequest("each part must be there once, and whole", param="part_ids")
        if sum(part.received for part in found) != upload.size:
            raise BadRequest(f"the file was to have {upload.size} bytes; its parts have another number")
        digest, upload.joining = hashlib.md5(usedforsecurity=False), True
        try:
            for part in found:
                for offset in range(0, part.received, PIECE):
                    data = await asyncio.to_thread(_read, part.path, offset)
                    digest.update(data)
                    await self.append(upload, upload.received, data)
        except FileNotFoundError:
            raise UnknownItem("the upload was given up", item=upload.id) from None
        except BaseException:
            self.give_up(upload)
            raise
        return digest.hexdigest()

    async def finish(self, upload: Upload) -> FileRow:
        """All has come. Raises BadRequest: less than was announced, or the name was taken meanwhile; TooLarge."""
        if upload.size is not None and upload.received != upload.size:
            raise BadRequest(f"the file was to have {upload.size} bytes; {upload.received} have come")
        if upload.busy or self._uploads.get(upload.id) is not upload:
            raise BadRequest("the upload is being finished, or a piece of it is still being written")
        upload.busy = True
        try:
            return await self._keep(upload)
        finally:
            self.give_up(upload)

    async def _keep(self, upload: Upload) -> FileRow:
        now = time.time()
        try:
            blob = await self._store.blobs.adopt(upload.path)
        except FileNotFoundError:
            raise UnknownItem("the upload was given up", item=upload.id) from None
        row = FileRow(
            id=upload.file_id,
            owner=upload.owner,
            name=upload.name,
            media_type=upload.media_type,
            size=upload.received,
            digest=upload.digest.digest(),
            created=now,
            expires=now + self.lifetime(upload.lifetime),
            blob=blob,
            title=upload.title,
            purpose=upload.purpose,
        )
        try:
            await self._store.files.add(row)
        except BelljarError:
            await self._store.blobs.delete([blob])
            raise
        return row

    def give_up(self, upload: Upload) -> None:
        """Forget an upload; what is finished stays."""
        self._uploads.pop(upload.id, None)
        for each in (upload, *upload.parts.values()):
            each.path.unlink(missing_ok=True)

    def lifetime(self, wanted: float | None = None) -> float:
        """Seconds for which things are kept here, less where less is `wanted`."""
        return self._lifetime if wanted is None else min(wanted, self._lifetime)

    # --- in a conversation --------------------------------------------------------------------------------------------

    async def find(self, request: Request, ref: FileRef) -> FileRow:
        """The file that a part of a message names: "file-ID", "files/ID" or a URL that ends so.

        Raises BadRequest: there is none of that name.
        """
        _, slash, name = ref.uri.rstrip("/").rpartition("/")
        param = "file_uri" if slash else "file_id"
        names = [name, name.removeprefix("file-")] if slash else [name.removeprefix("file-")]
        for identity in dict.fromkeys(names):
            file = await self.get(request.owner, identity)
            if file is not None:
                return file
        raise BadRequest(f"there is no uploaded file {ref.uri[:200]!r}; it may have expired", param=param)

    async def parts(self, request: Request, ref: FileRef) -> tuple[Part, ...]:
        """What stands for an uploaded file in a message. Raises BadRequest: there is none of that name."""
        file = await self.find(request, ref)
        data, kind = await self.read(file), ref.media_type or file.media_type
        attached = File(name=file.name, media_type=kind, data=data)
        if not kind.startswith("image/"):
            return (attached,)
        picture = Image(media_type=kind, data=data)
        return (picture, attached) if request.builtin else (picture,)

    # --- bounds -------------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Forget all uploads that have not ended. Never raises."""
        for upload in list(self._uploads.values()):
            self.give_up(upload)

    async def _check_room(self, upload: Upload, size: int) -> None:
        """Raises TooLarge where a file may not have, or grow to, this size."""
        if size > self.max_file:
            raise TooLarge(f"a file may have {self.max_file:,} bytes at most")
        others = [other for other in self._uploads.values() if other is not upload]
        room = self._store.room
        bounds = (
            (upload.owner, room.owner_files_bytes, share_of(upload.owner, room.files)),
            (None, room.files_bytes, room.files),
        )
        for owner, most, most_files in bounds:
            held, files = await self._store.files.held(owner)
            coming = [max(other.received, other.size or 0) for other in others if owner in (None, other.owner)]
            if held + sum(coming) + size > most:
                raise TooLarge("there is no room for this file; delete others first")
            if files + len(coming) >= most_files:
                raise TooLarge("there is no room for more files; delete others first")

    def _sweep(self) -> None:
        now = time.time()
        for upload in [u for u in self._uploads.values() if u.touched + PATIENCE <= now and not u.busy]:
            self.give_up(upload)


def _taken(identity: str) -> BadRequest:
    return BadRequest(f"there is a file {identity!r} already", param="file.name")


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)


def _rest(upload: Upload, done: asyncio.Future[None]) -> None:
    upload.busy, upload.touched = False, time.time()
    if not done.cancelled():
        done.exception()  # whoever waits for it has it; else it is of no interest


def _read(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(PIECE)


def _append(upload: Upload, data: bytes) -> None:
    with upload.path.open("r+b") as file:
        file.seek(upload.received)
        file.write(data)
    upload.digest.update(data)
    upload.received += len(data)
