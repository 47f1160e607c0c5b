"""
What the control API can do, apart from HTTP.

    GET    /health                                   as the official emulator answers
    GET    /emulator/entities                        counts per entity, open connections
    PUT    /emulator/queues/{name}                   create or change: 201, or 400 with the reason
    PUT    /emulator/topics/{name}                   bodies: Config.json's properties
    PUT    /emulator/topics/{name}/subscriptions/{name}
    DELETE any of the three                          200 or 404
    GET    /emulator/operations                      as Azure would bill; POST .../reset begins anew
    GET    /emulator/faults                          what is still owed; DELETE clears
    POST   /emulator/faults/drop-connections         {"entity"?}
    POST   /emulator/faults/refuse-sends             {"entity", "count"?, "condition"?}
    POST   /emulator/faults/delay-sends              {"entity", "count"?, "seconds"}
    POST   /emulator/faults/deliver-twice            {"entity", "count"?}
    POST   /emulator/faults/lose-acknowledgements    {"entity", "count"?, "of"?: "send" or "settle"}
    POST   /emulator/faults/expire-locks             {"entity", "sequenceNumber"?}
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import unquote, urlsplit

from infra.local.servicebus.config import Config, ConfigError
from infra.local.servicebus.config_file import parse_properties
from infra.local.servicebus.entities import Intake
from infra.local.servicebus.errors import AmqpError
from infra.local.servicebus.faults import MAX_COUNT, Faults
from infra.local.servicebus.namespace import Namespace

_LOGGER = logging.getLogger(__name__)

_QUEUES: Final = "/emulator/queues/"
_TOPICS: Final = "/emulator/topics/"
_SUBSCRIPTIONS: Final = "/subscriptions/"
_FAULTS: Final = "/emulator/faults"
#: The longest time a send may be held back.
_MAX_DELAY_SECONDS: Final = 600.0
_HEALTHY: Final = {"status": "healthy", "message": "Service is healthy."}


class ControlBroker(Protocol):
    """What the control API needs to know of the server around it."""

    @property
    def config(self) -> Config: ...

    @property
    def namespace(self) -> Namespace: ...

    @property
    def connections(self) -> "set[Any]": ...


@dataclass(frozen=True, slots=True)
class Answer:
    """A status and a JSON-ready body."""

    status: int
    body: Any


class Control:
    """Routes requests; every refusal has a reason in its body."""

    def __init__(self, broker: ControlBroker) -> None:
        self._broker = broker
        self._faults: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "drop-connections": self._drop,
            "refuse-sends": self._refuse,
            "delay-sends": self._delay,
            "deliver-twice": self._twice,
            "lose-acknowledgements": self._lose,
            "expire-locks": self._expire,
        }

    def answer(self, method: str, target: str, body: Any) -> Answer:
        path = unquote(urlsplit(target).path).rstrip("/")
        try:
            return self._route(method, path, body)
        except ConfigError as error:
            return Answer(400, {"error": str(error), "problems": error.problems})
        except AmqpError as error:
            return Answer(404, {"error": error.description})
        except Exception as error:
            _LOGGER.exception("control API: %s %s", method, path)
            return Answer(500, {"error": type(error).__name__})

    def _route(self, method: str, path: str, body: Any) -> Answer:
        if path.startswith(f"{_FAULTS}/") and method == "POST":
            return self._fault(path.removeprefix(f"{_FAULTS}/"), body)
        if path.startswith(_QUEUES):
            return self._queue(method, path.removeprefix(_QUEUES), body)
        if path.startswith(_TOPICS):
            return self._topic(method, path.removeprefix(_TOPICS), body)
        return self._fixed(method, path)

    def _fixed(self, method: str, path: str) -> Answer:
        namespace = self._broker.namespace
        match method, path:
            case "GET", "/health":
                return Answer(200, _HEALTHY)
            case "GET", "/emulator/entities":
                return Answer(200, {"connections": len(self._broker.connections)} | namespace.snapshot())
            case "GET", "/emulator/operations":
                return Answer(200, namespace.operations.snapshot())
            case "POST", "/emulator/operations/reset":
                namespace.operations.reset()
                return Answer(200, {})
            case "GET", "/emulator/faults":
                return Answer(200, namespace.faults.snapshot())
            case "DELETE", "/emulator/faults":
                namespace.faults.clear()
                return Answer(200, {})
        return Answer(404, {"error": f"there is no {method} {path}"})

    # ---- entities

    def _queue(self, method: str, name: str, body: Any) -> Answer:
        namespace = self._broker.namespace
        if method == "PUT":
            namespace.put_queue(name, parse_properties("queue", _properties(body), relaxed=self._broker.config.relaxed))
            return Answer(201, {"name": name})
        if method == "DELETE":
            return _deleted(name, found=namespace.delete_queue(name))
        return Answer(405, {"error": f"{method} is not possible here"})

    def _topic(self, method: str, name: str, body: Any) -> Answer:
        namespace = self._broker.namespace
        relaxed = self._broker.config.relaxed
        topic, subscription = _split(name)
        if method == "PUT" and subscription is None:
            namespace.put_topic(topic, parse_properties("topic", _properties(body), relaxed=relaxed))
            return Answer(201, {"name": name})
        if method == "PUT" and subscription is not None:
            properties = parse_properties("subscription", _properties(body), relaxed=relaxed)
            namespace.put_subscription(topic, subscription, properties)
            return Answer(201, {"name": name})
        if method == "DELETE" and subscription is None:
            return _deleted(name, found=namespace.delete_topic(topic))
        if method == "DELETE" and subscription is not None:
            return _deleted(name, found=namespace.delete_subscription(topic, subscription))
        return Answer(405, {"error": f"{method} is not possible here"})

    # ---- faults

    def _fault(self, kind: str, body: Any) -> Answer:
        apply = self._faults.get(kind)
        if apply is None:
            return Answer(404, {"error": f"no fault {kind!r}; there are {', '.join(self._faults)}"})
        if body is not None and not isinstance(body, dict):
            raise ConfigError(["the body must be an object"])
        return Answer(200, apply(body or {}))

    def _drop(self, body: dict[str, Any]) -> dict[str, Any]:
        """Cut every connection, or those with a link on one entity."""
        connections = set(self._broker.connections)
        if "entity" in body:
            entity = self._entity(body)
            connections = {link.session.connection for link in entity.links}
        for connection in connections:
            connection.abort()
        return {"dropped": len(connections)}

    def _refuse(self, body: dict[str, Any]) -> dict[str, Any]:
        faults = self._sending(body)
        faults.refuse_condition = str(body.get("condition", faults.refuse_condition))
        faults.refuse_sends = _count(body)
        return faults.pending()

    def _delay(self, body: dict[str, Any]) -> dict[str, Any]:
        seconds = body.get("seconds")
        if not isinstance(seconds, int | float) or not 0 <= seconds <= _MAX_DELAY_SECONDS:
            raise ConfigError([f"seconds: {seconds!r}: must be a number from 0 to {_MAX_DELAY_SECONDS:.0f}"])
        faults = self._sending(body)
        faults.delay_seconds = float(seconds)
        faults.delay_sends = _count(body)
        return faults.pending()

    def _twice(self, body: dict[str, Any]) -> dict[str, Any]:
        faults = self._sending(body)
        faults.deliver_twice = _count(body)
        return faults.pending()

    def _lose(self, body: dict[str, Any]) -> dict[str, Any]:
        """Do what the client asks and cut its connection instead of saying so."""
        of = body.get("of", "send")
        if of not in ("send", "settle"):
            raise ConfigError([f"of: {of!r}: must be send or settle"])
        faults = self._sending(body) if of == "send" else self._broker.namespace.faults.of(self._entity(body).name)
        setattr(faults, f"lose_{of}_acknowledgements", _count(body))
        return faults.pending()

    def _expire(self, body: dict[str, Any]) -> dict[str, Any]:
        sequence = body.get("sequenceNumber")
        if sequence is not None and not isinstance(sequence, int):
            raise ConfigError([f"sequenceNumber: {sequence!r}: must be a whole number"])
        return {"expired": self._entity(body).expire_locks(sequence)}

    def _sending(self, body: dict[str, Any]) -> Faults:
        """Return the faults of an entity that messages are sent to; on another they would never happen."""
        entity = self._entity(body)
        if not isinstance(entity, Intake) or not entity.accepts:
            raise ConfigError([f"entity: {entity.name!r}: nothing is sent to it; name a queue or a topic"])
        return self._broker.namespace.faults.of(entity.name)

    def _entity(self, body: dict[str, Any]) -> Any:
        name = body.get("entity")
        if not isinstance(name, str):
            raise ConfigError([f"entity: {name!r}: must name a queue, topic or subscription"])
        return self._broker.namespace.resolve(name).entity


def _properties(body: Any) -> Any:
    """Take the properties alone, or wrapped as in Config.json."""
    if isinstance(body, dict) and "Properties" in body:
        unknown = set(body) - {"Properties", "Name"}
        if unknown:
            raise ConfigError([f"{name}: unknown key" for name in sorted(unknown)])
        return body["Properties"]
    return body


def _split(name: str) -> tuple[str, str | None]:
    at = name.lower().find(_SUBSCRIPTIONS)
    return (name, None) if at < 0 else (name[:at], name[at + len(_SUBSCRIPTIONS) :])


def _deleted(name: str, *, found: bool) -> Answer:
    return Answer(200, {"name": name}) if found else Answer(404, {"error": f"there is no {name!r}"})


def _count(body: dict[str, Any]) -> int:
    count = body.get("count", 1)
    if type(count) is not int or not 0 <= count <= MAX_COUNT:
        raise ConfigError([f"count: {count!r}: must be a whole number from 0 to {MAX_COUNT}"])
    return count
