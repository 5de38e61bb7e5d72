"""The upstream of `belljar bench server`: no model, no delay, always the same answer.

Started as `python -m belljar.bench.server_upstream`; prints its base URL. Asked with tools, it calls `python` with
print(1) first; the answer, in about ten pieces where it is streamed, comes in the next turn.
"""

from __future__ import annotations

import asyncio

import uvloop

from belljar.scripted.__main__ import serve
from belljar.scripted.scripts import ANSWER, code_then

CODE = "print(1)"

if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(code_then(CODE, ANSWER), 0))
