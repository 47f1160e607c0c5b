"""Layer: sources. An API is a source; nothing outside this package and the feeds names one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import ConfigurationError

if TYPE_CHECKING:
    from pipeline.sources.base import Budget, Source, SourceOptions

SOURCES = ("graph", "rest")


def build_source(name: str, options: SourceOptions, budget: Budget) -> Source:
    """
    Make a source. Opens nothing; connections open at the first call, in the running loop.

    A source knows no tokens: each request carries its own, and the caller marks one dead when it sees
    `FaultKind.TOKEN_DEAD`. Raises `ConfigurationError` for an unknown name or a base URL that must not be called.
    """
    if name == "graph":
        from pipeline.sources.graph import GraphSource  # the network library loads with the first source

        return GraphSource(options, budget)
    if name == "rest":
        from pipeline.sources.rest import RestSource

        return RestSource(options, budget)
    raise ConfigurationError(f"there is no source {name!r}; there are: {', '.join(SOURCES)}")
