"""The bare relay of `belljar bench server`: what an ordinary small proxy of Starlette and aiohttp costs.

Started as `python -m belljar.bench.server_relay UPSTREAM_URL`; prints its own base URL. It reads nothing of what it
passes on: the body goes to the upstream as it came, the answer comes back as it is, a stream piece by piece.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route


def create_app(upstream: str) -> Starlette:
    """A relay to this base URL."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as app.state.session:
            yield

    async def chat(request: Request) -> Response:
        session: aiohttp.ClientSession = request.app.state.session
        headers = {"content-type": request.headers.get("content-type", "application/json")}
        answer = await session.post(f"{upstream}/chat/completions", data=await request.body(), headers=headers)
        if answer.content_type == "text/event-stream":
            return StreamingResponse(_pieces(answer), answer.status, media_type=answer.content_type)
        async with answer:
            return Response(await answer.read(), answer.status, media_type=answer.content_type)

    return Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])], lifespan=lifespan)


async def _pieces(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async with answer:
        async for piece in answer.content.iter_any():
            yield piece


def main(upstream: str) -> None:
    """Serve on a free port of loopback until a signal comes."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        print(f"http://127.0.0.1:{listener.getsockname()[1]}/v1", flush=True)
        config = uvicorn.Config(
            create_app(upstream), loop="uvloop", http="httptools", access_log=False, log_level="warning"
        )
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1])
