"""`belljar bench`: measurements on this host, beside what other ways of doing the same cost here.

Promises: standard output carries the report only; progress goes to standard error. Interrupted, it leaves nothing.
"""

from __future__ import annotations

import asyncio
import json as json_text
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click

from belljar.bench import server as server_bench
from belljar.bench import server_contestants, server_report
from belljar.bench import store as store_bench
from belljar.bench.report import as_json, as_text
from belljar.bench.sandbox import SECTIONS, Say, Settings, measure
from belljar.cli.options import Exit, Positive, exit_table, image_option, profile_option

Report = TypeVar("Report")

QUICK: dict[str, Any] = {"rounds": 2, "seconds": 1.5, "alive": 20, "warm_up": False}
QUICK_SERVER: dict[str, Any] = {"rounds": 2, "seconds": 0.1, "warm_up": False}
QUICK_STORE: dict[str, Any] = {"rounds": 2, "answers": 600}
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


SERVER_EPILOG = f"""\b
Examples:
  belljar bench server                        everything, in about three minutes
  belljar bench server --quick                everything, roughly, in half a minute
  belljar bench server --only direct --only belljar --clients 1
  belljar bench server --only dialects        other dialects beside chat completions
  belljar bench server --json > figures.json

{exit_table(EXITS | {Exit.HOST: "a server did not start here"})}
"""

STORE_EPILOG = f"""\b
Examples:
  belljar bench store                         ten thousand answers, in about two minutes
  belljar bench store --quick                 a few hundred, in some seconds
  belljar bench store --answers 100000 --json > figures.json

{exit_table(EXITS | {Exit.HOST: "a server did not start here, or gave a wrong answer"})}
"""


@click.group("bench", context_settings={"help_option_names": ["-h", "--help"]})
def bench() -> None:
    """Measure sandboxes, the server and its store on this host."""


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
    report = asyncio.run(_measure(lambda say: measure(settings, say)))
    click.echo(json_text.dumps(as_json(report), indent=1) if json else as_text(report))
    return Exit.OK if all(done.walls_up == done.walls_seen for done in report.throughput.values()) else Exit.HOST


@bench.command("server", epilog=SERVER_EPILOG)
@click.option("--json", "json", is_flag=True, help="Print one JSON object.")
@click.option("--rounds", type=Positive(int), metavar="N", help="Turns of each contestant.  [default: 6; quick: 2]")
@click.option(
    "--seconds", type=Positive(float), metavar="N", help="Of each contestant's turn.  [default: 0.5; quick: 0.1]"
)
@click.option(
    "--clients",
    type=click.Choice([str(count) for count in server_contestants.CLIENTS]),
    multiple=True,
    help="Measure with so many clients only; may be given again.",
)
@click.option("--quick", is_flag=True, help="Fewer of everything: for a look, not for figures to keep.")
@click.option(
    "--only",
    type=click.Choice(server_contestants.SECTIONS),
    multiple=True,
    help="Measure this part only; may be given again.",
)
@profile_option
@image_option
def server(
    json: bool, quick: bool, only: tuple[str, ...], clients: tuple[str, ...], profile: str, image: str, **numbers: Any
) -> int:
    """Measure what the server adds to a chat, and a chat with code: beside a bare relay, and no server at all.

    The model is a script without delay. Contestants take turns, so that what else the machine does hits all alike.
    Every answer is checked; one that is wrong or missing is told and counted. docs/benchmarks.md says how to read it.
    """
    given = (QUICK_SERVER if quick else {}) | {name: number for name, number in numbers.items() if number is not None}
    counts = tuple(int(count) for count in clients) or server_contestants.CLIENTS
    settings = server_bench.Settings(
        image=image, profile=profile, only=only or server_contestants.SECTIONS, clients=counts, **given
    )
    if not any(server_bench.plan(settings)):
        raise click.UsageError("nothing to measure: this part is of one client only")
    report = asyncio.run(_measure(lambda say: server_bench.measure(settings, say)))
    click.echo(json_text.dumps(server_report.as_json(report), indent=1) if json else server_report.as_text(report))
    return Exit.OK


@bench.command("store", epilog=STORE_EPILOG)
@click.option("--json", "json", is_flag=True, help="Print one JSON object.")
@click.option("--answers", type=Positive(int), metavar="N", help="Answers to keep.  [default: 10000; quick: 600]")
@click.option("--rounds", type=Positive(int), metavar="N", help="Turns of each store.  [default: 20; quick: 2]")
@click.option("--quick", is_flag=True, help="Fewer of everything: for a look, not for figures to keep.")
@profile_option
@image_option
def store(json: bool, quick: bool, profile: str, image: str, **numbers: Any) -> int:
    """Measure what a full store costs: a kept answer from among thousands beside the only one, and the memory.

    Two servers take turns, so that what else the machine does hits both alike. docs/benchmarks.md says how to read it.
    """
    given = (QUICK_STORE if quick else {}) | {name: number for name, number in numbers.items() if number is not None}
    settings = store_bench.Settings(image=image, profile=profile, **given)
    report = asyncio.run(_measure(lambda say: store_bench.measure(settings, say)))
    click.echo(json_text.dumps(store_bench.as_json(report), indent=1) if json else store_bench.as_text(report))
    return Exit.OK


async def _measure(work: Callable[[Say], Awaitable[Report]]) -> Report:
    start = time.monotonic()
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await work(lambda line: click.echo(f"[{time.monotonic() - start:5.1f} s] {line}", err=True))
    except asyncio.CancelledError:
        raise click.Abort from None
