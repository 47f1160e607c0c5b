"""Rolling call budgets, the usage headers that report them, and blocks that lengthen under fire."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from infra.local.graph.clock import Clock
from infra.local.graph.errors import GraphError

WINDOW_SECONDS = 3_600
BUCKETS = 60  # the window rolls in so many steps; a call made while blocked adds one step to the block
MOST_BLOCK_SECONDS = 86_400.0
LEAST_PERCENT = 1.0  # below it the API leaves the header out
KINDS = ("app", "user", "page", "ad_account", "insights")
USE_CASES = {"page": "pages", "ad_account": "ads_management", "insights": "ads_insights"}
TIER = "standard_access"


class Charge(NamedTuple):
    """One budget that a call draws on."""

    kind: str
    key: str


@dataclass(slots=True)
class Account:
    """The state of one budget; times are the API's own seconds."""

    buckets: deque[tuple[int, int]] = field(default_factory=deque)
    count: int = 0
    refused: int = 0
    blocked_until: float = 0.0

    def roll(self, now: float, window: float) -> None:
        """Forget what left the window, and a block that is over."""
        while self.buckets and (self.buckets[0][0] + 1) * (window / BUCKETS) + window <= now:
            self.count -= self.buckets.popleft()[1]
        if self.refused and now >= self.blocked_until:
            self.refused = 0

    def spend(self, now: float, window: float, calls: int) -> None:
        """Count calls."""
        bucket = int(now // (window / BUCKETS))
        if self.buckets and self.buckets[-1][0] == bucket:
            self.buckets[-1] = (bucket, self.buckets[-1][1] + calls)
        else:
            self.buckets.append((bucket, calls))
        self.count += calls

    def room_at(self, now: float, window: float, calls: int, limit: int) -> float:
        """Give when so many calls will fit again."""
        left = self.count
        for bucket, count in self.buckets:
            left -= count
            if left + calls <= limit:
                return (bucket + 1) * (window / BUCKETS) + window
        return now + window


class Verdict(NamedTuple):
    """Whether a call may be answered, and the headers that go with any answer."""

    error: GraphError | None
    headers: list[tuple[str, str]]
    while_blocked: bool


class Budgets:
    """The budgets of one world; without limits nothing is counted and no header is sent."""

    def __init__(self, clock: Clock, *, status: int = 400) -> None:
        self._clock = clock
        self._status = status
        self.limits: dict[str, int] = {}
        self.window = WINDOW_SECONDS
        self._accounts: dict[Charge, Account] = {}

    def set(self, limits: dict[str, int]) -> None:
        """
        Set calls per window by kind; 0 lifts a limit. Raises ValueError naming what is wrong.

        `window_seconds` (the API's own seconds, an hour unless set) shortens the rolling window and starts it anew.
        """
        limits = dict(limits)
        window = limits.pop("window_seconds", self.window)
        if isinstance(window, bool) or not isinstance(window, int) or window < 1:
            raise ValueError(f"window_seconds must be a whole number from 1 on; got {window!r}")
        for kind, limit in limits.items():
            if kind not in KINDS:
                raise ValueError(f"a budget is one of {', '.join(KINDS)}; got {kind!r}")
            if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
                raise ValueError(f"the budget {kind} must be a whole number of calls per hour; got {limit!r}")
        if window != self.window:
            self._accounts.clear()
            self.window = window
        self.limits = {kind: limit for kind, limit in {**self.limits, **limits}.items() if limit}

    def clear(self) -> None:
        """Forget every call and block; limits stay."""
        self._accounts.clear()

    def charge(self, charges: Iterable[Charge], calls: int = 1, *, page_token: bool = False) -> Verdict:
        """Count a call against its budgets; a refused one is not counted but lengthens the block it met."""
        now = self._clock.elapsed()
        limited = [charge for charge in charges if charge.kind in self.limits]
        accounts = [(charge, self._accounts.setdefault(charge, Account())) for charge in limited]
        refusal: GraphError | None = None
        while_blocked = False
        for charge, account in accounts:
            account.roll(now, self.window)
            if now < account.blocked_until:
                while_blocked = True
                longer = account.blocked_until + self.window / BUCKETS
                account.blocked_until = max(account.blocked_until, min(longer, now + MOST_BLOCK_SECONDS))
            elif account.count + calls > self.limits[charge.kind]:
                room = account.room_at(now, self.window, calls, self.limits[charge.kind])
                account.blocked_until = max(room, now + self.window / BUCKETS)
            else:
                continue
            account.refused += calls
            refusal = refusal or _refusal(charge.kind, self._status, page_token=page_token)
        if refusal is None:
            for _, account in accounts:
                account.spend(now, self.window, calls)
        headers = self._headers(accounts, now)
        if refusal is not None and self._status == 429:
            wait = max(account.blocked_until for _, account in accounts) - now
            headers.append(("retry-after", str(max(1, math.ceil(wait / self._clock.scale)))))
        return Verdict(refusal, headers, while_blocked)

    def passes(self, charges: Iterable[Charge]) -> bool:
        """Tell, without counting, whether one more call would be answered."""
        now = self._clock.elapsed()
        for charge in charges:
            account = self._accounts.get(charge) if charge.kind in self.limits else None
            if account is not None:
                account.roll(now, self.window)
                if now < account.blocked_until or account.count + 1 > self.limits[charge.kind]:
                    return False
        return True

    def view(self) -> dict[str, Any]:
        """Give limits and the state of each budget."""
        now = self._clock.elapsed()
        return {
            "limits": self.limits,
            "window_seconds": self.window,
            "budgets": [
                {"kind": charge.kind, "key": charge.key, "calls": account.count, "refused": account.refused,
                 "blocked_for_seconds": round(max(0.0, account.blocked_until - now) / self._clock.scale, 3)}
                for charge, account in self._accounts.items()
            ],
        }  # fmt: skip

    def _headers(self, accounts: list[tuple[Charge, Account]], now: float) -> list[tuple[str, str]]:
        headers: list[tuple[str, str]] = []
        use_cases: dict[str, list[dict[str, Any]]] = {}
        percents = {
            charge: 100.0 * (account.count + account.refused) / self.limits[charge.kind] for charge, account in accounts
        }
        for charge, account in accounts:
            percent = percents[charge]
            if percent < LEAST_PERCENT:
                continue
            wait = max(0.0, account.blocked_until - now)
            if charge.kind == "app":
                headers.append(("x-app-usage", json.dumps(_load(percent))))
            if charge.kind == "ad_account":
                usage = {"acc_id_util_pct": round(percent, 2), "reset_time_duration": math.ceil(wait)}
                headers.append(("x-ad-account-usage", json.dumps({**usage, "ads_api_access_tier": TIER})))
            if charge.kind == "insights":
                app = percents.get(next((other for other in percents if other.kind == "app"), charge), percent)
                usage = {"app_id_util_pct": round(app, 2), "acc_id_util_pct": round(percent, 2)}
                headers.append(("x-fb-ads-insights-throttle", json.dumps({**usage, "ads_api_access_tier": TIER})))
            if charge.kind in USE_CASES:
                entry = {"type": USE_CASES[charge.kind], **_load(percent)}
                entry["estimated_time_to_regain_access"] = math.ceil(wait / 60)
                use_cases.setdefault(charge.key, []).append({**entry, "ads_api_access_tier": TIER})
        if use_cases:
            headers.append(("x-business-use-case-usage", json.dumps(use_cases)))
        return headers


def _load(percent: float) -> dict[str, Any]:
    calls = math.ceil(percent)
    return {"call_count": calls, "total_cputime": calls // 3, "total_time": calls // 2}


def _refusal(kind: str, status: int, *, page_token: bool) -> GraphError:
    codes = {"app": 4, "user": 17, "page": 80001 if page_token else 32, "ad_account": 80004, "insights": 80000}
    return GraphError(codes[kind], status=status)


def throttle_headers(code: int, minutes: int, key: str) -> list[tuple[str, str]]:
    """Give the headers that come with a throttling answer made by a fault."""
    if code in {4, 341}:
        return [("x-app-usage", json.dumps(_load(100.0)))]
    kinds = {80000: "ads_insights", 80001: "pages", 32: "pages", 80004: "ads_management", 17: "ads_management"}
    entry = {"type": kinds.get(code, "ads_management"), **_load(100.0), "estimated_time_to_regain_access": minutes}
    headers = [("x-business-use-case-usage", json.dumps({key: [entry]}))]
    if code in {17, 613, 80004}:
        usage = {"acc_id_util_pct": 100.0, "reset_time_duration": minutes * 60, "ads_api_access_tier": TIER}
        headers.append(("x-ad-account-usage", json.dumps(usage)))
    return headers
