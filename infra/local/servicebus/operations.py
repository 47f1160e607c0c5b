"""Operations as Azure bills them, per entity and kind."""

from collections import Counter
from typing import Final

SEND: Final = "send"
DELIVER: Final = "deliver"
SETTLE: Final = "settle"
RENEW: Final = "renew"
FORWARD: Final = "forward"
PEEK: Final = "peek"
CANCEL: Final = "cancel"


class Operations:
    """
    Counts of what would appear on a bill.

    Every started 64 KiB of a message that is sent, delivered, peeked or forwarded is one
    operation; settling, renewing and cancelling is one each.
    """

    def __init__(self) -> None:
        self._entities: dict[str, Counter[str]] = {}

    def of(self, entity: str) -> "Counter[str]":
        """Return the live counter of an entity; it outlives a reset, and the entity: what was done is billed."""
        return self._entities.setdefault(entity, Counter())

    def reset(self) -> None:
        for counter in self._entities.values():
            counter.clear()

    def snapshot(self) -> dict[str, object]:
        """Return the counts as JSON-ready values: per entity and kind, per kind, and in all."""
        totals: Counter[str] = Counter()
        for counter in self._entities.values():
            totals.update(counter)
        return {
            "entities": {name: dict(counter) for name, counter in sorted(self._entities.items()) if counter},
            "kinds": dict(totals),
            "total": totals.total(),
        }
