"""Layer: what is extracted. One file per feed; the only place that names a feed."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from types import ModuleType

from pipeline.errors import ConfigurationError
from pipeline.feeds.base import ChildOf, Feed

Feeds = dict[str, Feed]


def load_feeds(package: str = "", *, enabled: Iterable[str] = (), sources: Iterable[str] | None = None) -> Feeds:
    """
    Give the feeds of this package and of an own one, by name, parents before their children.

    `enabled` keeps only these; `sources` keeps only feeds of configured sources. Raises ConfigurationError for an
    unknown name, a name declared twice, or a child whose parent is not enabled.
    """
    found: Feeds = {}
    for module in [*_modules(__name__), *(_modules(package) if package else ())]:
        feed = getattr(module, "FEED", None)
        if not isinstance(feed, Feed):
            continue
        if feed.name in found:
            raise ConfigurationError(f"feed {feed.name!r} is declared twice, the second time in {module.__name__}")
        found[feed.name] = feed
    wanted = tuple(enabled)
    if unknown := [name for name in wanted if name not in found]:
        raise ConfigurationError(f"FEEDS_ENABLED names {', '.join(unknown)}; known are {', '.join(sorted(found))}")
    configured = None if sources is None else set(sources)
    chosen = {
        name: feed
        for name, feed in found.items()
        if (not wanted or name in wanted) and (configured is None or feed.source in configured)
    }
    for feed in chosen.values():
        if isinstance(feed.scope, ChildOf) and feed.scope.feed not in chosen:
            raise ConfigurationError(f"feed {feed.name!r} hangs on {feed.scope.feed!r}, which is not enabled")
    return dict(sorted(chosen.items(), key=lambda entry: (isinstance(entry[1].scope, ChildOf), entry[0])))


def _modules(package: str) -> list[ModuleType]:
    try:
        root = importlib.import_module(package)
    except ImportError as error:
        raise ConfigurationError(f"FEEDS_PACKAGE: {package!r} cannot be imported: {error}") from error
    names = sorted(entry.name for entry in pkgutil.iter_modules(root.__path__) if entry.name != "base")
    return [importlib.import_module(f"{package}.{name}") for name in names]
