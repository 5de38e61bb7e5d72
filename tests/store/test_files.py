"""Files of clients and of containers: whole, apart by owner, paged, bounded, gone with their contents."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from belljar.errors import BadRequest, TooLarge, UnknownItem
from belljar.store.rows import ContainerRow
from belljar.store.store import Store

from .places import HOUR, Place, blobs_in, contained, container, file


async def test_what_is_kept_comes_back_equal(store: Store, place: Place) -> None:
    row = await file(store, place.clock, data=b"a,b\n", title="Données \N{SNOWMAN}", purpose="user_data")
    await store.files.add(row)
    assert await store.files.get("ann", row.id) == row
    assert await store.blobs.read(row.blob) == b"a,b\n"
    assert await store.files.held("ann") == await store.files.held(None) == (4, 1)


async def test_a_file_is_of_its_owner_alone_even_with_the_same_id(store: Store, place: Place) -> None:
    anns = await file(store, place.clock, id="mine")
    await store.files.add(anns)
    assert await store.files.get("bob", "mine") is None
    assert not await store.files.delete("bob", "mine")
    assert await store.files.page("bob") == ([], False)
    bobs = await file(store, place.clock, "bob", id="mine", data=b"yy")
    await store.files.add(bobs)
    assert await store.files.get("ann", "mine") == anns
    assert await store.files.held("ann") == (1, 1)
    assert await store.files.held(None) == (3, 2)
    assert await store.files.delete("bob", "mine")
    assert await store.files.get("ann", "mine") == anns
    with pytest.raises(UnknownItem):
        await store.files.page("bob", after="mine")


async def test_files_come_in_pages_both_ways(store: Store, place: Place) -> None:
    rows = []
    for number in range(7):
        place.clock.now += number % 2  # some at the same time
        rows.append(await file(store, place.clock, id=f"f{number}", purpose="even" if number % 2 == 0 else "odd"))
        await store.files.add(rows[-1])
    for ascending in (True, False):
        seen, after, more = [], None, True
        while more:
            page, more = await store.files.page("ann", after, 3, ascending)
            seen += [row.id for row in page]
            after = page[-1].id
        assert seen == [row.id for row in rows][:: 1 if ascending else -1]
    assert [row.id for row in (await store.files.page("ann", purpose="odd"))[0]] == ["f5", "f3", "f1"]
    assert await store.files.page("ann", "f0", 3) == ([], False)


async def test_an_id_is_taken_once_but_free_again_when_expired(store: Store, place: Place) -> None:
    old = await file(store, place.clock, id="mine", expires=place.clock.now + 5)
    await store.files.add(old)
    new = await file(store, place.clock, id="mine", data=b"new", expires=place.clock.now + HOUR)
    with pytest.raises(BadRequest, match="already"):
        await store.files.add(new)
    place.clock.now += 5
    await store.files.add(new)
    assert await store.files.get("ann", "mine") == new
    assert blobs_in(store) == {new.blob}
    assert await store.files.held("ann") == (3, 1)


async def test_of_many_at_once_one_gets_the_id(store: Store, place: Place) -> None:
    rows = [await file(store, place.clock, id="mine") for _ in range(10)]
    done = await asyncio.gather(*(store.files.add(row) for row in rows), return_exceptions=True)
    assert [each for each in done if each is None] == [None]
    assert all(isinstance(each, BadRequest) for each in done if each is not None)
    assert await store.files.held(None) == (1, 1)


async def test_what_is_deleted_or_expired_has_no_content(store: Store, place: Place) -> None:
    deleted = await file(store, place.clock)
    expired = await file(store, place.clock, expires=place.clock.now + 5)
    kept = await file(store, place.clock)
    for row in (deleted, expired, kept):
        await store.files.add(row)
    assert await store.files.delete("ann", deleted.id)
    assert not await store.files.delete("ann", deleted.id)
    place.clock.now += 5
    assert await store.files.get("ann", expired.id) is None
    assert [row.id for row in (await store.files.page("ann"))[0]] == [kept.id]
    await store.sweep()
    assert blobs_in(store) == {kept.blob}
    assert await store.files.held(None) == (1, 1)
    with pytest.raises(FileNotFoundError):
        await store.blobs.read(deleted.blob)


@pytest.mark.parametrize(
    ("room", "sizes"),
    [
        ({"owner_files_bytes": 100}, {"ann": [60, 50]}),
        ({"files_bytes": 100}, {"ann": [60], "bob": [50]}),
        ({"files": 1}, {"ann": [1], "bob": [1]}),
    ],
)
async def test_what_is_too_much_is_refused(place: Place, room: dict[str, Any], sizes: dict[str, list[int]]) -> None:
    store = await place.open(**room)
    rows = [await file(store, place.clock, owner, b"x" * size) for owner in sizes for size in sizes[owner]]
    for row in rows[:-1]:
        await store.files.add(row)
    with pytest.raises(TooLarge):
        await store.files.add(rows[-1])
    assert await store.files.get(rows[-1].owner, rows[-1].id) is None
    await store.files.delete(rows[0].owner, rows[0].id)
    await store.files.add(rows[-1])


async def test_a_quarter_for_each_owner(place: Place) -> None:
    store = await place.open(files=8, containers=8)
    for owner, most in (("ann", 2), ("ben", 2), ("", 4)):
        for _ in range(most):
            await store.files.add(await file(store, place.clock, owner))
            await store.containers.add(container(place.clock, owner))
        if owner:  # who is the only one, as there are no keys, may have all
            with pytest.raises(TooLarge):
                await store.files.add(await file(store, place.clock, owner))
            with pytest.raises(TooLarge):
                await store.containers.add(container(place.clock, owner))
    assert (await store.files.held(None))[1] == 8


# --- in containers ----------------------------------------------------------------------------------------------------


async def kept(store: Store, place: Place, **changes: Any) -> ContainerRow:
    row = container(place.clock, **changes)
    await store.containers.add(row)
    return row


async def test_a_container_comes_back_equal_and_is_of_its_owner_alone(store: Store, place: Place) -> None:
    row = await kept(store, place, memory=4 << 30, executions=3, auto=True, settings=b'{"network": "none"}')
    assert await store.containers.get("ann", row.id) == row
    assert await store.containers.get("bob", row.id) is None
    assert not await store.containers.update(replace(row, owner="bob", name="bob's"))
    assert not await store.containers.delete("bob", row.id)
    assert await store.containers.page("bob") == ([], False)
    changed = replace(row, name="n", active=row.active + 5, idle=90.0, executions=4)
    assert await store.containers.update(changed)
    assert await store.containers.get("ann", row.id) == changed
    assert await store.containers.delete("ann", row.id)
    assert not await store.containers.update(changed)


async def test_containers_come_in_pages(store: Store, place: Place) -> None:
    rows = [await kept(store, place, name=f"n{number % 2}", id=f"c{number}") for number in range(5)]
    page, more = await store.containers.page("ann", limit=3)
    assert ([row.id for row in page], more) == (["c4", "c3", "c2"], True)
    page, more = await store.containers.page("ann", "c2", limit=3)
    assert ([row.id for row in page], more) == (["c1", "c0"], False)
    assert [row.id for row in (await store.containers.page("ann", ascending=True, name="n1"))[0]] == ["c1", "c3"]
    with pytest.raises(UnknownItem):
        await store.containers.page("bob", rows[0].id)


async def test_files_are_put_replaced_and_forgotten(store: Store, place: Place) -> None:
    box = await kept(store, place)
    first = [await contained(store, place.clock, box.id, path, data) for path, data in (("a", b"1"), ("b/c", b"22"))]
    await store.containers.put_files(box.id, first)
    assert sorted(row.path for row in await store.containers.files(box.id)) == ["a", "b/c"]
    second = [await contained(store, place.clock, box.id, "a", b"333", source="user", shown=True, created=2e6)]
    await store.containers.put_files(box.id, second, ["b/c", "never"])
    assert await store.containers.files(box.id) == second
    assert await store.containers.file(box.id, second[0].id) == second[0]
    assert await store.containers.file(box.id, first[0].id) is None
    assert blobs_in(store) == {second[0].blob}
    assert await store.containers.held("ann") == 3
    assert await store.containers.delete_file(box.id, second[0].id)
    assert not await store.containers.delete_file(box.id, second[0].id)
    assert blobs_in(store) == set()
    assert await store.containers.held(None) == 0


async def test_an_unchanged_file_can_be_put_again(store: Store, place: Place) -> None:
    box = await kept(store, place)
    row = await contained(store, place.clock, box.id, "a", b"1")
    await store.containers.put_files(box.id, [row])
    await store.containers.put_files(box.id, [replace(row, modified=9.0)])
    assert await store.blobs.read(row.blob) == b"1"
    assert await store.containers.held("ann") == 1


async def test_names_that_databases_refuse_are_replaced(store: Store, place: Place) -> None:
    box = await kept(store, place)
    rows = [await contained(store, place.clock, box.id, path) for path in ("a\udc80", "a\udc81", "n\0n")]
    await store.containers.put_files(box.id, rows)
    assert {row.path for row in await store.containers.files(box.id)} == {"a?", "n\N{REPLACEMENT CHARACTER}n"}
    assert blobs_in(store) == {rows[1].blob, rows[2].blob}


async def test_files_of_a_container_come_in_pages(store: Store, place: Place) -> None:
    box, other = await kept(store, place), await kept(store, place)
    rows = [await contained(store, place.clock, box.id, f"{n}", id=f"f{n}") for n in range(5)]
    await store.containers.put_files(box.id, rows)
    await store.containers.put_files(other.id, [await contained(store, place.clock, other.id, "x", id="f0")])
    page, more = await store.containers.page_files(box.id, limit=3)
    assert ([row.id for row in page], more) == (["f4", "f3", "f2"], True)
    page, more = await store.containers.page_files(box.id, "f2", limit=3)
    assert ([row.id for row in page], more) == (["f1", "f0"], False)
    assert len(await store.containers.files(other.id)) == 1
    with pytest.raises(UnknownItem):
        await store.containers.page_files(other.id, "f3")


async def test_bounds_hold_for_files_of_both_kinds_together(place: Place) -> None:
    store = await place.open(owner_files_bytes=100, container_files=2)
    box = await kept(store, place)
    await store.files.add(await file(store, place.clock, data=b"x" * 60))
    big = await contained(store, place.clock, box.id, "a", b"x" * 50)
    with pytest.raises(TooLarge):
        await store.containers.put_files(box.id, [big])
    assert await store.containers.files(box.id) == []
    assert await store.containers.held("ann") == 0
    small = [await contained(store, place.clock, box.id, path) for path in "abc"]
    with pytest.raises(TooLarge, match="2 files"):
        await store.containers.put_files(box.id, small)
    await store.containers.put_files(box.id, small[:2])
    with pytest.raises(TooLarge):
        await store.files.add(await file(store, place.clock, data=b"x" * 39))


async def test_an_idle_container_expires_and_is_forgotten_later(place: Place) -> None:
    store = await place.open(forget=HOUR)
    box, used = await kept(store, place), await kept(store, place)
    await store.containers.put_files(box.id, [await contained(store, place.clock, box.id, "a")])
    place.clock.now += 60
    found = await store.containers.get("ann", box.id)
    assert found == replace(box, expired=True)
    assert [row.expired for row in (await store.containers.page("ann"))[0]] == [True, True]
    await store.containers.update(replace(used, active=place.clock.now))
    place.clock.now += 60
    await store.sweep()
    assert await store.containers.files(box.id) == []
    assert blobs_in(store) == set()
    assert await store.containers.held(None) == 0
    with pytest.raises(UnknownItem):
        await store.containers.put_files(box.id, [await contained(store, place.clock, box.id, "a")])
    await store.containers.update(replace(box, active=place.clock.now))  # too late
    found = await store.containers.get("ann", box.id)
    assert found is not None
    assert found.expired
    place.clock.now += 2 * HOUR
    await store.sweep()
    assert await store.containers.get("ann", box.id) is None


async def test_a_deleted_container_takes_its_files_along(store: Store, place: Place) -> None:
    box = await kept(store, place)
    await store.containers.put_files(box.id, [await contained(store, place.clock, box.id, "a")])
    assert await store.containers.delete("ann", box.id)
    assert not await store.containers.delete("ann", box.id)
    assert blobs_in(store) == set()
    assert await store.containers.held("ann") == 0
    with pytest.raises(UnknownItem):
        await store.containers.put_files(box.id, [])
    assert not await store.containers.delete_file(box.id, "f")


async def test_expired_containers_make_room_for_new_ones(place: Place) -> None:
    store = await place.open(containers=8)  # two for each owner
    old, _ = await kept(store, place, idle=5.0), await kept(store, place)
    with pytest.raises(TooLarge):
        await kept(store, place)
    place.clock.now += 66
    await store.sweep()
    new = await kept(store, place)
    assert await store.containers.get("ann", old.id) is None
    assert await store.containers.get("ann", new.id) == new


async def test_put_at_once_nothing_is_lost(store: Store, place: Place) -> None:
    box = await kept(store, place)
    rows = [await contained(store, place.clock, box.id, f"{n % 5}") for n in range(20)]
    await asyncio.gather(*(store.containers.put_files(box.id, [row]) for row in rows))
    left = await store.containers.files(box.id)
    assert sorted(row.path for row in left) == list("01234")
    assert blobs_in(store) == {row.blob for row in left}
    assert await store.containers.held("ann") == 5
