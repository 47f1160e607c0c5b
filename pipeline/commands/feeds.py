"""`feeds`: which kinds of data this deployment mines, and why others are off."""

from __future__ import annotations

import argparse
from typing import Any

from pipeline.commands.base import OK, Command, Context, with_json
from pipeline.commands.text import table, to_json
from pipeline.feeds import load_feeds
from pipeline.feeds.base import ChildOf, Discovered, Feed
from pipeline.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    with_json(parser)


async def run(args: argparse.Namespace, context: Context) -> int:
    """List all feeds, those that run first."""
    settings = context.settings
    everything = load_feeds(settings.feeds_package)
    rows = [_row(feed, settings) for feed in everything.values()]
    rows.sort(key=lambda row: bool(row["off"]))
    if args.json:
        context.say(to_json(rows))
        return OK
    context.say(
        table(
            ("feed", "source", "kind", "scope", "schedule (UTC)", "queue", "topic", "state"),
            [
                (
                    *(row[name] for name in ("feed", "source", "kind", "scope", "schedule", "queue", "topic")),
                    _state(row),
                )
                for row in rows
            ],
        )
    )
    return OK


def _row(feed: Feed, settings: Settings) -> dict[str, Any]:
    return {
        "feed": feed.name,
        "source": feed.source,
        "kind": feed.kind.value,
        "scope": _scope(feed),
        "path": feed.path,
        "fields": feed.fields,
        "schedule": settings.schedules.get(feed.schedule_setting, feed.schedule),
        "setting": feed.schedule_setting,
        "queue": settings.entity(feed.queue),
        "topic": settings.entity(feed.topic),
        "off": _why_off(feed, settings),
    }


def _why_off(feed: Feed, settings: Settings) -> str:
    if settings.enabled_feeds and feed.name not in settings.enabled_feeds:
        return "not named in FEEDS_ENABLED"
    if feed.source not in settings.configured_sources:
        return f"{feed.source.upper()}_BASE_URL is empty"
    return ""


def _state(row: dict[str, Any]) -> str:
    return f"off: {row['off']}" if row["off"] else "on"


def _scope(feed: Feed) -> str:
    if isinstance(feed.scope, ChildOf):
        return f"each of {feed.scope.feed}"
    return feed.scope.kind.replace("_", " ") if isinstance(feed.scope, Discovered) else "user"


COMMAND = Command("feeds", "list the feeds, their schedules, queues and topics, and why one is off", configure, run)
