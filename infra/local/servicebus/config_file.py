"""Read the official emulator's Config.json, comments and all, and hold it to the official bounds."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from infra.local.servicebus.config import (
    Config,
    ConfigError,
    Properties,
    QueueConfig,
    SubscriptionConfig,
    TopicConfig,
)
from infra.local.servicebus.errors import USE_OFFICIAL

NAMESPACE: Final = "sbemulatorns"
_NAME: Final = re.compile(r"[A-Za-z0-9]|[A-Za-z0-9][\w\-./]*[A-Za-z0-9]", re.ASCII)
_DURATION: Final = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", re.ASCII)
_LOG_TYPES: Final = ("File", "Console", "File,Console", "Console,File")
_MATCH_ALL: Final = ("1=1", "true")
_MAX_NAME: Final = 260

_SECOND, _MINUTE, _HOUR = 1000, 60_000, 3_600_000
#: What an entity gets in Azure for a property that is not given.
CLOUD_DEFAULTS: Final = Properties(max_delivery_count=10, duplicate_window=10 * _MINUTE)
#: What the official emulator's schema gives.
FILE_DEFAULTS: Final = Properties(time_to_live=_HOUR)

#: Config.json's name: our name, kind of entity to official bounds.
_DURATIONS: Final[dict[str, tuple[str, dict[str, tuple[int, int]]]]] = {
    "DefaultMessageTimeToLive": (
        "time_to_live",
        {kind: (5 * _MINUTE, _HOUR) for kind in ("queue", "topic", "subscription")},
    ),
    "DuplicateDetectionHistoryTimeWindow": (
        "duplicate_window",
        {kind: (5 * _SECOND, 5 * _MINUTE) for kind in ("queue", "topic")},
    ),
    "LockDuration": ("lock_duration", {"queue": (5 * _SECOND, 5 * _MINUTE), "subscription": (_MINUTE, 5 * _MINUTE)}),
}
_FLAGS: Final = {
    "DeadLetteringOnMessageExpiration": ("dead_letter_on_expiry", ("queue", "subscription")),
    "RequiresDuplicateDetection": ("duplicate_detection", ("queue", "topic")),
}
_TARGETS: Final = {
    "ForwardTo": "forward_to",
    "ForwardDeadLetteredMessagesTo": "forward_dead_letters_to",
}
_LEFT_OUT: Final = {
    "RequiresSession": "sessions",
    "EnablePartitioning": "partitioned entities",
    "EnableExpress": "express entities",
}
_COUNTS: Final = {"official": 10, "relaxed": 2000}


def load_config(path: Path, *, relaxed: bool = False) -> Config:
    """
    Read a file.

    Raises:
        ConfigError: naming every violation by its path and value.
        OSError: there is no such file.
    """
    return parse_config(path.read_text(encoding="utf-8-sig"), relaxed=relaxed)


def parse_config(text: str, *, relaxed: bool = False) -> Config:
    """Read a Config.json's text; see `load_config`."""
    try:
        document = json.loads(without_comments(text))
    except ValueError as error:
        raise ConfigError([f"not JSON: {error}"]) from error
    return _Reader(relaxed=relaxed).config(document)


def parse_properties(kind: str, values: Any, *, relaxed: bool) -> Properties:
    """Read the properties of one 'queue', 'topic' or 'subscription'; what is missing is as in Azure."""
    reader = _Reader(relaxed=relaxed)
    properties = reader.properties("Properties", kind, {} if values is None else values, CLOUD_DEFAULTS)
    reader.finish()
    return properties


def check_name(name: str) -> None:
    """Refuse a name no entity may have."""
    if len(name) > _MAX_NAME or not _NAME.fullmatch(name):
        raise ConfigError([f"Name: {name!r} is not a valid entity name"])


def without_comments(text: str) -> str:
    """Blank out `//` and `/* */` comments, leaving strings and line numbers alone."""
    return _COMMENT_OR_STRING.sub(_blank_comment, text)


_COMMENT_OR_STRING: Final = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)


def _blank_comment(match: re.Match[str]) -> str:
    found = match.group()
    return found if found.startswith('"') else re.sub(r"[^\n]", " ", found)


