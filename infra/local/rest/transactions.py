"""The transactions of each user: seeded, newest first, changed only through control calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any

from infra.local.graph.clock import Clock, instant
from infra.local.graph.world import content_hash

FIRST_ID = 5_000_000
TYPES = ("purchase", "tip", "subscription", "refund")
CURRENCIES = ("EUR", "USD", "GBP")


@dataclass(slots=True)
class Transaction:
    """One transaction and its history."""

    item: dict[str, Any]
    created: int
    version: int = 1
    deleted_at: int | None = None


@dataclass
class Ledger:
    """All transactions by user, oldest first; the API shows them the other way round."""

    clock: Clock
    users: dict[str, list[Transaction]] = field(default_factory=dict)
    last_id: int = FIRST_ID

    def listed(self, user: str) -> list[Transaction]:
        """Give what the API lists, newest first."""
        return [entry for entry in reversed(self.users[user]) if entry.deleted_at is None]

    def add(self, user: str, created: float, changes: dict[str, Any], random: Random) -> Transaction:
        """Add a transaction where its time puts it."""
        self.last_id += 1
        item = {
            "id": self.last_id,
            "amount": round(random.uniform(1, 500), 2),
            "currency": random.choice(CURRENCIES),
            "fan_id": random.randrange(1, 50_000),
            "type": random.choice(TYPES),
            "created_at": datetime.fromtimestamp(int(created), UTC).isoformat().replace("+00:00", "Z"),
            **changes,
        }
        entry = Transaction(item, int(instant(item["created_at"]) or created))
        self.users[user].append(entry)
        self.users[user].sort(key=lambda other: (other.created, other.item["id"]))
        return entry

    def find(self, transaction_id: int) -> tuple[str, Transaction] | None:
        """Find a transaction and its user."""
        for user, entries in self.users.items():
            for entry in entries:
                if entry.item["id"] == transaction_id:
                    return user, entry
        return None


def build(clock: Clock, *, seed: int, users: int, transactions: int, spread: int) -> Ledger:
    """Make the ledger; its history ends at the clock's present time."""
    ledger, end = Ledger(clock), int(clock.now())
    for index in range(users):
        user = str(10_000_000 + index)
        ledger.users[user] = []
        random = Random(f"{seed}/transactions of {user}")
        for offset in sorted(random.randrange(spread) for _ in range(transactions)):
            ledger.add(user, end - spread + offset, {}, random)
    return ledger


def truth(user: str, entry: Transaction) -> dict[str, Any]:
    """Give the truth about a transaction."""
    return {
        "user": user, "scope": user, "edge": "transactions", "id": entry.item["id"], "version": entry.version,
        "hash": content_hash(entry.item), "created": entry.created, "created_at": entry.item["created_at"],
        "visible": entry.deleted_at is None, "deleted": entry.deleted_at is not None, "deleted_at": entry.deleted_at,
    }  # fmt: skip
