"""The catalogue: every attack, in sections."""

from __future__ import annotations

from attacks.catalogue import (
    files,
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

SECTIONS: dict[str, tuple[Attack, ...]] = {
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
ATTACKS = tuple(attack for attacks in SECTIONS.values() for attack in attacks)
