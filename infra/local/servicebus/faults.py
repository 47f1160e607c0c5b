"""Faults on demand: what a test may ask an entity to do wrong, a limited number of times."""

from dataclasses import dataclass, field

from infra.local.servicebus.errors import SERVER_BUSY

#: No fault may stay armed for more than this many messages; a forgotten one must end.
MAX_COUNT = 1_000_000


@dataclass(slots=True)
class Faults:
    """What is still owed to one entity."""

    refuse_sends: int = 0
    refuse_condition: str = SERVER_BUSY
    delay_sends: int = 0
    delay_seconds: float = 0.0
    deliver_twice: int = 0
    lose_send_acknowledgements: int = 0
    lose_settle_acknowledgements: int = 0

    def take(self, name: str) -> bool:
        """Use up one fault of a kind, if one is owed."""
        left: int = getattr(self, name)
        if left <= 0:
            return False
        setattr(self, name, left - 1)
        return True

    def pending(self) -> dict[str, int]:
        """Return what is still owed, for the control API."""
        owed = {
            "refuse-sends": self.refuse_sends,
            "delay-sends": self.delay_sends,
            "deliver-twice": self.deliver_twice,
            "lose-send-acknowledgements": self.lose_send_acknowledgements,
            "lose-settle-acknowledgements": self.lose_settle_acknowledgements,
        }
        return {name: count for name, count in owed.items() if count}


@dataclass(slots=True)
class FaultBook:
    """The faults of every entity, by lower-case name."""

    entities: dict[str, Faults] = field(default_factory=dict)

    def of(self, entity: str) -> Faults:
        return self.entities.setdefault(entity.lower(), Faults())

    def find(self, entity: str) -> Faults | None:
        """Return an entity's faults if any were ever asked for; cheap enough for every message."""
        return self.entities.get(entity.lower()) if self.entities else None

    def clear(self) -> None:
        self.entities.clear()

    def snapshot(self) -> dict[str, dict[str, int]]:
        return {name: owed for name, faults in sorted(self.entities.items()) if (owed := faults.pending())}
