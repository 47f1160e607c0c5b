"""Have some process pass a failpoint soon: what timers, people and trouble do now and then is done now."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping

import httpx
from azure.servicebus import ServiceBusMessage
from azure.servicebus.exceptions import ServiceBusError
from redis.exceptions import RedisError

from infra.local.run import users as wards
from infra.local.run.product import CommandFailed
from tests.chaos import on_bus, on_sources
from tests.chaos.scene import Scene

Provocation = Callable[[Scene], Awaitable[object]]
NEWS = 4


def _function(name: str) -> Provocation:
    async def run(scene: Scene) -> None:
        await scene.stack.host.send("POST", f"/admin/functions/{name}", {})

    return run


def _command(*arguments: str) -> Provocation:
    async def run(scene: Scene) -> None:
        await scene.stack.product.run(*arguments, answer_codes=(0, 1))

    return run


async def _health(scene: Scene) -> None:
    await scene.stack.host.get("/api/health")


async def _users(scene: Scene) -> None:
    await wards.import_all(scene.stack)


async def _news(scene: Scene) -> None:
    """A few people write, and the miner looks: new items pass everything between the source and the lake."""
    for _ in range(NEWS):
        deed = {"do": "create", "edge": "posts", "user": scene.chance.choice(list(scene.users))}
        await scene.stack.graph.send("POST", "/__sim/mutate", deed)
    await scene.stack.host.send("POST", "/admin/functions/posts_scheduler", {})


async def _nonsense(scene: Scene) -> None:
    """Send what nobody can read."""
    async with scene.client() as client, client.get_queue_sender(scene.chance.choice(scene.mining_queues)) as sender:
        await sender.send_messages(ServiceBusMessage(b"nonsense"))


BY_UNIT: Mapping[str, Provocation] = {
    "bus.send": _news,
    "cache.ping": _health,
    "cache.read": _news,
    "cache.write": _news,
    "copies.send": on_bus.expire_locks,
    "fan_out.send": _function("posts_scheduler"),
    "lake.rename": _news,
    "lake.write": _news,
    "source.call": _news,
    "store.analytics": _news,
    "store.apply": _function("ads_scheduler"),
    "store.budget": on_sources.throttle,
    "store.dead_letter": on_bus.dead_letter,
    "store.look": on_bus.deliver_twice,
    "store.lose": on_bus.deliver_twice,
    "store.open": _function("posts_scheduler"),
    "store.outbox": _news,
    "store.page": _news,
    "store.quarantine": _nonsense,
    "store.recover": _command("recover"),
    "store.relay": _command("republish", "--since", "1m"),
    "store.replay": _command("quarantine", "replay", "--kind", "message"),
    "store.republish": _command("republish", "--since", "1m"),
    "store.retention": _function("upkeep"),
    "store.samples": _function("upkeep"),
    "store.scopes": _function("ads_scheduler"),
    "store.sweep": _function("comments_scheduler"),
    "store.tick": _function("profile_scheduler"),
    "store.ticks": _function("upkeep"),
    "store.tokens": on_sources.token,
    "store.users": _users,
    "store.watch": on_bus.purge,
}
"""By the failpoint's name without its last part. What is not here comes by itself, and often."""


async def provoke(scene: Scene, name: str) -> None:
    """Do what makes some process pass a failpoint; another fault may be in its way."""
    work = BY_UNIT.get(name.rpartition(".")[0])
    if work is not None:
        with contextlib.suppress(httpx.HTTPError, ServiceBusError, RedisError, OSError, CommandFailed):
            await work(scene)
