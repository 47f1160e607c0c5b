"""All processes of the box: made from a folder and ports, started in their order, stopped in reverse."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.local.run.cache import Cache, find_cache
from infra.local.run.clients import Control
from infra.local.run.places import ADDRESS, ROOT, Places
from infra.local.run.processes import Process
from infra.local.run.product import Product
from pipeline import topology

HOST_DRAIN_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a box is to be. `settings` are app settings beyond those that say where things are."""

    workers: int = 2
    graph: Sequence[str] = ()
    """Options of the Graph simulator."""
    rest: Sequence[str] | None = ()
    """Options of the REST simulator; None leaves it out."""
    settings: Mapping[str, str] = field(default_factory=dict)
    lock_seconds: int = 60
    redis_secret: str = ""
    extra_queues: Mapping[str, str] = field(default_factory=dict)
    """Subscription names with the queue that each topic's own one forwards to: subscribers of a test."""


class Stack:
    """The box. `graph`, `rest`, `bus` and `host` are control interfaces; `product` is the pipeline's command line."""

    def __init__(self, places: Places, wanted: Wanted) -> None:
        self.places = places
        self.wanted = wanted
        self.cache: Cache = find_cache(places).guarded(wanted.redis_secret)
        self.graph = Control(places.graph_url)
        self.rest = Control(places.rest_url)
        self.bus = Control(places.control_url)
        self.host = Control(places.host_url)
        self.environment = self._environment()
        self.product = Product(self.environment)
        self.processes = {process.name: process for process in self._processes()}

    async def start(self) -> None:
        """Start everything; raises DidNotStart."""
        await self.start_backing()
        await self.start_host()

    async def start_backing(self) -> None:
        """Start everything but the host side by side, and bring the schema up: then orders can be sent."""
        self.places.folder.mkdir(parents=True, exist_ok=True)
        config = self.places.folder / "Config.json"
        config.write_text(json.dumps(self._bus_config(), indent=2))
        self._write_settings()
        others = [process for name, process in self.processes.items() if name != "host"]
        await asyncio.gather(self.product.run("migrate"), *(process.start() for process in others))

    async def start_host(self) -> None:
        """Start the functions host; raises DidNotStart."""
        await self.processes["host"].start()

    async def stop(self) -> None:
        """Stop the host first, so that what it holds is settled, then the rest."""
        await self.processes["host"].stop()
        await asyncio.gather(*(process.stop() for process in self.processes.values()))
        for control in (self.graph, self.rest, self.bus, self.host):
            await control.close()

    async def workers(self) -> list[int]:
        """Give the process ids of the host's workers."""
        status = await self.host.get("/admin/host/status")
        return list(status["workers"])

    async def status(self) -> dict[str, Any]:
        """Give what the app's status function tells; raises httpx.HTTPError while it cannot."""
        found: dict[str, Any] = await self.host.get("/api/status", format="json")
        return found

    def _write_settings(self) -> None:
        """Write the app's settings for a shell, readable by their owner only: TOKEN_KEY is among them."""
        own = {name: value for name, value in self.environment.items() if os.environ.get(name) != value}
        with os.fdopen(os.open(self.places.settings, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.writelines(f"{name}={shlex.quote(value)}\n" for name, value in sorted(own.items()))

    def _environment(self) -> dict[str, str]:
        settings = json.loads(topology.written_files()[topology.SETTINGS_FILE])["Values"]
        schedules = {name: value for name, value in settings.items() if "SCHEDULE" in name}
        own = {"LOCK_SECONDS": str(self.wanted.lock_seconds), "REDIS_URL": self.cache.url}
        if self.wanted.rest is None:
            own["REST_BASE_URL"] = ""
        return self.places.app_environment({**schedules, **own, **self.wanted.settings})

    def _bus_config(self) -> dict[str, Any]:
        """Give the emulator's Config.json for the topology, with shorter locks and test subscribers when wanted."""
        config: dict[str, Any] = json.loads(topology.written_files()[topology.EMULATOR_FILE])
        namespace = config["UserConfig"]["Namespaces"][0]
        lock = f"PT{self.wanted.lock_seconds}S"
        for queue in namespace["Queues"]:
            queue["Properties"]["LockDuration"] = lock
        properties = dict(namespace["Queues"][0]["Properties"])
        properties["RequiresDuplicateDetection"] = False
        for name, queue_name in self.wanted.extra_queues.items():
            namespace["Queues"].append({"Name": queue_name, "Properties": properties})
            for topic in namespace["Topics"]:
                topic["Subscriptions"].append({"Name": name, "Properties": {"ForwardTo": queue_name}})
        return config

    def _processes(self) -> list[Process]:
        found = [self._module("servicebus", self._bus_options(), self.bus, "/health")]
        found.append(self._module("graph", self._simulator("graph", self.wanted.graph), self.graph, "/__sim/calls"))
        if self.wanted.rest is not None:
            found.append(self._module("rest", self._simulator("rest", self.wanted.rest), self.rest, "/__sim/calls"))
        if self.cache.command:
            found.append(self._redis())
        found.append(self._module("host", self._host_options(), self.host, "/admin/host/status"))
        return found

    def _bus_options(self) -> list[str]:
        ports = self.places.ports
        config = str(self.places.folder / "Config.json")
        options = ["--config", config, "--host", ADDRESS, "--port", str(ports.amqp), "--http-port", str(ports.control)]
        return [*options, "--relaxed", "--log-level", "warning"]

    def _simulator(self, name: str, wanted: Sequence[str]) -> list[str]:
        """Its world outlives it: whoever kills a simulator must find what people changed in it."""
        port = getattr(self.places.ports, name)
        return ["--port", str(port), "--state", str(self.places.state(name)), *wanted]

    def _host_options(self) -> list[str]:
        options = ["--app", str(ROOT), "--address", ADDRESS, "--port", str(self.places.ports.host)]
        options += ["--workers", str(self.wanted.workers), "--state", str(self.places.folder / "host")]
        return [*options, "--drain", str(HOST_DRAIN_SECONDS), "--verbose"]

    def _module(self, name: str, options: Sequence[str], control: Control, path: str) -> Process:
        return Process(
            name,
            [sys.executable, "-m", f"infra.local.{name}", *options],
            environment=self.environment,
            folder=ROOT,
            log=self.places.log(name),
            ready=lambda: control.answers(path),
            stop_seconds=HOST_DRAIN_SECONDS + 5 if name == "host" else 5.0,
        )

    def _redis(self) -> Process:
        port = self.places.ports.redis

        async def ready() -> bool:
            return await _listens(port)

        return Process(
            "redis", self.cache.command, environment=self.environment, folder=Path(self.places.folder),
            log=self.places.log("redis"), ready=ready,
        )  # fmt: skip


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(ADDRESS, port), 2.0)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
