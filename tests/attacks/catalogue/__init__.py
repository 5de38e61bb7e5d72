"""The catalogue: every attack, in sections."""

from __future__ import annotations

from dataclasses import replace

from attacks.catalogue import (
    files,
    gvisor,
    host_files,
    kernel,
    limits,
    neighbours,
    network,
    privileges,
    processes,
    protocol,
    randomness,
)
from attacks.model import Attack


def _with_gvisor(attack: Attack) -> Attack:
    if attack.name not in gvisor.SEES:
        return attack
    sees = {"full": attack.sees, "container": attack.sees} if isinstance(attack.sees, str) else dict(attack.sees)
    return replace(attack, sees=sees | {"gvisor": gvisor.SEES[attack.name]})


_WRITTEN: dict[str, tuple[Attack, ...]] = {
    "Files of the host": files.ATTACKS,
    "Files that the host reads and writes for its caller": host_files.ATTACKS,
    "Processes": processes.ATTACKS,
    "Privileges": privileges.ATTACKS,
    "Interfaces of the kernel": kernel.ATTACKS,
    "Network and sockets": network.ATTACKS,
    "Other sandboxes": neighbours.ATTACKS,
    "Random numbers": randomness.ATTACKS,
    "The session's protocol": protocol.ATTACKS,
    "Limits": limits.ATTACKS,
}
SECTIONS = {title: tuple(map(_with_gvisor, attacks)) for title, attacks in _WRITTEN.items()}
ATTACKS = tuple(attack for attacks in SECTIONS.values() for attack in attacks)
