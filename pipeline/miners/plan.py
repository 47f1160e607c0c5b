"""What the engine knows of each enabled feed: its rules with this deployment's overrides, queues, topic, children."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from pipeline.chains.protocol import Chain, Rules
from pipeline.feeds import Feeds
from pipeline.feeds.base import ChildOf, Feed, Kind, Raw
from pipeline.settings import Settings
from pipeline.sources.base import READ_STAGE
from pipeline.storage.children import Child
from pipeline.storage.items import Accepted


class Plan(NamedTuple):
    """One feed, ready to run."""

    feed: Feed
    rules: Rules
    queue: str
    topic: str
    children: tuple[Child, ...]
    wants_children: Callable[[Accepted], bool]
    parser_queue: str = ""

    def route(self, chain: Chain) -> str:
        """Give the queue on which a chain is rung: a finished report is read on the parser's."""
        reading = self.parser_queue and chain.cursor is not None and chain.cursor.startswith(READ_STAGE)
        return self.parser_queue if reading else self.queue

    @property
    def queues(self) -> tuple[str, ...]:
        """All queues on which its doorbells ring."""
        return (self.queue, self.parser_queue) if self.parser_queue else (self.queue,)


Plans = Mapping[str, Plan]


def make_plans(feeds: Feeds, settings: Settings) -> Plans:
    """Give the plan of every feed by name."""
    rules = {feed.name: _rules(feed, settings) for feed in feeds.values()}
    return {
        feed.name: Plan(
            feed=feed,
            rules=rules[feed.name],
            queue=settings.entity(feed.queue),
            topic=settings.entity(feed.topic),
            children=tuple(
                Child(child, rules[child.name], settings.entity(child.queue))
                for child in feeds.values()
                if isinstance(child.scope, ChildOf) and child.scope.feed == feed.name
            ),
            wants_children=_wants_children(feed),
            parser_queue=settings.entity(feed.parser_queue) if feed.parser_queue else "",
        )
        for feed in feeds.values()
    }


def _rules(feed: Feed, settings: Settings) -> Rules:
    return Rules(
        settle=settings.duration("settle", feed.settle),
        fresh_window=settings.duration("fresh_window", feed.fresh_window),
        refresh_every=settings.duration("refresh_every", feed.refresh_every),
        refresh_window=settings.duration("refresh_window", feed.refresh_window),
        newest_first=feed.newest_first,
        by_time=feed.pages_by_time,
        child=isinstance(feed.scope, ChildOf),
        snapshot=feed.kind is Kind.SNAPSHOT,
        staged=feed.kind is Kind.STAGED,
        daily=feed.daily,
        sweep_every=settings.duration("sweep_every", feed.sweep_every),
    )


def _wants_children(feed: Feed) -> Callable[[Accepted], bool]:
    """A new parent whose marker says that it has no children needs no call; a changed one may have lost some."""

    def wants(accepted: Accepted) -> bool:
        raw = accepted.item.raw
        if not accepted.is_new or not feed.child_marker or raw is None:
            return True
        return _at(raw, feed.child_marker) != 0

    return wants


def _at(raw: Raw, path: tuple[str, ...]) -> object:
    value: object = raw
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value
