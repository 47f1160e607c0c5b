"""Sequences of faults that end, for the property test: what a source must survive without anybody's help."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

Fault = dict[str, Any]


@dataclass(frozen=True)
class Sequence:
    """Faults with an end each, and changes of the world while it is read."""

    faults: list[Fault] = field(default_factory=list)
    changes: list[tuple[int, str]] = field(default_factory=list)
    """What happens ahead of which fetch."""
    budgets: dict[str, int] = field(default_factory=dict)
    """Calls that the API allows within a rolling hour, by kind of budget."""

    @property
    def most_calls(self) -> int:
        """
        A bound against treading on the spot: pages, tries and small pages after each time a fault fires. Throttled
        calls are counted apart.
        """
        return 20 + 12 * len(self.changes) + 30 * sum(int(fault["times"]) for fault in self.faults)


# `Retry-After` is whole seconds of real time, and a silent block half of one, so such a fault comes once.
def _faults(kinds: list[Fault]) -> st.SearchStrategy[list[Fault]]:
    fault = st.builds(
        lambda kind, times, after: {**kind, "times": 1 if "retry_after" in kind else times, "after_calls": after},
        st.sampled_from(kinds),
        st.integers(1, 3),
        st.integers(0, 8),
    )
    return st.lists(fault, max_size=5)


_CHANGES = st.lists(
    st.tuples(st.integers(1, 8), st.sampled_from(["create", "delete newest", "delete oldest", "delete middle"])),
    max_size=6,
)
_BUDGETS = st.dictionaries(st.sampled_from(["app", "user", "page"]), st.integers(4, 12), max_size=2)

GRAPH = st.builds(
    Sequence,
    _faults(
        [
            {"kind": "error", "code": 1, "status": 500},
            {"kind": "error", "code": 2, "status": 500},
            {"kind": "error", "code": 99_999, "status": 503},
            {"kind": "error", "code": 4, "transient": True},
            {"kind": "throttle", "code": 17, "minutes": 3},
            {"kind": "throttle", "code": 32, "minutes": 7},
            {"kind": "throttle", "code": 80001, "minutes": 6},
            {"kind": "throttle", "code": 4, "status": 200},
            {"kind": "ok_with_error", "code": 2},
            {"kind": "ok_with_error", "code": 613},
            {"kind": "reduce_data", "limit": 3},
            {"kind": "html500"},
            {"kind": "html500", "status": 200},
            {"kind": "html500", "status": 400},
            {"kind": "invalid_cursor"},
            {"kind": "invalid_cursor", "code": 2642},
            {"kind": "cursor_too_deep", "depth": 20},
            {"kind": "repeat_cursor"},
            {"kind": "empty_with_next"},
            {"kind": "short_page", "items": 1},
            {"kind": "dup_item_across_pages"},
            {"kind": "foreign_next", "url": "http://169.254.169.254/latest"},
            {"kind": "reset"},
            {"kind": "truncate", "bytes": 200},
            {"kind": "truncate", "bytes": 200, "how": "socket"},
            {"kind": "hang"},
            {"kind": "slow", "seconds": 0.05},
            {"kind": "slow_drip", "seconds": 0.05},
            {"kind": "old_version_header"},
            {"kind": "usage", "headers": {"x-app-usage": {"call_count": 90}}},
            {"kind": "usage", "headers": {"x-app-usage": {"call_count": 100}}},
            {"kind": "usage", "headers": {"x-business-use-case-usage": "{junk"}},
        ]
    ),
    _CHANGES,
    _BUDGETS,
)

REST = st.builds(
    Sequence,
    _faults(
        [
            {"kind": "throttle", "retry_after": 1},
            {"kind": "throttle", "retry_after": 0.2, "silent": True},
            {"kind": "throttle", "retry_after": 0.5, "silent": True},
            {"kind": "error500"},
            {"kind": "error500", "status": 503},
            {"kind": "html500"},
            {"kind": "reset"},
            {"kind": "truncate", "bytes": 100},
            {"kind": "slow", "seconds": 0.05},
            {"kind": "slow", "seconds": 0.4},
        ]
    ),
    _CHANGES,
)
