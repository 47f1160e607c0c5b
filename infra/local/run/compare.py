"""The truth against what subscribers got, to the item and its content. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

EXAMPLES = 3
"""So many items are named in a report of what is wrong."""


class Key(NamedTuple):
    """One item."""

    feed: str
    user: str
    scope: str
    item: str


class Fact(NamedTuple):
    """What the simulator knows of an item. `digest` is over the fields that its feed asks for."""

    digest: str
    created: int
    visible: bool
    deleted: bool
    malformed: bool


class Copy(NamedTuple):
    """One revision of an item as one message brought it."""

    key: Key
    revision: int
    op: str
    message_id: str
    digest: str


class Latest(NamedTuple):
    """The greatest revision of an item that arrived."""

    revision: int
    deleted: bool
    digest: str


@dataclass
class Delivered:
    """All that one subscriber got, folded as it comes: order and repeated deliveries change nothing."""

    latest: dict[Key, Latest] = field(default_factory=dict)
    twice: set[tuple[Key, int]] = field(default_factory=set)
    copies: int = 0
    _message_of: dict[tuple[Key, int], str] = field(default_factory=dict)

    def add(self, copy: Copy) -> None:
        """Fold in one copy. 'Twice' is one revision of an item under two message ids."""
        self.copies += 1
        revision = (copy.key, copy.revision)
        if self._message_of.setdefault(revision, copy.message_id) != copy.message_id:
            self.twice.add(revision)
        known = self.latest.get(copy.key)
        if known is None or copy.revision > known.revision:
            self.latest[copy.key] = Latest(copy.revision, copy.op == "delete", copy.digest)

    def of(self, feed: str) -> Delivered:
        """Give the part of one feed."""
        return Delivered(
            latest={key: got for key, got in self.latest.items() if key.feed == feed},
            twice={revision for revision in self.twice if revision[0].feed == feed},
        )


@dataclass(frozen=True)
class Verdict:
    """What is wrong, by kind. `undeleted` are deletions that must have been noticed."""

    expected: int
    arrived: int
    malformed: int
    lost: list[Key]
    twice: list[Key]
    different: list[Key]
    unknown: list[Key]
    undeleted: list[Key]

    @property
    def matched(self) -> bool:
        """Whether the subscriber holds the truth."""
        return self.expected > 0 and not self.faults()

    @classmethod
    def together(cls, verdicts: Iterable[Verdict]) -> Verdict:
        """Give one verdict for several feeds."""
        every = list(verdicts)
        return cls(
            expected=sum(one.expected for one in every),
            arrived=sum(one.arrived for one in every),
            malformed=sum(one.malformed for one in every),
            lost=[key for one in every for key in one.lost],
            twice=[key for one in every for key in one.twice],
            different=[key for one in every for key in one.different],
            unknown=[key for one in every for key in one.unknown],
            undeleted=[key for one in every for key in one.undeleted],
        )

    def faults(self) -> dict[str, list[Key]]:
        """Give the kinds that are not empty."""
        kinds = {
            "lost": self.lost,
            "twice": self.twice,
            "different": self.different,
            "unknown": self.unknown,
            "deleted but still there": self.undeleted,
        }
        return {name: keys for name, keys in kinds.items() if keys}

    def text(self) -> str:
        """Say what is wrong, with a few examples of each kind."""
        parts = []
        for name, keys in self.faults().items():
            examples = ", ".join(f"{key.feed}/{key.scope}/{key.item}" for key in keys[:EXAMPLES])
            parts.append(f"{name} {len(keys)} ({examples}{', …' if len(keys) > EXAMPLES else ''})")
        return "; ".join(parts) or "equal to the truth"


def compare(truth: Mapping[Key, Fact], delivered: Delivered, *, deletions_since: int = 0) -> Verdict:
    """
    Compare. An item that the API serves malformed must not arrive in that form: it waits in quarantine.

    `deletions_since` is the item time from which a deletion must have been noticed: a timeline feed reads no older
    items again.
    """
    lost, different, undeleted = [], [], []
    arrived = 0
    for key, fact in truth.items():
        got = delivered.latest.get(key)
        if fact.visible and not fact.malformed:
            if got is None:
                lost.append(key)
            elif got.deleted or got.digest != fact.digest:
                different.append(key)
            else:
                arrived += 1
        elif fact.deleted and got is not None and not got.deleted and fact.created >= deletions_since:
            undeleted.append(key)
    return Verdict(
        expected=sum(fact.visible and not fact.malformed for fact in truth.values()),
        arrived=arrived,
        malformed=sum(fact.visible and fact.malformed for fact in truth.values()),
        lost=lost,
        twice=sorted({key for key, _ in delivered.twice}),
        different=different,
        unknown=[key for key in delivered.latest if key not in truth],
        undeleted=undeleted,
    )


def facts(feed: str, rows: Iterable[Mapping[str, Any]]) -> dict[Key, Fact]:
    """Read the rows of a simulator's truth."""
    return {
        Key(feed, str(row["user"]), str(row["scope"]), str(row["id"])): Fact(
            digest=str(row["hash"]),
            created=int(row["created"]),
            visible=bool(row["visible"]),
            deleted=bool(row["deleted"]),
            malformed=bool(row.get("malformed")),
        )
        for row in rows
    }


def digest(raw: Any) -> str:
    """Give the sha256 of canonical JSON: sorted keys, no spaces, UTF-8."""
    return hashlib.sha256(orjson.dumps(raw, option=orjson.OPT_SORT_KEYS)).hexdigest()
