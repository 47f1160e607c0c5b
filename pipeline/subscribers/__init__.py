"""Layer: subscribers. One file per kind; a subscription, a queue and a function exist iff a file here declares them."""

from __future__ import annotations

import importlib
import pkgutil

from pipeline.errors import ConfigurationError
from pipeline.subscribers.base import Subscriber

Subscribers = dict[str, Subscriber]


def load_subscribers(package: str = "") -> Subscribers:
    """Give the subscribers of this package and of an own one, by name. Raises ConfigurationError if two share one."""
    found: Subscribers = {}
    for name in [__name__, *([package] if package else [])]:
        root = importlib.import_module(name)
        for entry in sorted(pkgutil.iter_modules(root.__path__), key=lambda entry: entry.name):
            subscriber = getattr(importlib.import_module(f"{name}.{entry.name}"), "SUBSCRIBER", None)
            if not isinstance(subscriber, Subscriber):
                continue
            if subscriber.name in found:
                raise ConfigurationError(f"subscriber {subscriber.name!r} is declared twice")
            found[subscriber.name] = subscriber
    return found
