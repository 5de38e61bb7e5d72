"""`belljar serve`: the server, from options to a running process.

Promises: every option is a field of settings somewhere, and exists once; what cannot be (an address open to others
without keys, a port that is taken, a key file without keys) is told before anything is started; what was found and how
is said at the start, without secrets. Standard output stays empty.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import click

from belljar import __version__
from belljar.cli.fields import field_options, take_fields, usage_error
from belljar.cli.options import PROFILE_WARNINGS, Exit, exit_table, sandbox_options, take_limits
from belljar.cli.sources import Sources, read_sources, systems
from belljar.loop import Budget
from belljar.sandbox.pool import Pool
from belljar.server import logs
from belljar.server.app import App
from belljar.server.keys import Keys, is_shared, read_keys
from belljar.server.serve import listen, run, url_of
from belljar.server.service import Service, open_store
from belljar.server.settings import Keep, Settings, Stock
from belljar.store.store import Store
from belljar.upstream.catalog import Catalog, UpstreamState
from belljar.upstream.discover import find_upstreams

log = logging.getLogger(__name__)

NO_UPSTREAM = "none was found; belljar/verbatim runs the code that it is sent"
LIST_SECONDS = 5.0  # that the start waits for the list of models, to say how many there are
BUDGET_NAMES = {"calls": "max_calls", "turns": "max_turns", "seconds": "request_seconds", "told": "max_told"}
EXITS = {
    Exit.OK: "stopped by SIGTERM, or by one Ctrl-C",
    Exit.USAGE: "wrong usage; nothing was started",
    Exit.HOST: "this host cannot give what was asked for: the port, the sandbox, the image",
    Exit.INTERRUPTED: "stopped at once, by a second Ctrl-C",
}
EPILOG = f"""\b
Examples:
  belljar serve                                     models of a local engine, or of a provider whose key is set
  belljar serve --upstream http://127.0.0.1:8000/v1
  belljar serve --map groq/compound=Qwen/Qwen3-32B  which model a name stands for
  BELLJAR_SERVE_API_KEY=... belljar serve --host 0.0.0.0

\b
More than one upstream, and what a model can do, is said in the configuration file:
  [upstreams.local]
  url = "http://127.0.0.1:8000/v1"
  key_env = "LOCAL_KEY"
  [models."groq/compound"]
  upstream = "local"
  model = "Qwen/Qwen3-32B"

{exit_table(EXITS)}
"""


@click.command("serve", epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--upstream",
    multiple=True,
    metavar="URL",
    help="Where models are: a server that speaks OpenAI chat completions, as http://127.0.0.1:8000/v1. May be given "
    "again.  [default: a local engine, or a provider whose key is in the environment]",
)
@click.option(
    "--upstream-key",
    metavar="KEY",
    help="The key for --upstream. Other users of this host see command lines: better BELLJAR_SERVE_UPSTREAM_KEY in the "
    "environment, or key_env in the configuration.",
)
@click.option(
    "--map", "maps", multiple=True, metavar="NAME=MODEL", help="Another name for a model; may be given again."
)
@field_options(Settings)
@field_options(Stock)
@field_options(Budget, BUDGET_NAMES)
@field_options(Keep)
@sandbox_options
@click.pass_context
def serve(
    ctx: click.Context,
    /,
    upstream: tuple[str, ...],
    upstream_key: str | None,
    maps: tuple[str, ...],
    profile: str,
    image: str,
    **options: Any,
) -> int:
    """Serve models, with a code interpreter that runs here.

    Clients of OpenAI, Groq, Gemini and Qwen need a new base URL and nothing else. Without an upstream, the built-in
    model belljar/verbatim runs the code that it is sent.
    """
    settings = take_fields(Settings, options)
    stock = take_fields(Stock, options)
    budget = take_fields(Budget, options, BUDGET_NAMES)
    keep = take_fields(Keep, options)
    limits = take_limits(options)
    try:
        settings.check_exposure()
        sources = read_sources(upstream, upstream_key, maps, ctx.obj or {}, os.environ)
        if sources.upstreams:
            Catalog(sources.upstreams, sources.models, systems=systems())  # now: what is wrong is told at once
    except ValueError as error:
        raise usage_error(error) from None
    keys = read_keys(settings)
    logs.configure(settings.log_format, settings.log_level)
    sockets = listen(settings.host, settings.port)
    catalog = make_catalog(sources)
    pool = Pool(image, limits=limits, profile=profile, **vars(stock))
    warn(settings, profile)
    store = open_store(keep)
    announcement = Announcement(settings, keys, url_of(sockets[0], settings.host), catalog, pool, store)
    return run(Service(catalog, pool, budget, keep, store), settings, keys, sockets, announcement.say)


def make_catalog(sources: Sources) -> Catalog:
    """All models, of the upstreams given or found. Raises UsageError: names that do not go together."""
    upstreams = sources.upstreams or asyncio.run(find_upstreams(os.environ))
    try:
        return Catalog(upstreams, sources.models, systems=systems())
    except ValueError as error:
        raise usage_error(error) from None


# --- what is said at the start ----------------------------------------------------------------------------------------


def warn(settings: Settings, profile: str) -> None:
    """Say what is weaker than it could be."""
    if profile in PROFILE_WARNINGS:
        log.warning(PROFILE_WARNINGS[profile])
    if settings.api_keys_file and is_shared(settings.api_keys_file):
        log.warning("%s can be read by other users of this host", settings.api_keys_file)


@dataclass(frozen=True)
class Announcement:
    """What a person wants to know when the server runs: lines on standard error, or one record of the JSON log."""

    settings: Settings
    keys: Keys
    url: str
    catalog: Catalog
    pool: Pool
    store: Store

    async def say(self, app: App) -> None:
        """Everything, when requests are answered."""
        count = None
        with suppress(TimeoutError):
            async with asyncio.timeout(LIST_SECONDS):
                count = len(await self.catalog.list())
        upstreams = [_describe(state) for state in self.catalog.states]
        facts = self.pool.facts
        if self.settings.log_format == "json":
            fields = {"url": self.url, "upstreams": upstreams, "models": count, "default": self.catalog.default}
            fields |= {
                "keys": len(self.keys),
                "profile": facts["profile"],
                "max_sandboxes": facts["max"],
                "store": self.store.place,
            }
            logs.tell("serving", fields)
            return
        keys = f"API keys: {len(self.keys)}" if self.keys else "no API key needed: only this machine can connect"
        lines = (
            f"belljar {__version__} serves at {self.url}",
            *(f"  upstream   {upstream}" for upstream in upstreams or [NO_UPSTREAM]),
            f"  models     {count}; by default {self.catalog.default}",
            f"  sandboxes  profile {facts['profile']}, at most {facts['max']}",
            f"  store      {self.store.place}",
            f"  access     {keys}",
            f"  base URLs  {self.url} for Groq's SDKs, {self.url}/v1 for OpenAI's",
        )
        click.echo("\n".join(lines), err=True)


def _describe(state: UpstreamState) -> str:
    """An upstream, for people."""
    what = state.error or (f"{state.models} models" if state.models is not None else "it gives no list of models")
    return f"{state.name} at {state.url} ({state.origin}): {what}"
