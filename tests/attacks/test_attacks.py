"""Every attack of the catalogue, in every lane: action -> observable.

A lane is who runs Belljar (root, an ordinary user, root in an ordinary container) and the profile. Known holes
(`holes`) are expected to fail, and only they.
"""

from __future__ import annotations

import pytest

from attacks import lanes as all_lanes
from attacks.catalogue import ATTACKS
from attacks.holes import HOLES, RACES, maybe_hole
from attacks.lanes import Lane, Unavailable, Worker, Workers
from attacks.model import Attack, Finding
from attacks.table import row
from belljar.sandbox.backends import BACKENDS

LANES = all_lanes.lanes(list(BACKENDS))
CASES = [
    pytest.param(lane, attack, id=f"{lane}-{attack.name}")
    for lane in LANES
    for attack in ATTACKS
    if attack.profiles is None or lane.profile in attack.profiles
]


@pytest.mark.parametrize("lane", LANES, ids=str)
def test_lane_starts(lane: Lane, workers: Workers) -> None:
    """A lane may be missing where Belljar refuses the profile or this process cannot become the user, not otherwise."""
    try:
        workers.finding(lane, ATTACKS[0].name)
    except Unavailable as reason:
        if not (reason.refused or str(reason).startswith("cannot become")):
            raise
        pytest.skip(f"NOT TESTED: {lane}: {reason}")


@pytest.mark.parametrize(("lane", "attack"), CASES)
def test_attack(lane: Lane, attack: Attack, workers: Workers, record_property: pytest.RecordProperty) -> None:
    finding = carry_out(workers, lane, attack)
    hole, race = (maybe_hole(attack.name, finding.tags, table) for table in (HOLES, RACES))
    record_property("attack", row(lane, attack, finding, hole or race))
    if finding.skipped:
        pytest.skip(f"{lane}: {finding.skipped}")
    if (hole or race) and finding.faults:
        pytest.xfail(f"HOLE: {hole or race}: {finding.faults[0]}")
    assert not finding.faults, "\n".join(finding.faults)
    assert not hole, f"the wall holds: take {attack.name} ({hole}) out of holes.py"


def carry_out(workers: Workers, lane: Lane, attack: Attack) -> Finding:
    """The finding; skipped in a lane that does not start, whose reason `test_lane_starts` judges."""
    try:
        return workers.finding(lane, attack.name)
    except Unavailable as reason:
        return Finding(attack=attack.name, skipped=str(reason))


@pytest.mark.parametrize("lane", LANES, ids=str)
def test_nothing_is_left_behind(lane: Lane, workers: Workers) -> None:
    """After all attacks: no process, control group, file or mount."""
    try:
        left = workers.leftovers(lane)
    except Unavailable as reason:
        pytest.skip(str(reason))
    assert not left


def test_full_profile_is_refused_in_an_ordinary_container() -> None:
    with pytest.raises(
        Unavailable, match=r"wall '(user|mount) namespace' cannot be put up here: .*not permitted"
    ) as caught:
        Worker(Lane("docker", "full"))
    assert caught.value.refused


def test_catalogue_is_in_order() -> None:
    names = [attack.name for attack in ATTACKS]
    assert len(names) == len(set(names))
    assert HOLES.keys() | RACES.keys() <= set(names)
    assert len(names) >= 80
