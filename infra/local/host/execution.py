"""Run a function once: in a worker, then its outputs, then one line in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from infra.local.host.functions import Function, HttpOutput, ServiceBusOutput
from infra.local.host.pool import WorkerPool
from infra.local.host.processes import Invocation, Result, WorkerLost
from infra.local.host.worker import Plain

log = logging.getLogger("host")

Send = Callable[[ServiceBusOutput, Plain], Awaitable[None]]


class Executor:
    """Shared by all triggers, so that an outcome means the same whatever started the function."""

    def __init__(self, pool: WorkerPool, send: Send) -> None:
        self._pool = pool
        self._send = send
        self.running = 0

    async def run(
        self,
        function: Function,
        data: Plain,
        metadata: dict[str, Plain],
        *,
        trace: tuple[str, str],
        retry: int = 0,
        max_retry: int = 0,
    ) -> Result:
        """
        Return the result; it is a failure also when the worker died or an output could not be sent.

        Outputs are sent after the function succeeded and before the trigger's
        message is completed, as in production: a crash between repeats them.
        """
        invocation_id = self._pool.new_id()
        began = time.perf_counter()
        self.running += 1
        try:
            result = await self._pool.invoke(
                Invocation(function.id, [(function.trigger.argument, data)], metadata, *trace, retry, max_retry),
                invocation_id,
            )
            if result.ok and function.outputs:
                await self._send_outputs(function, result)
        except WorkerLost as lost:
            result = Result(False, None, [], str(lost), None)
        except Exception as failed:  # noqa: BLE001 - a broken output fails the invocation, not the host
            result = Result(False, None, [], f"output binding failed: {failed!r}", None)
        finally:
            self.running -= 1
        _say(function.name, invocation_id, began, result)
        return result

    async def _send_outputs(self, function: Function, result: Result) -> None:
        values: dict[str, Plain] = dict(result.outputs)
        if result.returned is not None:
            values["$return"] = result.returned
        for name, value in values.items():
            output = function.outputs.get(name)
            if isinstance(output, ServiceBusOutput) and value[0] is not None:
                await self._send(output, value)


def _say(name: str, invocation_id: str, began: float, result: Result) -> None:
    milliseconds = (time.perf_counter() - began) * 1000
    if result.ok:
        log.debug("%s %s ok in %.1f ms", name, invocation_id, milliseconds)
        return
    log.error("%s %s failed in %.1f ms: %s", name, invocation_id, milliseconds, result.error)
    if result.trace:
        log.error("%s", result.trace.rstrip())


def response_of(function: Function, result: Result) -> Any:
    """Return what an HTTP function answered: returned, or set on its `Out`."""
    if isinstance(function.outputs.get("$return"), HttpOutput):
        return result.returned
    for name, value in result.outputs:
        if isinstance(function.outputs.get(name), HttpOutput):
            return value
    return None