def duration_ms(text: str) -> int | None:
    """Return an ISO 8601 duration in milliseconds, or None when it is none."""
    match = _DURATION.fullmatch(text)
    if match is None or not any(match.groups()):
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return round((((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000)


@dataclass
class _Reader:
    """Collects every problem instead of stopping at the first."""

    relaxed: bool

    def __post_init__(self) -> None:
        self.problems: list[str] = []

    def finish(self) -> None:
        if self.problems:
            raise ConfigError(self.problems)

    def config(self, document: Any) -> Config:
        root = self._object("", document, {"UserConfig"})
        user = self._object("UserConfig", root.get("UserConfig"), {"Namespaces", "Logging"})
        self._logging(user.get("Logging"))
        namespaces = self._list("UserConfig.Namespaces", user.get("Namespaces"), 1, 1)
        config = Config(relaxed=self.relaxed)
        for path, namespace in namespaces:
            config = self._namespace(path, namespace)
        self._targets(config)
        self.finish()
        return config

    def _logging(self, value: Any) -> None:
        logging = self._object("UserConfig.Logging", value, {"Type"})
        if logging.get("Type") not in _LOG_TYPES:
            self._problem("UserConfig.Logging.Type", logging.get("Type"), f"must be one of {', '.join(_LOG_TYPES)}")

    def _namespace(self, path: str, value: Any) -> Config:
        namespace = self._object(path, value, {"Name", "Queues", "Topics"})
        if namespace.get("Name") != NAMESPACE:
            self._problem(f"{path}.Name", namespace.get("Name"), f"must be {NAMESPACE!r}")
        queues = [
            QueueConfig(name, self._given(at, "queue", entity))
            for at, name, entity in self._named(f"{path}.Queues", namespace.get("Queues"), set())
        ]
        topics = [
            TopicConfig(name, self._given(at, "topic", entity), self._subscriptions(at, entity))
            for at, name, entity in self._named(f"{path}.Topics", namespace.get("Topics"), {"Subscriptions"})
        ]
        self._distinct(path, [queue.name for queue in queues] + [topic.name for topic in topics])
        return Config(queues=tuple(queues), topics=tuple(topics), relaxed=self.relaxed)

    def _subscriptions(self, path: str, topic: dict[str, Any]) -> tuple[SubscriptionConfig, ...]:
        at = f"{path}.Subscriptions"
        least = 0 if self.relaxed else 1
        subscriptions = []
        for place, name, entity in self._named(at, topic.get("Subscriptions"), {"Rules"}, least=least):
            self._rules(place, entity.get("Rules", []))
            subscriptions.append(SubscriptionConfig(name, self._given(place, "subscription", entity)))
        self._distinct(at, [subscription.name for subscription in subscriptions])
        return tuple(subscriptions)

    def _rules(self, path: str, rules: Any) -> None:
        for place, rule in self._list(f"{path}.Rules", rules, 0, 1000):
            values = self._object(place, rule, {"Name", "Properties"})
            known = {"FilterType", "CorrelationFilter", "SqlFilter", "Action"}
            properties = self._object(f"{place}.Properties", values.get("Properties"), known)
            expression = (properties.get("SqlFilter") or {}).get("SqlExpression", "")
            match_all = properties.get("FilterType") == "Sql" and str(expression).replace(" ", "") in _MATCH_ALL
            if not match_all or properties.get("Action"):
                self._problem(place, rule, f"rules other than match-all: {USE_OFFICIAL}")

    def _given(self, path: str, kind: str, entity: dict[str, Any]) -> Properties:
        return self.properties(f"{path}.Properties", kind, entity.get("Properties", {}), FILE_DEFAULTS)

    def properties(self, path: str, kind: str, values: Any, defaults: Properties) -> Properties:
        """Read one entity's properties over their defaults."""
        found: dict[str, Any] = {}
        for name, value in self._object(path, values, None).items():
            found.update(self._property(f"{path}.{name}", kind, name, value))
        if "time_to_live" in found:
            found["time_to_live_given"] = True
        return replace(defaults, **found)

    def _property(self, path: str, kind: str, name: str, value: Any) -> dict[str, Any]:
        if name in _DURATIONS and kind in _DURATIONS[name][1]:
            return self._duration(path, name, kind, value)
        if name in _FLAGS and kind in _FLAGS[name][1]:
            return {_FLAGS[name][0]: self._typed(path, value, bool)}
        if name in _TARGETS and kind != "topic":
            return {_TARGETS[name]: self._typed(path, "" if value is None else value, str)}
        if name == "MaxDeliveryCount" and kind != "topic":
            return self._delivery_count(path, value)
        if name in _LEFT_OUT:
            if value is not False:
                self._problem(path, value, f"{_LEFT_OUT[name]}: {USE_OFFICIAL}")
            return {}
        self._problem(path, value, f"unknown property of a {kind}")
        return {}

    def _duration(self, path: str, name: str, kind: str, value: Any) -> dict[str, int]:
        ours, bounds = _DURATIONS[name]
        milliseconds = duration_ms(value) if isinstance(value, str) else None
        if milliseconds is None:
            self._problem(path, value, "must be an ISO 8601 duration such as PT1M")
            return {}
        low, high = bounds[kind]
        if self.relaxed:
            low, high = 1, 10_675_200 * 24 * _HOUR
        if not low <= milliseconds <= high:
            self._problem(path, value, f"must be from {_iso(low)} to {_iso(high)}")
        return {ours: milliseconds}

    def _delivery_count(self, path: str, value: Any) -> dict[str, int]:
        highest = _COUNTS["relaxed" if self.relaxed else "official"]
        if type(value) is not int or not 1 <= value <= highest:
            self._problem(path, value, f"must be a whole number from 1 to {highest}")
            return {}
        return {"max_delivery_count": value}

    def _targets(self, config: Config) -> None:
        known = {entity.name.lower() for entity in config.queues} | {topic.name.lower() for topic in config.topics}
        for path, name, properties in _forwarding(config):
            for key, target in (
                ("ForwardTo", properties.forward_to),
                ("ForwardDeadLetteredMessagesTo", properties.forward_dead_letters_to),
            ):
                if target and target.lower() not in known:
                    self._problem(f"{path}.Properties.{key}", target, "no such queue or topic")
                elif target and target.lower() == name.lower():
                    self._problem(f"{path}.Properties.{key}", target, "an entity cannot forward to itself")

    def _named(
        self, path: str, value: Any, more: set[str], *, least: int = 0
    ) -> Iterator[tuple[str, str, dict[str, Any]]]:
        for place, item in self._list(path, value, least, 50):
            entity = self._object(place, item, {"Name", "Properties"} | more)
            name = entity.get("Name")
            if isinstance(name, str) and len(name) <= _MAX_NAME and _NAME.fullmatch(name):
                yield place, name, entity
            else:
                self._problem(f"{place}.Name", name, "is not a valid entity name")

    def _distinct(self, path: str, names: list[str]) -> None:
        seen: set[str] = set()
        for name in names:
            if name.lower() in seen:
                self._problem(path, name, "the name is used twice (names do not differ by case)")
            seen.add(name.lower())

    def _object(self, path: str, value: Any, known: set[str] | None) -> dict[str, Any]:
        if not isinstance(value, dict):
            self._problem(path or "the document", value, "must be an object")
            return {}
        for key in value:
            if known is not None and key not in known:
                self._problem(f"{path}.{key}".lstrip("."), value[key], "unknown key")
        return value

    def _list(self, path: str, value: Any, low: int, high: int) -> list[tuple[str, Any]]:
        if not isinstance(value, list):
            self._problem(path, value, "must be a list")
            return []
        if not low <= len(value) <= (high if not self.relaxed else 10_000):
            self._problem(path, f"{len(value)} entries", f"must have from {low} to {high}")
        return [(f"{path}[{index}]", item) for index, item in enumerate(value)]

    def _typed(self, path: str, value: Any, kind: type) -> Any:
        if isinstance(value, kind):
            return value
        self._problem(path, value, f"must be {'true or false' if kind is bool else 'text'}")
        return kind()

    def _problem(self, path: str, value: Any, reason: str) -> None:
        self.problems.append(f"{path}: {_short(value)}: {reason}")


def _forwarding(config: Config) -> Iterator[tuple[str, str, Properties]]:
    base = "UserConfig.Namespaces[0]"
    for index, queue in enumerate(config.queues):
        yield f"{base}.Queues[{index}]", queue.name, queue.properties
    for index, topic in enumerate(config.topics):
        for inner, subscription in enumerate(topic.subscriptions):
            path = f"{base}.Topics[{index}].Subscriptions[{inner}]"
            yield path, f"{topic.name}/Subscriptions/{subscription.name}", subscription.properties


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def _iso(milliseconds: int) -> str:
    for unit, size, prefix in (("D", 24 * _HOUR, "P"), ("H", _HOUR, "PT"), ("M", _MINUTE, "PT")):
        if milliseconds % size == 0:
            return f"{prefix}{milliseconds // size}{unit}"
    return f"PT{milliseconds / 1000:g}S"
