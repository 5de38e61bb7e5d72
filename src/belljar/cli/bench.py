"""`belljar bench`: measurements on this host, beside what other ways of running Python cost here.

Promises: standard output carries the report only; progress goes to standard error. Interrupted, it leaves nothing.
"""

from __future__ import annotations

import asyncio
import json as json_text
import signal
import time
from typing import Any

import click

from belljar.bench.report import as_json, as_text
from belljar.bench.sandbox import SECTIONS, Report, Settings, measure
from belljar.cli.options import Exit, Positive, exit_table, image_option, profile_option

QUICK: dict[str, Any] = {"rounds": 2, "seconds": 1.5, "alive": 20, "warm_up": False}
EXITS = {
    Exit.OK: "measured, whether the targets were met or not",
    Exit.USAGE: "wrong usage",
    Exit.HOST: "this host cannot give the sandbox asked for, or a wall was missing in one",
    Exit.INTERRUPTED: "Ctrl-C ended it",
}
EPILOG = f"""\b
Examples:
  belljar bench sandbox                       everything, in about two minutes
  belljar bench sandbox --quick               everything, roughly, in seconds
  belljar bench sandbox --only print --only run
  belljar bench sandbox --alive 500 --json > figures.json

{exit_table(EXITS)}
"""


@click.group("bench", context_settings={"help_option_names": ["-h", "--help"]})
def bench() -> None:
    """Measure sandboxes on this host."""


@bench.command("sandbox", epilog=EPILOG)
@click.option("--json", "json", is_flag=True, help="Print one JSON object.")
@click.option(
    "--rounds", type=Positive(int), metavar="N", help="Turns of each contestant, side by side.  [default: 15; quick: 2]"
)
@click.option("--seconds", type=Positive(float), metavar="N", help="Of each sustained load.  [default: 10; quick: 1.5]")
@click.option(
    "--alive", type=Positive(int), metavar="N", help="Sandboxes to keep alive at once.  [default: 100; quick: 20]"
)
@click.option("--quick", is_flag=True, help="Fewer of everything: for a look, not for figures to keep.")
@click.option("--only", type=click.Choice(SECTIONS), multiple=True, help="Measure this part only; may be given again.")
@profile_option
@image_option
def sandbox(json: bool, quick: bool, only: tuple[str, ...], profile: str, image: str, **numbers: Any) -> int:
    """Measure fresh sandboxes beside bare Python, bubblewrap, gVisor and a Jupyter kernel: time, CPU, memory.

    Contestants take turns, so that what else the machine does hits all alike; ratios hold from machine to machine,
    milliseconds do not. A contestant that is not installed is named as such. docs/benchmarks.md says how to read it.
    """
    given = (QUICK if quick else {}) | {name: number for name, number in numbers.items() if number is not None}
    settings = Settings(image=image, profile=profile, only=only or SECTIONS, **given)
    report = asyncio.run(_measure(settings))
    click.echo(json_text.dumps(as_json(report), indent=1) if json else as_text(report))
    return Exit.OK if all(done.walls_up == done.walls_seen for done in report.throughput.values()) else Exit.HOST


async def _measure(settings: Settings) -> Report:
    start = time.monotonic()
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await measure(settings, lambda line: click.echo(f"[{time.monotonic() - start:5.1f} s] {line}", err=True))
    except asyncio.CancelledError:
        raise click.Abort from None
