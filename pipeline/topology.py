"""
The one declaration of queues, topics and subscriptions, and what is written from it.

`python -m pipeline.topology --write` writes Azure's parameters, the emulators' Config.json and the settings example; a
test fails when they are stale.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.feeds import Feeds, load_feeds
from pipeline.settings import NAMESPACE, SCHEDULE_SUFFIX, Settings, load
from pipeline.subscribers import Subscribers, load_subscribers

ROOT = Path(__file__).parent.parent
AZURE_FILE = Path("infra/azure/topology.json")
EMULATOR_FILE = Path("infra/servicebus/Config.json")
SETTINGS_FILE = Path("local.settings.json.example")
SETTINGS_PAGE = Path("docs/settings.md")

QUEUE = {
    "LockDuration": "PT1M",
    "MaxDeliveryCount": 10,
    "DefaultMessageTimeToLive": "P14D",
    "DeadLetteringOnMessageExpiration": True,
    "RequiresDuplicateDetection": True,
    "DuplicateDetectionHistoryTimeWindow": "PT10M",
}
EMULATOR_BOUNDS = {"DefaultMessageTimeToLive": "PT1H", "DuplicateDetectionHistoryTimeWindow": "PT5M"}

EMULATOR_CONNECTION = (
    "Endpoint=sb://localhost;SharedAccessKeyName=RootManageSharedAccessKey;"
    "SharedAccessKey=SAS_KEY_VALUE;UseDevelopmentEmulator=true;"
)


class Topology(NamedTuple):
    """Base names, without the environment."""

    queues: tuple[str, ...]
    topics: Mapping[str, tuple[str, ...]]
    """Each topic with its subscriptions; a subscription forwards to `{subscription}-queue`."""


def topology(feeds: Feeds, subscribers: Subscribers) -> Topology:
    """Give what these feeds and subscribers need."""
    queues = {feed.queue for feed in feeds.values()}
    queues |= {feed.parser_queue for feed in feeds.values() if feed.parser_queue}
    queues |= {subscriber.queue for subscriber in subscribers.values()}
    topics = {
        feed.topic: tuple(sorted(one.name for one in subscribers.values() if one.reads(feed.name)))
        for feed in feeds.values()
    }
    return Topology(tuple(sorted(queues)), dict(sorted(topics.items())))


def emulator_config(wanted: Topology, environment: str = "local", **overrides: Any) -> dict[str, Any]:
    """Give the emulators' Config.json; `overrides` replace properties, e.g. LockDuration in tests."""
    queue = {**QUEUE, **EMULATOR_BOUNDS, **overrides}
    topic_keys = ("DefaultMessageTimeToLive", "RequiresDuplicateDetection", "DuplicateDetectionHistoryTimeWindow")
    subscription_keys = (
        "LockDuration",
        "MaxDeliveryCount",
        "DefaultMessageTimeToLive",
        "DeadLetteringOnMessageExpiration",
    )
    subscription = {key: queue[key] for key in subscription_keys}
    return {
        "UserConfig": {
            "Namespaces": [
                {
                    "Name": "sbemulatorns",
                    "Queues": [{"Name": f"{name}-{environment}", "Properties": queue} for name in wanted.queues],
                    "Topics": [
                        {
                            "Name": f"{topic}-{environment}",
                            "Properties": {key: queue[key] for key in topic_keys},
                            "Subscriptions": [
                                {
                                    "Name": name,
                                    "Properties": {**subscription, "ForwardTo": f"{name}-queue-{environment}"},
                                }
                                for name in names
                            ],
                        }
                        for topic, names in wanted.topics.items()
                    ],
                }
            ],
            "Logging": {"Type": "Console"},
        }
    }


def azure_parameters(wanted: Topology, feeds: Feeds) -> dict[str, Any]:
    """Give what the Bicep files load: base names and cloud values; the environment is a parameter there."""
    return {
        "queue": QUEUE,
        "queues": list(wanted.queues),
        "topics": [
            {"name": topic, "subscriptions": [{"name": name, "forwardTo": f"{name}-queue"} for name in names]}
            for topic, names in wanted.topics.items()
        ],
        "schedules": schedules(feeds),
    }


def schedules(feeds: Feeds) -> dict[str, str]:
    """Give the default schedule of every timer by its setting."""
    own = {
        "WATCHDOG_SCHEDULE": "*/30 * * * * *",
        "RELAY_SCHEDULE": "*/20 * * * * *",
        "UPKEEP_SCHEDULE": "0 */10 * * * *",
    }
    return {feed.schedule_setting: feed.schedule for feed in feeds.values()} | own


def settings_example(feeds: Feeds) -> dict[str, Any]:
    """Give local.settings.json.example: a desk with the local stack and its simulators."""
    values = {
        "FUNCTIONS_WORKER_RUNTIME": "python",
        "AzureWebJobsStorage": "UseDevelopmentStorage=true",
        "ENVIRONMENT": "local",
        "MINER_AZURE_SERVICE_BUS": EMULATOR_CONNECTION,
        "DATABASE_URL": "sqlite:///.local/pipeline.db",
        "REDIS_URL": "redis://localhost:6379/0",
        "LAKE_URL": "file:.local/lake",
        "TOKEN_KEY": "",
        "GRAPH_BASE_URL": "http://localhost:8080",
        "GRAPH_API_VERSION": "v26.0",
        "REST_BASE_URL": "http://localhost:8081",
    }
    return {"IsEncrypted": False, "Values": values | schedules(feeds)}


def settings_page(feeds: Feeds) -> str:
    """Give docs/settings.md: every setting that the code reads, with its default and meaning."""
    lines = ["# Settings", "", "Written by `python -m pipeline.topology --write` from `pipeline/settings.py`.", ""]
    lines += ["| setting | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        if name in ("schedules", "website_site_name"):
            continue
        shown = NAMESPACE if name == NAMESPACE.lower() else name.upper()
        default = "" if field.default in (None, "") else f"`{field.default}`"
        lines.append(f"| `{shown}` | {default} | {' '.join((field.description or '').split())} |")
    for setting, schedule in schedules(feeds).items():
        if setting.endswith(SCHEDULE_SUFFIX):
            lines.append(f"| `{setting}` | `{schedule}` | When the feed's users are queued; six-field NCRONTAB, UTC. |")
    return "\n".join(lines) + "\n"


def written_files() -> dict[Path, str]:
    """Give every written file with its text, by its path below the repository; own packages included."""
    own = load()
    feeds, subscribers = load_feeds(own.feeds_package), load_subscribers(own.subscribers_package)
    wanted = topology(feeds, subscribers)
    contents = {
        AZURE_FILE: azure_parameters(wanted, feeds),
        EMULATOR_FILE: emulator_config(wanted),
        SETTINGS_FILE: settings_example(feeds),
    }
    texts = {path: json.dumps(content, indent=2) + "\n" for path, content in contents.items()}
    return texts | {SETTINGS_PAGE: settings_page(feeds)}


def main() -> int:
    """Write the files, or without `--write` say which are stale (exit code 1)."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.topology", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the files instead of comparing them")
    write = parser.parse_args().write
    stale = []
    for path, text in written_files().items():
        target = ROOT / path
        if target.exists() and target.read_text() == text:
            continue
        stale.append(str(path))
        if write:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
    verb = "wrote" if write else "stale:"
    sys.stdout.write(f"{verb} {', '.join(stale)}\n" if stale else "all files are up to date\n")
    return 1 if stale and not write else 0


if __name__ == "__main__":
    sys.exit(main())
