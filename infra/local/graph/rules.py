"""Which calls a fault hits: the matching that both simulators share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any


class BadRule(ValueError):
    """A fault that cannot be: the text says what is wrong with it."""


@dataclass(slots=True)
class Rule:
    """
    One fault. It hits calls whose `METHOD /path?query` the regular expression finds, after `after_calls` such calls,
    at most `times` times, each with probability `rate`, or each `every`-th.
    """

    id: int
    kind: str
    options: dict[str, Any]
    match: re.Pattern[str] | None = None
    user: str | None = None
    edge: str | None = None
    after_calls: int = 0
    times: int | None = None
    rate: float = 1.0
    every: int = 1
    random: Random = field(default_factory=Random)
    memory: dict[str, str] = field(default_factory=dict)
    """What a kind has to remember between calls, by scope."""
    matched: int = 0
    fired: int = 0

    def hits(self, *, line: str, user: str, edge: str) -> bool:
        """Tell whether this call is hit, and count it."""
        if self.user is not None and self.user != user:
            return False
        if self.edge is not None and self.edge != edge:
            return False
        if self.match is not None and not self.match.search(line):
            return False
        self.matched += 1
        if self.matched <= self.after_calls or (self.times is not None and self.fired >= self.times):
            return False
        if (self.matched - self.after_calls - 1) % self.every:
            return False
        if self.rate < 1.0 and self.random.random() >= self.rate:
            return False
        self.fired += 1
        return True

    def view(self) -> dict[str, Any]:
        """Give the rule with its counters."""
        return {
            "id": self.id, "kind": self.kind, "match": self.match.pattern if self.match else None, "user": self.user,
            "edge": self.edge, "after_calls": self.after_calls, "times": self.times, "rate": self.rate,
            "every": self.every, **self.options, "matched": self.matched, "fired": self.fired,
        }  # fmt: skip


COMMON = ("kind", "match", "user", "edge", "after_calls", "times", "rate", "every", "seed")


class Rules:
    """The faults in force; `kinds` says which exist and what options each takes."""

    def __init__(self, kinds: Mapping[str, Iterable[str]], *, seed: int) -> None:
        self._kinds = {kind: frozenset(options) for kind, options in kinds.items()}
        self._seed = seed
        self._next = 1
        self.active: list[Rule] = []

    def add(self, wanted: Mapping[str, Any], *, user: str | None = None) -> Rule:
        """Put one fault in force; `user` is the id that the wanted user resolved to. Raises BadRule."""
        kind = wanted.get("kind")
        if kind not in self._kinds:
            raise BadRule(f"kind must be one of {', '.join(sorted(self._kinds))}; got {kind!r}")
        options = {name: value for name, value in wanted.items() if name not in COMMON}
        if unknown := sorted(options.keys() - self._kinds[kind]):
            raise BadRule(f"{kind} takes {', '.join(sorted(self._kinds[kind])) or 'no options'}; not {unknown[0]!r}")
        try:
            match = re.compile(wanted["match"]) if wanted.get("match") else None
        except re.error as error:
            raise BadRule(f"match is not a regular expression: {error}") from error
        rule = Rule(
            id=self._next,
            kind=kind,
            options=options,
            match=match,
            user=user,
            edge=wanted.get("edge"),
            after_calls=_whole(wanted, "after_calls", 0),
            times=_whole(wanted, "times", 1) if wanted.get("times") is not None else None,
            rate=_share(wanted.get("rate", 1.0)),
            every=_whole(wanted, "every", 1) if wanted.get("every") is not None else 1,
            random=Random(f"{self._seed}/{wanted.get('seed', self._next)}"),
        )
        self._next += 1
        self.active.append(rule)
        return rule

    @property
    def live(self) -> bool:
        """Tell whether any fault may still hit."""
        return any(rule.times is None or rule.fired < rule.times for rule in self.active)

    def remove(self, rule_id: int | None = None) -> int:
        """Lift one fault, or all; gives how many were lifted."""
        before = len(self.active)
        self.active = [rule for rule in self.active if rule_id is not None and rule.id != rule_id]
        return before - len(self.active)

    def hits(self, *, line: str, user: str, edge: str, beside: frozenset[str] = frozenset()) -> list[Rule]:
        """Give the faults that hit this call, in the order in which they were made; kinds `beside` it are not asked."""
        return [rule for rule in self.active if rule.kind not in beside and rule.hits(line=line, user=user, edge=edge)]


def _whole(wanted: Mapping[str, Any], name: str, least: int) -> int:
    value = wanted.get(name, least)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise BadRule(f"{name} must be a whole number from {least} on; got {value!r}")
    return value


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise BadRule(f"rate must be between 0 and 1; got {value!r}")
    return float(value)
