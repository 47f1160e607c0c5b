"""What the subscribers got: the lake's files and the analytics tables, read as anybody would read them."""

from __future__ import annotations

import gzip
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import orjson

from infra.local.run.compare import Copy, Delivered, Key, digest

SUFFIX = ".jsonl.gz"


class Lake:
    """Reads new files of the lake at each look; they are written once and never changed."""

    def __init__(self, folder: Path) -> None:
        self.delivered = Delivered()
        self.files = 0
        self.bytes = 0
        self.counts: dict[str, int] = {}
        self._folder = folder
        self._seen: set[Path] = set()

    def look(self, *, most: int = 500) -> int:
        """Read at most so many new files; gives how many there were."""
        new = 0
        for path in self._folder.glob(f"feed=*/date=*/hour=*/*{SUFFIX}"):
            if path in self._seen:
                continue
            for copy in _copies(path):
                fresh = copy.key not in self.delivered.latest
                self.delivered.add(copy)
                self.counts[copy.key.feed] = self.counts.get(copy.key.feed, 0) + fresh
            self._seen.add(path)
            self.files += 1
            self.bytes += path.stat().st_size
            new += 1
            if new >= most:
                break
        return new


def _copies(path: Path) -> Iterator[Copy]:
    for line in gzip.decompress(path.read_bytes()).splitlines():
        item = orjson.loads(line)
        key = Key(item["feed"], item["userId"], item["scope"], item["id"])
        yield Copy(key, item["revision"], item["op"], item["messageId"], digest(item["raw"]))


Rows = dict[Key, tuple[int, bool]]


class Tables:
    """Reads the analytics tables: one per feed, the latest revision of each item."""

    def __init__(self, database: Path) -> None:
        self._database = database

    def rows(self, feed: str) -> Rows:
        """Give revision and whether it is deleted, by item; nothing if the table is not there yet."""
        with _reading(self._database) as connection:
            name = table(feed)
            if name not in _tables(connection):
                return {}
            found = connection.execute(f"SELECT user_id, scope, item_id, revision, deleted FROM {name}")  # noqa: S608 - the name is made of a feed's checked name
            return {Key(feed, user, scope, item): (rev, bool(gone)) for user, scope, item, rev, gone in found}

    def views(self) -> list[str]:
        """Give the marts."""
        with _reading(self._database) as connection:
            found = connection.execute("SELECT name FROM sqlite_master WHERE type = 'view' ORDER BY name")
            return [name for (name,) in found if name.startswith("mart_")]


def table(feed: str) -> str:
    """Give the name of a feed's table."""
    return f"data_{feed.replace('-', '_')}"


def differing(rows: Rows, delivered: Delivered, feed: str) -> list[Key]:
    """Give the items in which a table and the lake are not at the same revision."""
    lake = {key: (got.revision, got.deleted) for key, got in delivered.latest.items() if key.feed == feed}
    return sorted(key for key in rows.keys() | lake.keys() if rows.get(key) != lake.get(key))


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}


class _reading:  # noqa: N801 - stands in `with` as a function
    """Open the database for reading only; sqlite3's own `with` would not close it."""

    def __init__(self, database: Path) -> None:
        self._connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)

    def __enter__(self) -> sqlite3.Connection:
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()
