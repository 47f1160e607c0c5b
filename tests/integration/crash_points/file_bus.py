"""A bus in a file, with Service Bus's rules, that survives the worker: peek-lock, schedules, duplicate detection."""

from __future__ import annotations

import json
import mmap
import sqlite3
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.bus.messages import Outgoing, Received
from pipeline.failpoints import failpoint

MICROS = 1_000_000
LOCK_SECONDS = 60
MAX_DELIVERIES = 10
DUPLICATES_SECONDS = 600

SCHEMA = """
CREATE TABLE queue (number INTEGER PRIMARY KEY AUTOINCREMENT, entity, id, body, properties, visible, locked, token,
                    deliveries);
CREATE TABLE dead (entity, id);
CREATE TABLE topic (number INTEGER PRIMARY KEY AUTOINCREMENT, entity, id, body, properties);
CREATE TABLE seen (entity, id, at, PRIMARY KEY (entity, id));
"""


class SharedClock:
    """Microseconds in memory that forked processes share; a killed one leaves it where it was."""

    def __init__(self, start: int) -> None:
        self._memory = mmap.mmap(-1, 8)
        self.now = start

    def __call__(self) -> int:
        """Give the time; it moves by a microsecond at each look, as no real clock stands still."""
        self.now += 1
        return self.now

    @property
    def now(self) -> int:
        """The time."""
        return int(struct.unpack("q", self._memory[:8])[0])

    @now.setter
    def now(self, value: int) -> None:
        self._memory[:8] = struct.pack("q", value)

    def advance(self, seconds: float) -> None:
        """Move on."""
        self.now += int(seconds * MICROS)


class Locked(NamedTuple):
    """A message in the hands of one worker."""

    number: int
    token: int
    received: Received


class FileBus:
    """One file; every call is one transaction of its own."""

    def __init__(self, path: Path, clock: SharedClock) -> None:
        self._path = path
        self._clock = clock
        self._connection: sqlite3.Connection | None = None

    @property
    def file(self) -> sqlite3.Connection:
        """The connection, opened by the process that first asks."""
        if self._connection is None:
            self._connection = sqlite3.connect(self._path, isolation_level=None)
            self._connection.execute("PRAGMA journal_mode=WAL")
            self._connection.execute("PRAGMA synchronous=OFF")  # a killed process loses nothing by it
        return self._connection

    def create(self) -> None:
        """Make the tables."""
        self.file.executescript(SCHEMA)

    async def send(self, entity: str, messages: Sequence[Outgoing]) -> None:
        """Take a batch whole, as the broker does; what has a MessageId of the last ten minutes is dropped."""
        failpoint("bus.send.before")
        self.accept(entity, messages)
        failpoint("bus.send.after")

    def accept(self, entity: str, messages: Sequence[Outgoing]) -> None:
        """Take a batch."""
        now = self._clock.now
        self.file.execute("BEGIN IMMEDIATE")
        self.file.execute("DELETE FROM seen WHERE at < ?", (now - DUPLICATES_SECONDS * MICROS,))
        for message in messages:
            fresh = self.file.execute(
                "INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", (entity, message.message_id, now)
            ).rowcount
            if not fresh:
                continue
            properties = json.dumps(dict(message.properties))
            if "-topic-" in entity:
                self.file.execute(
                    "INSERT INTO topic (entity, id, body, properties) VALUES (?, ?, ?, ?)",
                    (entity, message.message_id, message.body, properties),
                )
            else:
                self.file.execute(
                    "INSERT INTO queue (entity, id, body, properties, visible, locked, token, deliveries) "
                    "VALUES (?, ?, ?, ?, ?, 0, 0, 0)",
                    (entity, message.message_id, message.body, properties, max(message.due, now)),
                )
        self.file.execute("COMMIT")

    def receive(self) -> Locked | None:
        """Lock the oldest message that may be seen; one delivered too often is dead."""
        now = self._clock.now
        self.file.execute("BEGIN IMMEDIATE")
        for number, entity, message_id, body, properties, visible, token, deliveries in self.file.execute(
            "SELECT number, entity, id, body, properties, visible, token, deliveries FROM queue "
            "WHERE visible <= ? AND locked < ? ORDER BY visible, number",
            (now, now),
        ).fetchall():
            if deliveries >= MAX_DELIVERIES:
                self.file.execute("DELETE FROM queue WHERE number = ?", (number,))
                self.file.execute("INSERT INTO dead VALUES (?, ?)", (entity, message_id))
                continue
            self.file.execute(
                "UPDATE queue SET locked = ?, token = token + 1, deliveries = deliveries + 1 WHERE number = ?",
                (now + LOCK_SECONDS * MICROS, number),
            )
            self.file.execute("COMMIT")
            received = Received(entity, message_id, body, json.loads(properties), visible, deliveries + 1)
            return Locked(number, token + 1, received)
        self.file.execute("COMMIT")
        return None

    def complete(self, locked: Locked) -> None:
        """Settle a message; a lost lock makes it a no-op."""
        self.file.execute("DELETE FROM queue WHERE number = ? AND token = ?", (locked.number, locked.token))

    def give_back(self, locked: Locked) -> None:
        """Let a lock go, as a worker does that raised or a lock that expired while it worked."""
        self.file.execute("UPDATE queue SET locked = 0, token = token + 1 WHERE number = ?", (locked.number,))

    def next_visible(self) -> int | None:
        """Give when the next message may be seen."""
        row = self.file.execute("SELECT min(max(visible, locked + 1)) FROM queue").fetchone()
        return None if row[0] is None else int(row[0])

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        """Read for the verdict."""
        return self.file.execute(sql).fetchall()

    async def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
