"""How many items to ask for: what the API can bear for this user, and no more than the user is likely to have."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

MAX_STATES = 10_000
"""Some 3 MB; a forgotten state costs one page of the wrong size."""

FRESH_FLOOR = 25
"""The smallest first page: the API's own default. A second call costs more than the items saved."""


ANY = 1_000
"""A limit that has recovered so far is no limit."""

RECOVERY = 4
"""Good pages at the smaller limit before twice as much is tried: at most one call in five is lost to trying."""


@dataclass
class _State:
    bearable: int = 0
    """The largest page that the API is believed to bear; 0 means any."""
    good: int = 0
    """Good pages in a row since the limit last changed."""
    newest: object = None
    expected: int = 0
    """Twice the items that were new on the last fresh page; 0 means unknown."""


class PageLimits:
    """
    Limits per key (user, feed, scope).

    'Reduce the amount of data' halves the limit; `RECOVERY` good pages in a row double it again, up to what the
    caller asks. A fresh start (top of the listing) asks for twice what was new the last time, at least `FRESH_FLOOR`.
    """

    def __init__(self) -> None:
        self._states: OrderedDict[Hashable, _State] = OrderedDict()

    def limit(self, key: Hashable, asked: int, *, fresh: bool) -> int:
        """Give the limit to ask with: at least 1, at most `asked`."""
        state = self._states.get(key)
        if state is None:
            return max(1, asked)
        limit = min(asked, state.bearable) if state.bearable else asked
        if fresh and state.expected:
            limit = min(limit, max(state.expected, FRESH_FLOOR))
        return max(1, limit)

    def too_much(self, key: Hashable, used: int) -> int:
        """Note that a page was too heavy; gives the smaller limit to try, 0 if it cannot be smaller."""
        state = self._state(key)
        state.bearable = max(1, used // 2)
        state.good = 0
        return used // 2

    def succeeded(self, key: Hashable, used: int, *, newest: object = None, new: int | None = None) -> None:
        """Note a good page. `new` is how many items a fresh page had above the last one's `newest`."""
        state = self._states.get(key)
        if state is None and newest is None:
            return
        state = self._state(key)
        if state.bearable and used >= state.bearable:
            state.good += 1
            if state.good >= RECOVERY:
                state.bearable = 2 * state.bearable if state.bearable < ANY else 0
                state.good = 0
        if newest is not None:
            state.newest = newest
        if new is not None:
            state.expected = 2 * new

    def learn(self, key: Hashable, items: Sequence[Any], used: int, *, id_field: str, fresh: bool) -> None:
        """Note a good page, and on a fresh one how many items stand above the newest one of the last fresh page."""
        if not fresh or not items:
            self.succeeded(key, used)
            return
        ids = [item.get(id_field) if isinstance(item, dict) else None for item in items]
        state = self._states.get(key)
        last = state.newest if state else None
        new = None if last is None else ids.index(last) if last in ids else len(ids)
        self.succeeded(key, used, newest=ids[0], new=new)

    def _state(self, key: Hashable) -> _State:
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = _State()
            if len(self._states) > MAX_STATES:
                self._states.popitem(last=False)
        else:
            self._states.move_to_end(key)
        return state
