"""Faults of processes: killed, asked to end, stopped beyond their locks, short of memory; at random or at a point."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal

import httpx

from tests.chaos.failpoints import Failpoints
from tests.chaos.on_bus import expire_locks
from tests.chaos.scales import LOCK_SECONDS
from tests.chaos.scene import MOST_DEATHS, Scene, send_signal

LITTLE_BYTES = 4 * 2**20
STARVED_SECONDS = 1.0


async def kill_worker(scene: Scene) -> bool:
    """Kill a worker."""
    return await _end_worker(scene, signal.SIGKILL)


async def term_worker(scene: Scene) -> bool:
    """Ask a worker to end, in the middle of whatever it does."""
    return await _end_worker(scene, signal.SIGTERM)


async def _end_worker(scene: Scene, number: signal.Signals) -> bool:
    await _begin_anew(scene)
    pid = await scene.worker()
    if not pid or not send_signal(pid, number):
        return False
    scene.killed("worker")
    return True


async def _begin_anew(scene: Scene) -> None:
    """Start the host again when so many workers died that it would only wait."""
    if scene.deaths >= MOST_DEATHS:
        await kill_host(scene)


async def kill_host(scene: Scene) -> bool:
    """Kill the host; its workers end with it, and all locks have to expire."""
    async with scene.host_lock:
        await scene.stack.processes["host"].kill()
        scene.killed("host")
        await scene.restart("host")
    return True


async def term_host(scene: Scene) -> bool:
    """Stop the host as a platform does that scales in: what runs may end."""
    async with scene.host_lock:
        await scene.stack.processes["host"].stop()
        await scene.restart("host")
    return True


async def stop_worker(scene: Scene) -> bool:
    """Let a worker stand still for a moment."""
    pid = await scene.worker()
    if not pid or not send_signal(pid, signal.SIGSTOP):
        return False
    try:
        await asyncio.sleep(scene.chance.uniform(0.5, 2.0))
    finally:
        gone_on = send_signal(pid, signal.SIGCONT)
    return gone_on


async def stop_host(scene: Scene) -> bool:
    """Let the host stand still for longer than a lock: others get its messages while its workers go on."""
    async with scene.host_lock:
        pid = scene.stack.processes["host"].pid
        if not pid or not send_signal(pid, signal.SIGSTOP):
            return False
        try:
            await asyncio.sleep(LOCK_SECONDS + 1)
        finally:
            gone_on = send_signal(pid, signal.SIGCONT)
        return gone_on


async def starve_worker(scene: Scene) -> bool:
    """Take a worker's memory away, and kill it after a moment as a platform would."""
    await _begin_anew(scene)
    pid = await scene.worker()
    if not pid:
        return False
    try:
        used = _address_space(pid)
        resource.prlimit(pid, resource.RLIMIT_AS, (used + LITTLE_BYTES, resource.RLIM_INFINITY))
    except (ProcessLookupError, FileNotFoundError):
        return False
    await asyncio.sleep(STARVED_SECONDS)
    send_signal(pid, signal.SIGKILL)
    scene.killed("worker")
    return True


def _address_space(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


async def kill_at_failpoint(scene: Scene, points: Failpoints) -> bool:
    """Kill whoever passes a failpoint next."""
    return await _end_at(scene, points, "KILL")


async def term_at_failpoint(scene: Scene, points: Failpoints) -> bool:
    """Ask whoever passes a failpoint next to end."""
    return await _end_at(scene, points, "TERM")


async def _end_at(scene: Scene, points: Failpoints, action: str) -> bool:
    await _begin_anew(scene)
    if await points.order(action) is None:
        return False
    scene.killed("worker")
    return True


async def stop_at_failpoint(scene: Scene, points: Failpoints) -> bool:
    """Stop whoever passes a failpoint next, let its locks expire, and let it go on as its own twin."""
    stopped = await points.order("STOP")
    if stopped is None:
        return False
    try:
        with contextlib.suppress(httpx.HTTPError):
            await expire_locks(scene)
        await asyncio.sleep(scene.chance.uniform(0.5, 2.0))
    finally:
        gone_on = send_signal(stopped[1], signal.SIGCONT)  # it may hold the store's write lock
    return gone_on


async def fail_at_failpoint(scene: Scene, points: Failpoints) -> bool:
    """Lose the store just before a commit, or just after it: then its outcome is unknown."""
    return await points.order("FAIL") is not None
