"""What an app registered, turned into triggers and outputs that this host can run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from infra.local.host.settings import AppSettings, Connection, SettingMissing, truth

_DEAD_LETTERS = "/$deadletterqueue"


class Refused(Exception):
    """This function cannot run here; the message names the function, the binding and the reason."""


class Entity(NamedTuple):
    """A queue, or a topic with a subscription when it is read; `dead_letters` selects its sub-queue."""

    name: str
    subscription: str | None = None
    dead_letters: bool = False

    def __str__(self) -> str:
        path = self.name if self.subscription is None else f"{self.name}/{self.subscription}"
        return f"{path}/$DeadLetterQueue" if self.dead_letters else path


class ServiceBusTrigger(NamedTuple):
    argument: str
    connection: Connection
    entity: Entity
    many: bool
    binary: bool
    auto_complete: bool | None


class TimerTrigger(NamedTuple):
    argument: str
    schedule: str
    run_on_startup: bool
    use_monitor: bool | None


class HttpTrigger(NamedTuple):
    argument: str
    route: str
    methods: frozenset[str]
    auth_level: str


class ServiceBusOutput(NamedTuple):
    connection: Connection
    entity: Entity


class HttpOutput(NamedTuple):
    """The response: returned, or set on an `Out`."""


class Retry(NamedTuple):
    """A retry policy; `most` -1 means for ever. Seconds."""

    strategy: str
    most: int
    delay: float
    minimum: float
    maximum: float

    def wait(self, attempt: int) -> float:
        """Return the pause before the retry number `attempt`, counted from 1."""
        if self.strategy == "fixed_delay":
            return self.delay
        return min(self.maximum, max(self.minimum, 1.0) * 2.0 ** min(attempt - 1, 30))


Trigger = ServiceBusTrigger | TimerTrigger | HttpTrigger
Output = ServiceBusOutput | HttpOutput


@dataclass(frozen=True)
class Function:
    """A function that can run here. `outputs` is keyed by argument, or `$return`."""

    name: str
    id: str
    trigger: Trigger
    outputs: Mapping[str, Output]
    retry: Retry | None


def understand(described: Mapping[str, Any], settings: AppSettings) -> Function:
    """
    Read a function as the worker described it, with its settings resolved.

    Raises Refused for a binding of another kind, a missing setting, or an SDK type.
    """
    name = str(described["name"])
    bindings = bindings_of(described)
    if described["sdk_types"]:
        raise Refused(f"{name}: SDK-type bindings and settlement clients are not supported by the local host")
    trigger: Trigger | None = None
    outputs: dict[str, Output] = {}
    for binding in bindings:
        argument, kind = str(binding.get("name")), str(binding.get("type"))
        try:
            if is_trigger(binding):
                trigger = _trigger(name, binding, settings)
            else:
                outputs[argument] = _output(binding, settings)
        except SettingMissing as missing:
            raise Refused(f"{name}: binding {argument} ({kind}): {missing}") from missing
        except _Unsupported as unsupported:
            raise Refused(f"{name}: binding {argument} ({kind}): {unsupported}") from unsupported
    if trigger is None:
        raise Refused(f"{name}: has no trigger")
    return Function(name, str(described["id"]), trigger, outputs, _retry(described["retry"]))


def bindings_of(described: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(binding) for binding in described["bindings"]]


def is_trigger(binding: Mapping[str, Any]) -> bool:
    return str(binding.get("type", "")).casefold().endswith("trigger")


class _Unsupported(Exception):
    """A binding that other hosts may know."""


def _trigger(function: str, binding: Mapping[str, Any], settings: AppSettings) -> Trigger:
    kind = str(binding["type"]).casefold()
    if kind == "servicebustrigger":
        return _service_bus_trigger(binding, settings)
    if kind == "timertrigger":
        monitor = binding.get("useMonitor")
        return TimerTrigger(
            argument=str(binding["name"]),
            schedule=settings.resolve(str(binding.get("schedule") or "")).strip(),
            run_on_startup=truth(binding.get("runOnStartup")),
            use_monitor=None if monitor is None else truth(monitor),
        )
    if kind == "httptrigger":
        methods = binding.get("methods") or ()
        return HttpTrigger(
            argument=str(binding["name"]),
            route=str(binding.get("route") if binding.get("route") is not None else function),
            methods=frozenset(str(method).upper() for method in methods),
            auth_level=str(binding.get("authLevel") or "function").casefold(),
        )
    raise _Unsupported("this trigger is not supported by the local host, which knows Service Bus, timer and HTTP")


def _service_bus_trigger(binding: Mapping[str, Any], settings: AppSettings) -> ServiceBusTrigger:
    if truth(binding.get("isSessionsEnabled")):
        raise _Unsupported("sessions are not supported by the local host")
    complete = binding.get("autoCompleteMessages")
    return ServiceBusTrigger(
        argument=str(binding["name"]),
        connection=settings.connection(binding.get("connection")),
        entity=_entity(binding, settings, reading=True),
        many=str(binding.get("cardinality") or "one").casefold() == "many",
        binary=str(binding.get("dataType") or "").casefold() == "binary",
        auto_complete=None if complete is None else truth(complete),
    )


def _output(binding: Mapping[str, Any], settings: AppSettings) -> Output:
    kind = str(binding["type"]).casefold()
    if str(binding.get("direction") or "").casefold() == "out":
        if kind == "http":
            return HttpOutput()
        if kind == "servicebus":
            return ServiceBusOutput(
                settings.connection(binding.get("connection")), _entity(binding, settings, reading=False)
            )
    raise _Unsupported("this binding is not supported by the local host, which knows Service Bus and HTTP outputs")


def _entity(binding: Mapping[str, Any], settings: AppSettings, *, reading: bool) -> Entity:
    queue, topic = binding.get("queueName"), binding.get("topicName")
    subscription = binding.get("subscriptionName") if topic and reading else None
    if not (queue or topic) or (topic and reading and not subscription):
        raise _Unsupported("names neither a queue nor a topic with a subscription")
    path = settings.resolve(str(subscription or topic or queue))
    dead_letters = path.casefold().endswith(_DEAD_LETTERS)
    if dead_letters:
        path = path[: -len(_DEAD_LETTERS)]
    if subscription is None:
        return Entity(path, None, dead_letters)
    return Entity(settings.resolve(str(topic)), path, dead_letters)


def _retry(described: Mapping[str, Any] | None) -> Retry | None:
    if not described:
        return None
    return Retry(
        strategy=str(described["strategy"]),
        most=int(described["max_retry_count"]),
        delay=float(described.get("delay_interval") or 0),
        minimum=float(described.get("minimum_interval") or 0),
        maximum=float(described.get("maximum_interval") or 0),
    )
