"""App settings and host.json, with the precedence and the spellings that Azure knows."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

_REFERENCE = re.compile(r"%([^%]+)%")
_OVERRIDE = "azurefunctionsjobhost__"
_DEFAULT_CONNECTION = "AzureWebJobsServiceBus"


class SettingMissing(Exception):
    """Names the setting that a function needs and nobody gave."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"setting {name} is missing ({why})")
        self.name = name


class Connection(NamedTuple):
    """How to reach a Service Bus: a connection string, or a namespace with an identity."""

    name: str
    connection_string: str | None
    namespace: str | None
    client_id: str | None = None


class AppSettings:
    """Settings by name; found exactly, else without regard to case, as .NET configuration does."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = dict(values)
        self._folded = {name.casefold(): value for name, value in values.items()}

    @classmethod
    def load(cls, app: Path, environment: Mapping[str, str]) -> AppSettings:
        """Join local.settings.json of the app with the environment, which wins."""
        path = app / "local.settings.json"
        local = read_json(path) if path.exists() else {}
        values = local.get("Values") or {}
        if not isinstance(values, dict):
            raise TypeError(f"{path}: Values is not an object")
        return cls({**{str(name): _as_text(value) for name, value in values.items()}, **environment})

    def get(self, name: str) -> str | None:
        if name in self.values:
            return self.values[name]
        return self._folded.get(name.casefold())

    def resolve(self, text: str) -> str:
        """Replace each %NAME% by its setting; raises SettingMissing."""

        def found(match: re.Match[str]) -> str:
            value = self.get(match.group(1))
            if not value:
                raise SettingMissing(match.group(1), f"named by {text!r}")
            return value

        return _REFERENCE.sub(found, text)

    def connection(self, name: str | None) -> Connection:
        """
        Find the connection a binding names; raises SettingMissing.

        Tried in Azure's order: AzureWebJobs + name, then the name itself, then
        the identity form `<name>__fullyQualifiedNamespace`.
        """
        name = self.resolve(name) if name else _DEFAULT_CONNECTION
        for setting in (f"AzureWebJobs{name}", name, f"ConnectionStrings:{name}"):
            if value := self.get(setting):
                return Connection(name, value, None)
        for prefix in (f"AzureWebJobs{name}", name):
            if namespace := self._section(prefix, "fullyQualifiedNamespace"):
                return Connection(name, None, namespace, self._section(prefix, "clientId"))
        raise SettingMissing(name, f"nor is there {name}__fullyQualifiedNamespace")

    def _section(self, prefix: str, key: str) -> str | None:
        return self.get(f"{prefix}__{key}") or self.get(f"{prefix}:{key}")

    def for_workers(self) -> dict[str, str]:
        """Return the settings as a worker sees them, with what every host adds."""
        return {
            "FUNCTIONS_WORKER_RUNTIME": "python",
            "FUNCTIONS_EXTENSION_VERSION": "~4",
            "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
            **self.values,
        }

    def disabled_by(self, function: str) -> str | None:
        """Return the setting that disables `function`, if one does."""
        for name in (
            f"AzureWebJobs.{function}.Disabled",
            f"AzureWebJobs_{function}_Disabled",
            f"AzureWebJobs__{function}__Disabled",
        ):
            if (self.get(name) or "").strip().casefold() in ("1", "true"):
                return name
        return None


class HostJson:
    """host.json under its AzureFunctionsJobHost__ overrides; keys without regard to case."""

    def __init__(self, document: Mapping[str, Any], settings: AppSettings) -> None:
        self._document = _folded(document)
        for name, value in settings.values.items():
            folded = name.casefold().replace(":", "__")
            if folded.startswith(_OVERRIDE):
                self._override(folded.removeprefix(_OVERRIDE).split("__"), value)

    @classmethod
    def load(cls, app: Path, settings: AppSettings) -> HostJson:
        path = app / "host.json"
        return cls(read_json(path) if path.exists() else {}, settings)

    def _override(self, keys: list[str], value: str) -> None:
        node = self._document
        for key in keys[:-1]:
            child = node.get(key)
            if not isinstance(child, dict):
                child = node[key] = {}
            node = child
        node[keys[-1]] = value

    def get(self, path: str) -> Any:
        """Look up `extensions.serviceBus.maxConcurrentCalls`; None when absent."""
        node: Any = self._document
        for key in path.casefold().split("."):
            if not isinstance(node, dict) or key not in node:
                return None
            node = node[key]
        return node

    def whole(self, path: str, default: int) -> int:
        value = self.get(path)
        if value is None:
            return default
        try:
            return int(value)
        except (TypeError, ValueError) as bad:
            raise ValueError(f"host.json: {path} is {value!r}, not a number") from bad

    def flag(self, path: str, *, default: bool) -> bool:
        value = self.get(path)
        return default if value is None else truth(value)

    def span(self, path: str, default: timedelta | None) -> timedelta | None:
        """Return a TimeSpan; None for an infinite one (-1, or any negative span)."""
        value = self.get(path)
        if value is None:
            return default
        if value in (-1, "-1"):
            return None
        try:
            span = timespan(str(value))
        except ValueError as bad:
            raise ValueError(f"host.json: {path}: {bad}") from bad
        return None if span < timedelta(0) else span


def timespan(text: str) -> timedelta:
    """Read a .NET TimeSpan such as `00:05:00`, `1.02:00:00` or `-00:00:00.0010000`."""
    match = re.fullmatch(r"(-)?(?:(\d+)\.)?(\d{1,2}):(\d{1,2})(?::(\d{1,2}(?:\.\d+)?))?", text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a TimeSpan like 00:05:00")
    sign, days, hours, minutes, seconds = match.groups()
    span = timedelta(days=int(days or 0), hours=int(hours), minutes=int(minutes), seconds=float(seconds or 0))
    return -span if sign else span


def truth(value: object) -> bool:
    return str(value).strip().casefold() in ("1", "true")


def read_json(path: Path) -> dict[str, Any]:
    """Read JSON with the // comments, trailing commas and byte order mark that the .NET tools accept."""
    text = path.read_text(encoding="utf-8-sig")
    # A string, or a comment, or a comma that closes nothing: strings are matched first and kept.
    pattern = re.compile(r'("(?:\\.|[^"\\])*")|//[^\n]*|/\*.*?\*/', re.DOTALL)
    text = pattern.sub(lambda match: match.group(1) or "", text)
    text = re.sub(r'("(?:\\.|[^"\\])*")|,(?=\s*[}\]])', lambda match: match.group(1) or "", text)
    try:
        document = json.loads(text)
    except json.JSONDecodeError as bad:
        raise ValueError(f"{path}: {bad}") from bad
    if not isinstance(document, dict):
        raise TypeError(f"{path}: not a JSON object")
    return document


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value)


def _folded(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {str(key).casefold(): _folded(value) for key, value in node.items()}
    return node
