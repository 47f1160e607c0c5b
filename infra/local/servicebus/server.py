"""The emulator as one object: a listener for AMQP, one for HTTP, and what they share."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from infra.local.servicebus.auth import Gate
from infra.local.servicebus.clock import Clock, SystemClock
from infra.local.servicebus.config import Config
from infra.local.servicebus.connection import Connection
from infra.local.servicebus.http_api import HttpApi
from infra.local.servicebus.memory import give_back
from infra.local.servicebus.namespace import Namespace

_LOGGER = logging.getLogger(__name__)

#: How long closing connections may take to say goodbye before they are cut.
_GOODBYE_SECONDS: Final = 1.0
_BACKLOG: Final = 1024


class Broker:
    """What connections and the control API share."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self.config = config
        self.clock = clock
        self.namespace = Namespace(config, clock)
        self.gate = Gate(config.key, config.key_name)
        self.connections: set[Connection] = set()


@dataclass(frozen=True, slots=True)
class Running:
    """A running emulator."""

    broker: Broker
    host: str
    port: int
    http_port: int

    @property
    def namespace(self) -> Namespace:
        return self.broker.namespace

    @property
    def connection_string(self) -> str:
        key = self.broker.config.key or "SAS_KEY_VALUE"
        return (
            f"Endpoint=sb://localhost:{self.port};SharedAccessKeyName={self.broker.config.key_name};"
            f"SharedAccessKey={key};UseDevelopmentEmulator=true;"
        )


@asynccontextmanager
async def running(
    config: Config,
    *,
    clock: Clock | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    http_port: int = 0,
) -> AsyncIterator[Running]:
    """Serve on the running loop until the block ends; port 0 takes a free one."""
    loop = asyncio.get_running_loop()
    broker = Broker(config, clock or SystemClock())
    api = HttpApi(broker)
    amqp = await loop.create_server(lambda: Connection(broker), host, port, backlog=_BACKLOG)
    try:
        http = await asyncio.start_server(api.serve, host, http_port)
    except OSError:
        amqp.close()
        raise
    trimming = asyncio.create_task(give_back(broker.namespace.used_bytes))
    try:
        yield Running(broker, host, amqp.sockets[0].getsockname()[1], http.sockets[0].getsockname()[1])
    finally:
        trimming.cancel()
        amqp.close()
        http.close()
        await _close_all(broker)
        await api.close()
        broker.namespace.close()


async def _close_all(broker: Broker) -> None:
    for connection in list(broker.connections):
        connection.shut_down()
    end = asyncio.get_running_loop().time() + _GOODBYE_SECONDS
    while broker.connections and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.01)
    for connection in list(broker.connections):
        connection.abort()
