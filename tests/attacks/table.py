"""docs/attacks.md, from what a run has found."""

from __future__ import annotations

import os
from collections.abc import Iterable

from attacks.catalogue import ATTACKS, SECTIONS
from attacks.lanes import USERS, Lane
from attacks.model import Attack, Finding

HEAD = """# Attacks

Written by `scripts/attack` from an actual run, on Linux {kernel}; do not edit. The attacks are in `tests/attacks`, what
the walls are for in [security.md](security.md).

{count} attacks. Each is carried out from within a fresh sandbox, in every column on its own: a profile, and who runs
Belljar. After each the host must be alive and its canaries (files, processes, sockets, a neighbouring sandbox)
unchanged, and a fresh sandbox must work; at the end no process, control group, file or mount may be left.

- **holds**: what was seen is the observable (a regular expression), and the host was unaffected.
- **HOLE**: the attack succeeds, or has once; what is wrong is listed at the end.
- **FAILED**: something else was seen; the suite fails. *not run*: not possible where this run was made.

{totals}
"""
Row = dict[str, str]


def row(lane: Lane, attack: Attack, finding: Finding, hole: str | None) -> Row:
    """One cell of the table, as strings, so that it can travel between processes."""
    result = "*not run*" if finding.skipped else "**HOLE**" if hole else "holds" if finding.held else "**FAILED**"
    return {"attack": attack.name, "lane": str(lane), "result": result, "hole": hole or "", "note": finding.skipped}


def render(rows: Iterable[Row]) -> str:
    """The text of docs/attacks.md."""
    cells = {(row["attack"], row["lane"]): row for row in rows}
    lanes = list(dict.fromkeys(lane for _, lane in cells))
    known = {attack for attack, _ in cells}
    head = HEAD.format(kernel=_kernel(), count=len(known), totals=_totals(cells, lanes))
    parts = [head]
    for title, attacks in SECTIONS.items():
        lines = [
            _line(attack, [cells.get((attack.name, lane), {}) for lane in lanes])
            for attack in attacks
            if attack.name in known
        ]
        if lines:
            columns = ("name", "action", "observable", "wall", *map(_title, lanes))
            parts.append(f"## {title}\n\n" + _markdown([columns, ("---",) * len(columns), *lines]))
    parts.append(_holes(cells))
    return "\n".join(part for part in parts if part)


def _kernel() -> str:
    return ".".join(os.uname().release.split(".")[:2])


def _title(lane: str) -> str:
    profile, user = lane.split("-")
    return f"{profile}, {USERS[user]}"


def _totals(cells: dict[tuple[str, str], Row], lanes: list[str]) -> str:
    results = ("holds", "**HOLE**", "**FAILED**", "*not run*")
    lines = [("", *results), ("---",) * (len(results) + 1)]
    for lane in lanes:
        found = [row["result"] for (_, where), row in cells.items() if where == lane]
        lines.append((_title(lane), *(str(found.count(result)) for result in results)))
    return _markdown(lines)


def _line(attack: Attack, cells: list[Row]) -> tuple[str, ...]:
    results = (cell.get("result", "") for cell in cells)
    return (
        f"`{attack.name}`",
        attack.action,
        f"`{attack.observable}`" if attack.observable else "nothing",
        attack.wall,
        *results,
    )


def _holes(cells: dict[tuple[str, str], Row]) -> str:
    found: dict[tuple[str, str], list[str]] = {}
    for attack in ATTACKS:
        for (name, lane), cell in cells.items():
            if name == attack.name and cell["hole"] and cell["result"] == "**HOLE**":
                found.setdefault((name, cell["hole"]), []).append(_title(lane))
    lines = [f"- `{name}` ({'; '.join(lanes)}): {why}\n" for (name, why), lanes in found.items()]
    return "## Holes\n\n" + "".join(lines) if lines else ""


def _markdown(lines: Iterable[tuple[str, ...]]) -> str:
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
