"""`--up`: everything stays, on real schedules, until Ctrl-C; whatever process dies is started again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

import httpx

from infra.local.run import trouble, users
from infra.local.run.choices import Choices
from infra.local.run.delivered import Lake
from infra.local.run.places import Places, Ports, standard_ports
from infra.local.run.processes import DidNotStart
from infra.local.run.product import CommandFailed
from infra.local.run.progress import Watch
from infra.local.run.session import LOOK_SECONDS, REFRESH_SECONDS, View, empty, judge, wanted
from infra.local.run.stack import Stack, Wanted
from infra.local.run.truth import Truth, checked_feeds

TRUTH_SECONDS = 20.0
"""How often the truth is asked for anew: people may change the world through the simulators' control endpoints."""

AGAIN_SECONDS = 3.0
"""Between two tries of what does not succeed."""

ORDER_TRIES = 5


class Up:
    """Keeps a box running."""

    def __init__(self, choices: Choices, view: View, *, ports: Ports | None = None) -> None:
        """Raises NotOurs."""
        self.stack = Stack(Places(empty(choices.folder), ports or standard_ports()), self._wanted(choices))
        self._choices = choices
        self._view = view
        self._lake = Lake(self.stack.places.lake)
        self._truth = Truth(self.stack, refresh_seconds=REFRESH_SECONDS)
        self._watch = Watch(self.stack, self._truth, self._lake)

    async def run(self) -> None:
        """Start, order every feed once, and watch until cancelled; raises DidNotStart."""
        self._view.start()
        jobs: list[asyncio.Task[None]] = [asyncio.create_task(self._draw())]
        try:
            await self.stack.start()
            await self._trouble()
            await users.import_all(self.stack)
            feeds = checked_feeds(await self.stack.product.run("feeds", "--json"))
            self._truth.use(feeds)
            await self._truth.read()
            self._watch.phase = "running on real schedules; Ctrl-C ends it"
            self._tell()
            jobs.append(asyncio.create_task(self._compare()))
            jobs.append(asyncio.create_task(self._order([feed.feed for feed in feeds if not feed.child])))
            await self._supervise()
        finally:
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)
            self._view.stop()
            await self.stack.stop()

    @property
    def equal(self) -> bool:
        """Whether the lake held the truth when it was last compared."""
        return self._watch.verdict is not None and self._watch.verdict.matched

    @property
    def notes(self) -> list[str]:
        """What happened so far."""
        return self._watch.notes

    def _tell(self) -> None:
        places = self.stack.places
        self._watch.note(f"status page {places.host_url}/api/status?format=html")
        self._watch.note(f"Graph API {places.graph_url}, REST API {places.rest_url}, bus {places.control_url}")
        self._watch.note(f"your own commands: (set -a; . {places.settings}; .venv/bin/python -m pipeline …)")

    async def _order(self, feeds: Sequence[str]) -> None:
        """Order everything once, so that nobody waits for the first schedule; the bus may be away just now."""
        for _ in range(ORDER_TRIES):
            try:
                await self.stack.product.run("mine", *feeds)
            except CommandFailed as error:
                self._watch.note(str(error).splitlines()[0])
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                return

    async def _supervise(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            lost = [name for name, process in self.stack.processes.items() if process.lost]
            await asyncio.gather(*(self._again(name) for name in lost))

    async def _again(self, name: str) -> None:
        """
        Start a lost process; whoever fails is tried at the next look. The simulators go on from their state files, and
        only the bus has to be told what it held.
        """
        watch = self._watch
        watch.note(f"{name} is gone: it is started again")
        try:
            await self.stack.processes[name].start()
            if name == "servicebus":
                await self._republish()
        except (DidNotStart, CommandFailed, httpx.HTTPError) as error:
            watch.note(f"{name}: {str(error).splitlines()[0]}")
            await self.stack.processes[name].kill()
            await asyncio.sleep(AGAIN_SECONDS)

    async def _republish(self) -> None:
        """The emulator keeps everything in memory: what the outbox kept is sent again, and subscribers drop repeats."""
        said = await self.stack.product.run("republish")
        self._watch.note(f"the bus had lost its memory: {said.strip()}")

    async def _trouble(self) -> None:
        """Let the APIs misbehave a little, as any does."""
        if not self._choices.faults:
            return
        await self.stack.graph.send("POST", "/__sim/faults", trouble.everyday_faults())
        if self.stack.wanted.rest is not None:
            await self.stack.rest.send("POST", "/__sim/faults", trouble.rest_faults())

    async def _compare(self) -> None:
        read = time.monotonic()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                if time.monotonic() - read > TRUTH_SECONDS:
                    await self._truth.read()
                    read = time.monotonic()
            except httpx.HTTPError:
                continue
            self._watch.judged(judge(self._truth, self._lake))

    async def _draw(self) -> None:
        while True:
            self._view.show(await self._watch.look())
            await asyncio.sleep(LOOK_SECONDS)

    def _wanted(self, choices: Choices) -> Wanted:
        box = wanted(choices)
        return replace(box, settings={**box.settings, "REFRESH_EVERY_SECONDS": "60"})
