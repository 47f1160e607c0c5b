"""The log of calls: what tests and people ask afterwards."""

from __future__ import annotations

import re
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

LOG_CALLS = 100_000
SECRET = re.compile(r"((?:access_token|fb_exchange_token|input_token|client_secret|appsecret_proof)=)[^&]*")


class Call(NamedTuple):
    """One answered call. `owner` is whose data was asked for, `user` whose token asked."""

    number: int
    at: float
    run: str
    method: str
    target: str
    user: str
    owner: str
    edge: str
    scope: str
    status: int
    code: int
    fault: str
    blocked: bool
    token_in_query: bool
    items: int
    size: int


@dataclass(slots=True)
class Totals:
    """Counters of one run; exact, however long the run is."""

    calls: int = 0
    while_blocked: int = 0
    throttled: int = 0
    token_in_query: int = 0
    cross_user: int = 0
    items: int = 0
    size: int = 0
    user: Counter[str] = field(default_factory=Counter)
    edge: Counter[str] = field(default_factory=Counter)
    status: Counter[int] = field(default_factory=Counter)
    code: Counter[int] = field(default_factory=Counter)
    fault: Counter[str] = field(default_factory=Counter)

    def add(self, call: Call, *, throttled: bool) -> None:
        """Count one call."""
        self.calls += 1
        self.while_blocked += call.blocked
        self.throttled += throttled
        self.token_in_query += call.token_in_query
        self.cross_user += bool(call.user and call.owner and call.user != call.owner)
        self.items += call.items
        self.size += call.size
        self.user[call.user] += 1
        self.edge[call.edge] += 1
        self.status[call.status] += 1
        if call.code:
            self.code[call.code] += 1
        if call.fault:
            self.fault[call.fault] += 1

    def view(self) -> dict[str, Any]:
        """Give the counters as JSON has them."""
        return {
            "total": self.calls,
            "while_blocked": self.while_blocked,
            "throttled": self.throttled,
            "token_in_query": self.token_in_query,
            "cross_user": self.cross_user,
            "items": self.items,
            "bytes": self.size,
            "by_user": dict(self.user),
            "by_edge": dict(self.edge),
            "by_status": {str(status): count for status, count in self.status.items()},
            "by_code": {str(code): count for code, count in self.code.items()},
            "by_fault": dict(self.fault),
        }


THROTTLES = frozenset({4, 17, 32, 341, 613, *range(80_000, 80_015)})


class Calls:
    """Records calls; the log itself keeps the last `LOG_CALLS`."""

    def __init__(self, *, keep: int = LOG_CALLS) -> None:
        self._log: deque[Call] = deque(maxlen=keep)
        self._runs: dict[str, Totals] = {}
        self.count = 0

    def record(
        self, *, at: float, run: str, method: str, target: str, user: str, owner: str, edge: str, scope: str,
        status: int, code: int = 0, fault: str = "", blocked: bool = False, token_in_query: bool = False,
        items: int = 0, size: int = 0,
    ) -> None:  # fmt: skip
        """Note one call."""
        self.count += 1
        call = Call(
            self.count, at, run, method, target, user, owner, edge, scope, status, code, fault, blocked,
            token_in_query, items, size,
        )  # fmt: skip
        self._log.append(call)
        totals = self._runs.get(run)
        if totals is None:
            totals = self._runs[run] = Totals()
        totals.add(call, throttled=status == 429 or code in THROTTLES)

    def clear(self) -> None:
        """Forget everything."""
        self._log.clear()
        self._runs.clear()
        self.count = 0

    def view(self, *, run: str | None = None, log: bool = False, limit: int = 1000, **only: str) -> dict[str, Any]:
        """Give counters of one run (or all), and the newest calls that match `user`, `edge`, `scope` or `status`."""
        chosen = self._runs if run is None else {run: self._runs.get(run, Totals())}
        merged = Totals()
        for totals in chosen.values():
            _merge(merged, totals)
        view = {**merged.view(), "runs": sorted(self._runs)}
        if log or only:
            matching = [
                call
                for call in self._log
                if (run is None or call.run == run) and all(str(getattr(call, k)) == v for k, v in only.items())
            ]
            view["matching"] = len(matching)
            view["log"] = [_shown(call) for call in matching[-limit:]]
        return view


def _merge(into: Totals, other: Totals) -> None:
    for name in Totals.__slots__:
        value = getattr(into, name)
        if isinstance(value, Counter):
            value.update(getattr(other, name))
        else:
            setattr(into, name, value + getattr(other, name))


def _shown(call: Call) -> dict[str, Any]:
    path, _, query = call.target.partition("?")
    shown = call._asdict()
    del shown["target"]
    return {**shown, "path": path, "query": SECRET.sub(r"\1***", query), "bytes": shown.pop("size")}
