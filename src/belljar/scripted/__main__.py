"""A scripted upstream as a process: `python -m belljar.scripted --port 0 --script plain|code|slow`.

Prints its base URL on the first line of standard output, and serves until it is told to end (TERM or INT).
"""

from __future__ import annotations

import argparse
import asyncio
import signal

import uvloop

from belljar.scripted.scripts import Script, code_then, plain
from belljar.scripted.server import ScriptedUpstream

SLOW_SECONDS = 0.02  # between two of about ten chunks
SCRIPTS: dict[str, Script] = {
    "plain": plain(),
    "code": code_then("print(1)", "It printed 1."),
    "slow": plain(pause=SLOW_SECONDS),
}


async def serve(script: Script, port: int) -> None:
    """Serve on loopback until a signal comes."""
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with ScriptedUpstream(script, port=port, keep=False) as upstream:
        print(upstream.url, flush=True)
        await ended.wait()


def main() -> None:
    """Read the command line, and serve."""
    parser = argparse.ArgumentParser(prog="python -m belljar.scripted", description="An upstream without a model.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--script", choices=sorted(SCRIPTS), default="plain")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(SCRIPTS[arguments.script], arguments.port))


if __name__ == "__main__":
    main()
