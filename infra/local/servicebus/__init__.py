"""
A local Azure Service Bus that real clients connect to: AMQP 1.0 over plain TCP.

It is not Microsoft's emulator, and it keeps everything in memory: nothing survives its end.
Sessions, rules other than match-all, partitioned entities, transactions, WebSockets and TLS
are refused by name. Standard library only, and no code shared with any client, so that it
can find a client's faults and ours.

Inside out: codec (types), performatives (frames), message and sections; store (locks,
schedules), entities (queues, topics), namespace; links of four kinds, attaching, session,
connection; config, control, server.
"""

from infra.local.servicebus.clock import Clock, ManualClock, SystemClock
from infra.local.servicebus.config import (
    Config,
    ConfigError,
    Properties,
    QueueConfig,
    SubscriptionConfig,
    TopicConfig,
)
from infra.local.servicebus.config_file import load_config, parse_config
from infra.local.servicebus.server import Running, running

__all__ = [
    "Clock",
    "Config",
    "ConfigError",
    "ManualClock",
    "Properties",
    "QueueConfig",
    "Running",
    "SubscriptionConfig",
    "SystemClock",
    "TopicConfig",
    "load_config",
    "parse_config",
    "running",
]
