"""A process with a pool under load, for a test to kill: `python server.py`. Says "loaded" once users are served."""

from __future__ import annotations

import asyncio

from belljar.sandbox.pool import Pool
from soak.load import under_load


async def main() -> None:
    async with Pool(preload=(), ready=8) as pool, under_load(pool, 8) as tally:
        while tally["ok"] < 50:
            await asyncio.sleep(0.05)
        print("loaded", flush=True)
        await asyncio.sleep(600)


if __name__ == "__main__":
    asyncio.run(main())
