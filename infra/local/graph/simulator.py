"""Starts the Graph simulator: in this loop for tests, or from a command line."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from infra.local.graph import arguments, seeded, world_file
from infra.local.graph.app import GraphApp
from infra.local.graph.budgets import KINDS
from infra.local.graph.clock import Clock
from infra.local.graph.http_server import listening
from infra.local.graph.journal import Journal
from infra.local.graph.replay import repeat
from infra.local.graph.seeded import Shape
from infra.local.graph.world import World


@dataclass(frozen=True, kw_only=True)
class Options:
    """Everything the command line can say."""

    shape: Shape = field(default_factory=Shape)
    world: Path | None = None
    now: datetime | None = None
    time_scale: float = 1.0
    budgets: dict[str, int] = field(default_factory=dict)
    faults: tuple[dict[str, Any], ...] = ()
    public_url: str = ""
    time_paging: bool = False
    proof_required: bool = False
    throttle_status: int = 400
    job_polls: int = 2
    prebuild: str = ""
    state: Path | None = None


@dataclass(frozen=True)
class GraphSimulator:
    """A running simulator; its parts may be used directly, beside the control endpoints."""

    url: str
    app: GraphApp


def build(options: Options) -> GraphApp:
    """
    Make the simulator without a port, as its state file left it if there is one.

    Raises BadWorld, BadRule, BadState or ValueError for options that make no sense, OSError for files.
    """
    clock = Clock(fixed=options.now, scale=options.time_scale)
    journal = Journal(options.state)

    def make_world() -> World:
        if options.world is not None:
            return world_file.load(options.world, seed=options.shape.seed, clock=clock)
        return seeded.build(options.shape, clock)

    with clock.standing(journal.born):
        journal.begin(clock, _made_from(options))
        app = GraphApp(
            make_world,
            public_url=options.public_url,
            time_paging=options.time_paging,
            proof_required=options.proof_required,
            throttle_status=options.throttle_status,
            job_polls=options.job_polls,
            journal=journal,
        )
        app.budgets.set(options.budgets)
        app.control.add_faults({}, list(options.faults))
    journal.replay(clock, partial(repeat, app))
    if options.prebuild:
        app.prebuild(options.prebuild)
    return app


def _made_from(options: Options) -> dict[str, object]:
    """Give all that decides what the world is like before anything happens to it."""
    now = options.now.isoformat() if options.now else None
    file = hashlib.sha256(options.world.read_bytes()).hexdigest() if options.world else None
    return {**asdict(options.shape), "world": file, "now": now, "time_scale": options.time_scale}


@contextlib.asynccontextmanager
async def running(
    options: Options | None = None, *, host: str = "127.0.0.1", port: int = 0
) -> AsyncIterator[GraphSimulator]:
    """Serve in the current loop; a blocking client needs a thread or a process of its own."""
    app = build(options or Options())
    async with listening(app, host=host, port=port) as found:
        yield GraphSimulator(f"http://{host}:{found}", app)


def parse(argv: Sequence[str]) -> tuple[Options, str, int]:
    """Read a command line; gives options, host and port, or exits naming the value that is wrong."""
    whole = arguments.whole
    parser = argparse.ArgumentParser(
        prog="python -m infra.local.graph", description="The Facebook Graph API, simulated, with a known truth."
    )
    shape = Shape()
    add = parser.add_argument
    add("--port", type=whole(0, 65_535), default=8080, help="0 takes a free one (default 8080)")
    add("--host", default="127.0.0.1")
    add("--seed", type=whole(0), default=shape.seed)
    add("--users", type=whole(1, 100_000), default=shape.users)
    add("--posts", type=whole(0, 900_000), default=shape.posts, help="per user, spread over its pages")
    add("--pages", type=whole(1, 1_000), default=shape.pages, help="per user")
    add("--ad-accounts", type=whole(0, 1_000), default=shape.ad_accounts, help="per user")
    add("--ads", type=whole(0, 100_000), default=shape.ads, help="per ad account")
    add("--comments", type=whole(0, 1_000), default=shape.comments, help="per post on average")
    add("--spread", type=arguments.duration, default=shape.spread, help="how far back posts go (default 365d)")
    add("--post-bytes", type=whole(400, 100_000), default=shape.post_bytes, help="size of a usual post in JSON")
    add("--world", type=Path, help="serve this file instead of a seeded world")
    add("--now", type=arguments.moment, help="fix the world's clock at this instant")
    add("--time-scale", type=arguments.scale, default=1.0, help="an API minute of waiting lasts 60/SCALE seconds")
    for kind in KINDS:
        add(f"--budget-{kind.replace('_', '-')}", type=whole(0), default=0, metavar="CALLS", help="per hour; 0: none")
    add("--fault", action="append", default=[], metavar="JSON", help="a fault in force from the start; repeatable")
    add("--public-url", default="", help="what paging links begin with (default: the request's Host)")
    add("--paging", choices=("cursor", "time"), default="cursor", help="how posts page")
    add("--require-proof", action="store_true", help="refuse calls without appsecret_proof")
    add("--throttle-status", type=int, choices=(400, 429), default=400)
    add("--job-polls", type=whole(1, 1_000), default=2, help="a report run is done at this poll")
    add("--prebuild", default="", metavar="FIELDS", help="encode every post with these fields before serving")
    add("--state", type=Path, metavar="FILE", help="keep what happens to the world here, and go on from there")
    given = parser.parse_args(argv)
    if given.world is not None and not given.world.is_file():
        parser.error(f"argument --world: there is no file {str(given.world)!r}")
    try:
        faults = tuple(json.loads(text) for text in given.fault)
    except ValueError as error:
        parser.error(f"argument --fault: not JSON: {error}")
    options = Options(
        shape=Shape(
            seed=given.seed, users=given.users, posts=given.posts, pages=given.pages, ad_accounts=given.ad_accounts,
            ads=given.ads, comments=given.comments, spread=given.spread, post_bytes=given.post_bytes,
        ),
        world=given.world,
        now=given.now,
        time_scale=given.time_scale,
        budgets={kind: getattr(given, f"budget_{kind}") for kind in KINDS},
        faults=faults,
        public_url=given.public_url,
        time_paging=given.paging == "time",
        proof_required=given.require_proof,
        throttle_status=given.throttle_status,
        job_polls=given.job_polls,
        prebuild=given.prebuild,
        state=given.state,
    )  # fmt: skip
    return options, given.host, given.port
