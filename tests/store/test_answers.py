"""Answers: whole, apart by owner, chained, leased, bounded, expiring."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from belljar.errors import UnknownItem
from belljar.store.store import Store

from .places import HOUR, Place, answer


async def test_what_is_kept_comes_back_equal(store: Store, place: Place) -> None:
    row = answer(
        place.clock, previous=None, conversation="c1", container="d2", body=bytes(range(256)), events=b"\0\1", lease=7.5
    )
    await store.answers.add(row)
    assert await store.answers.get("ann", row.id) == row


async def test_an_answer_is_of_its_owner_alone(store: Store, place: Place) -> None:
    row = answer(place.clock)
    await store.answers.add(row)
    assert await store.answers.get("bob", row.id) is None
    assert await store.answers.get("", row.id) is None
    assert not await store.answers.delete("bob", row.id)
    assert not await store.answers.save(replace(row, owner="bob", events=b"bob's"))
    with pytest.raises(UnknownItem):
        await store.answers.chain("bob", row.id)
    assert await store.answers.get("ann", row.id) == row


async def test_a_chain_crosses_no_owner(store: Store, place: Place) -> None:
    first = answer(place.clock)
    stolen = answer(place.clock, "bob", previous=first.id)
    await store.answers.add(first)
    await store.answers.add(stolen)
    with pytest.raises(UnknownItem):
        await store.answers.chain("bob", stolen.id)


async def test_save_keeps_what_was_written_meanwhile(store: Store, place: Place) -> None:
    row = answer(place.clock, lease=place.clock.now + 60)
    await store.answers.add(row)
    later = replace(row, events=b"x" * 100_000, ended=True, container="c9", lease=0.0)
    assert await store.answers.save(later)
    assert await store.answers.get("ann", row.id) == later


async def test_a_deleted_answer_is_not_saved(store: Store, place: Place) -> None:
    row = answer(place.clock)
    await store.answers.add(row)
    assert await store.answers.delete("ann", row.id)
    assert not await store.answers.delete("ann", row.id)
    assert not await store.answers.save(replace(row, events=b"late"))
    assert await store.answers.get("ann", row.id) is None
    assert await store.answers.count() == 0


async def test_a_chain_is_the_oldest_first(store: Store, place: Place) -> None:
    rows, previous = [], None
    for _ in range(5):
        row = answer(place.clock, previous=previous)
        await store.answers.add(row)
        rows.append(row)
        previous = row.id
    assert await store.answers.chain("ann", rows[-1].id) == rows
    assert await store.answers.chain("ann", rows[1].id) == rows[:2]
    await store.answers.delete("ann", rows[2].id)
    with pytest.raises(UnknownItem, match=rows[2].id):
        await store.answers.chain("ann", rows[-1].id)
    assert await store.answers.chain("ann", rows[1].id) == rows[:2]


async def test_an_expired_answer_is_not_found_and_goes(store: Store, place: Place) -> None:
    brief, lasting = answer(place.clock, expires=place.clock.now + 10), answer(place.clock)
    for row in (brief, lasting):
        await store.answers.add(replace(row, ended=True))
    place.clock.now += 10
    assert await store.answers.get("ann", brief.id) is None
    assert not await store.answers.delete("ann", brief.id)
    await store.sweep()
    assert await store.answers.count() == 1
    assert await store.answers.get("ann", lasting.id) is not None


async def test_touched_answers_stay(store: Store, place: Place) -> None:
    row = answer(place.clock, ended=True)
    await store.answers.add(row)
    await store.answers.touch([row.id], place.clock.now + 2 * HOUR)
    await store.answers.touch([row.id], place.clock.now + 1)  # no less than before
    place.clock.now += 1.5 * HOUR
    await store.sweep()
    assert await store.answers.get("ann", row.id) is not None


async def test_what_is_being_written_stays_while_its_lease_is_renewed(store: Store, place: Place) -> None:
    row = answer(place.clock, lease=place.clock.now + 60)
    await store.answers.add(row)
    place.clock.now += 2 * HOUR
    await store.answers.renew([row.id], place.clock.now + 60)
    await store.sweep()
    assert await store.answers.count() == 1
    place.clock.now += 61
    await store.sweep()
    assert await store.answers.count() == 0


async def test_who_holds_most_makes_room(place: Place) -> None:
    store = await place.open(answers_bytes=20_000)
    ann = [answer(place.clock, "ann", ended=True, events=b"x" * 3000) for _ in range(4)]
    bob = answer(place.clock, "bob", ended=True, events=b"x" * 3000)
    for row in (bob, *ann):
        place.clock.now += 1
        await store.answers.add(replace(row, expires=place.clock.now + HOUR))
    assert await store.answers.count() == 5
    await store.answers.add(answer(place.clock, "cat", events=b"x" * 3000))
    assert await store.answers.get("bob", bob.id) is not None
    assert [await store.answers.get("ann", row.id) is None for row in ann] == [True, False, False, False]


async def test_room_is_made_when_an_answer_grows_and_by_number(place: Place) -> None:
    store = await place.open(answers_bytes=10_000, answers=3)
    old = answer(place.clock, ended=True)
    await store.answers.add(old)
    place.clock.now += 1
    growing = answer(place.clock, lease=place.clock.now + 60)
    await store.answers.add(growing)
    assert await store.answers.save(replace(growing, events=b"x" * 9_500))
    assert await store.answers.get("ann", old.id) is None
    assert await store.answers.get("ann", growing.id) is not None  # it is being written
    assert await store.answers.save(replace(growing, events=b""))
    for _ in range(5):
        place.clock.now += 1
        await store.answers.add(answer(place.clock, ended=True))
    assert await store.answers.count() == 3


async def test_totals_stay_exact(store: Store, place: Place) -> None:
    rows = [answer(place.clock, name, ended=True, body=b"b" * size) for name, size in (("ann", 5), ("bob", 70))]
    for row in rows:
        await store.answers.add(row)
    await store.answers.save(replace(rows[0], events=b"12345"))
    await store.answers.delete("bob", rows[1].id)
    place.clock.now += 2 * HOUR
    await store.sweep()
    held = await store._access.read(lambda c: c.exec_driver_sql("SELECT bytes, number FROM held").all())
    assert set(map(tuple, held)) == {(0, 0)}


async def test_many_at_once(store: Store, place: Place) -> None:
    rows = [answer(place.clock, f"owner {number % 7}", events=b"%d" % number) for number in range(100)]
    await asyncio.gather(*(store.answers.add(row) for row in rows))
    await asyncio.gather(*(store.answers.save(replace(row, ended=True)) for row in rows))
    found = await asyncio.gather(*(store.answers.get(row.owner, row.id) for row in rows))
    assert found == [replace(row, ended=True) for row in rows]
    assert await store.answers.count() == 100


async def test_one_that_fails_takes_no_other_with_it(store: Store, place: Place) -> None:
    rows = [answer(place.clock) for _ in range(20)]
    await store.answers.add(rows[0])
    done = await asyncio.gather(*(store.answers.add(row) for row in rows), return_exceptions=True)
    assert [isinstance(each, Exception) for each in done] == [True] + [False] * 19
    assert await store.answers.count() == 20


@pytest.mark.parametrize("odd", ["", "\0", "a\0b", "\ud800", "'; DROP TABLE answers; --", "x" * 10_000, "é"])
async def test_odd_ids_are_not_found(store: Store, odd: str) -> None:
    assert await store.answers.get("ann", odd) is None
    assert await store.conversations.get("ann", odd) is None
    assert await store.files.get("ann", odd) is None
    assert await store.containers.get("ann", odd) is None
    assert not await store.answers.delete(odd, odd)
