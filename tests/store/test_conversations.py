"""Conversations: items in their order, apart by owner, bounded, expiring."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from belljar.errors import BadRequest, UnknownItem
from belljar.store.store import Store

from .places import HOUR, Place, conversation


def numbered(*numbers: int) -> list[tuple[str, bytes]]:
    return [(f"msg_{number}", b"%d" % number) for number in numbers]


async def test_what_is_kept_comes_back_equal(store: Store, place: Place) -> None:
    row = conversation(place.clock, metadata=b'{"a": "b"}', container="c1")
    await store.conversations.add(row)
    assert await store.conversations.get("ann", row.id) == row
    changed = replace(row, metadata=b"{}", container=None, expires=row.expires + 5)
    assert await store.conversations.update(changed)
    assert await store.conversations.get("ann", row.id) == changed


async def test_a_conversation_is_of_its_owner_alone(store: Store, place: Place) -> None:
    row = conversation(place.clock)
    await store.conversations.add(row)
    await store.conversations.append("ann", row.id, numbered(1))
    assert await store.conversations.get("bob", row.id) is None
    assert not await store.conversations.update(replace(row, owner="bob", metadata=b"bob's"))
    assert not await store.conversations.delete("bob", row.id)
    for asked in (
        store.conversations.append("bob", row.id, numbered(2)),
        store.conversations.page("bob", row.id),
        store.conversations.item("bob", row.id, "msg_1"),
        store.conversations.remove("bob", row.id, "msg_1"),
    ):
        with pytest.raises(UnknownItem):
            await asked
    assert [item.id for item in (await store.conversations.page("ann", row.id))[0]] == ["msg_1"]
    assert await store.conversations.get("ann", row.id) == row


async def test_items_come_in_pages_both_ways(store: Store, place: Place) -> None:
    row = conversation(place.clock)
    await store.conversations.add(row)
    await store.conversations.append("ann", row.id, numbered(0, 1, 2))
    await store.conversations.append("ann", row.id, numbered(3, 4), container="c2", expires=row.expires + 9)
    for ascending in (True, False):
        seen, after, more = [], None, True
        while more:
            page, more = await store.conversations.page("ann", row.id, after, 2, ascending)
            seen += [item.body for item in page]
            after = page[-1].id
        assert seen == [b"0", b"1", b"2", b"3", b"4"][:: 1 if ascending else -1]
    found = await store.conversations.get("ann", row.id)
    assert found == replace(row, container="c2", expires=row.expires + 9)
    assert await store.conversations.page("ann", row.id, "msg_4", ascending=True) == ([], False)
    with pytest.raises(UnknownItem):
        await store.conversations.page("ann", row.id, "msg_9")


async def test_items_are_found_and_removed(store: Store, place: Place) -> None:
    row = conversation(place.clock)
    await store.conversations.add(row)
    await store.conversations.append("ann", row.id, numbered(1, 2, 3))
    found = await store.conversations.item("ann", row.id, "msg_2")
    assert found is not None
    assert found.body == b"2"
    assert await store.conversations.remove("ann", row.id, "msg_2")
    assert not await store.conversations.remove("ann", row.id, "msg_2")
    assert await store.conversations.item("ann", row.id, "msg_2") is None
    await store.conversations.append("ann", row.id, numbered(2))
    assert [item.id for item in (await store.conversations.page("ann", row.id))[0]] == ["msg_2", "msg_3", "msg_1"]


async def test_an_id_is_taken_once(store: Store, place: Place) -> None:
    row, other = conversation(place.clock), conversation(place.clock)
    for each in (row, other):
        await store.conversations.add(each)
        await store.conversations.append("ann", each.id, numbered(1))
    for twins in (numbered(2, 1), numbered(3, 3)):
        with pytest.raises(BadRequest, match="already"):
            await store.conversations.append("ann", row.id, twins)
    assert len((await store.conversations.page("ann", row.id))[0]) == 1


async def test_appended_at_once_all_are_there(store: Store, place: Place) -> None:
    row = conversation(place.clock)
    await store.conversations.add(row)
    pairs = [numbered(2 * number, 2 * number + 1) for number in range(20)]
    await asyncio.gather(*(store.conversations.append("ann", row.id, pair) for pair in pairs))
    page, more = await store.conversations.page("ann", row.id, limit=100, ascending=True)
    assert not more
    assert [item.position for item in page] == list(range(40))
    bodies = [int(item.body) for item in page]
    assert all(bodies[i + 1] == bodies[i] + 1 for i in range(0, 40, 2))


async def test_deleted_and_expired_ones_are_gone_with_their_items(store: Store, place: Place) -> None:
    deleted, expired = conversation(place.clock), conversation(place.clock)
    for row in (deleted, expired):
        await store.conversations.add(row)
        await store.conversations.append("ann", row.id, numbered(1))
    assert await store.conversations.delete("ann", deleted.id)
    assert not await store.conversations.delete("ann", deleted.id)
    place.clock.now += HOUR
    for row in (deleted, expired):
        assert await store.conversations.get("ann", row.id) is None
        with pytest.raises(UnknownItem):
            await store.conversations.append("ann", row.id, numbered(2))
    await store.sweep()
    for table in ("conversations", "items"):
        count = await store._access.read(
            lambda c, table=table: c.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar()
        )
        assert count == 0
    held = await store._access.read(lambda c: c.exec_driver_sql("SELECT bytes, number FROM held").all())
    assert set(map(tuple, held)) == {(0, 0)}


async def test_who_holds_most_makes_room(place: Place) -> None:
    store = await place.open(conversations_bytes=10_000)
    rows = [conversation(place.clock, name) for name in ("bob", "ann", "ann")]
    for row in rows:
        place.clock.now += 1
        await store.conversations.add(replace(row, expires=place.clock.now + HOUR))
        await store.conversations.append(row.owner, row.id, [("msg_1", b"x" * 2000)])
    await store.conversations.append("ann", rows[2].id, [("msg_2", b"x" * 3000)])
    found = [await store.conversations.get(row.owner, row.id) is not None for row in rows]
    assert found == [True, False, True]
