"""`belljar check`: which walls this host gives, what is missing and what would give it, and a sandbox in each profile.

Promises: a profile is called available only after a sandbox of it has run code, now. Exit code 0 when the profile that
was asked about is available, 3 when not.
"""

from __future__ import annotations

import json as json_text
from dataclasses import asdict
from textwrap import fill
from typing import Any

import click

from belljar.cli.options import Exit, exit_table, image_option, profile_option
from belljar.sandbox.backends import BACKENDS
from belljar.sandbox.probe import Finding, State, Trial, find_all, try_profile

MARKS = {State.YES: "yes", State.NO: "NO", State.UNKNOWN: "?"}
EXITS = {
    Exit.OK: "the profile asked about (full by default) is available",
    Exit.USAGE: "wrong usage",
    Exit.HOST: "it is not",
}
EPILOG = f"""\b
Examples:
  belljar check
  belljar check --profile container
  belljar check --json | jq .profiles.full.available

{exit_table(EXITS)}
"""


@click.command("check", epilog=EPILOG)
@profile_option
@image_option
@click.option("--json", "json", is_flag=True, help="Print one JSON object.")
def check(profile: str, image: str, json: bool) -> int:
    """Say which walls this host gives, and try them.

    Each facility is tried in a process of its own where that is possible; then each profile makes one sandbox and runs
    print(1) in it. Nothing is changed and nothing is left behind.
    """
    findings = find_all()  # first: it forks, so no thread may run yet
    trials = {name: try_profile(name, image) for name in BACKENDS}
    available = trials[profile].available
    report = {"asked": profile, "available": available, "image": image, "findings": findings, "profiles": trials}
    click.echo(_as_json(report) if json else _as_text(findings, trials))
    return Exit.OK if available else Exit.HOST


def missing(findings: list[Finding], profile: str) -> list[str]:
    """The names of what a profile needs and this host was seen not to give."""
    return [found.name for found in findings if profile in found.needed_by and found.state is not State.YES]


def _as_json(report: dict[str, Any]) -> str:
    findings, trials = report["findings"], report["profiles"]
    profiles = {name: asdict(trial) | {"missing": missing(findings, name)} for name, trial in trials.items()}
    return json_text.dumps(report | {"findings": [asdict(found) for found in findings], "profiles": profiles}, indent=1)


def _as_text(findings: list[Finding], trials: dict[str, Trial]) -> str:
    width = max(len(found.name) for found in findings)
    lines = [f"{'':{width}}  {'':3}  {'known by':9}  needed by"]
    for found in findings:
        needed = "+".join(found.needed_by) or "-"
        lines.append(
            f"{found.name:{width}}  {MARKS[found.state]:3}  {found.basis:9}  {needed:14}  {found.detail}".rstrip()
        )
        if found.remedy:
            lines.append(f"{'':{width}}       → {found.remedy}")
    lines.append("")
    lines += [_verdict(trial, missing(findings, name)) for name, trial in trials.items()]
    return "\n".join(lines)


def _verdict(trial: Trial, lacking: list[str]) -> str:
    head = f"profile {trial.profile}: "
    if trial.available:
        return f"{head}available; a sandbox ran print(1) in {trial.seconds:.2f} s (limits: {trial.limiter})"
    reason = trial.reason + (f"; missing: {', '.join(lacking)}" if lacking else "")
    return fill(f"{head}refused because {reason}", 120, subsequent_indent="  ", break_long_words=False)
