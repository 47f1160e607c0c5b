"""What the workers do until one of them is killed. Each kills other mutants of the protocol."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pipeline.sources.base import Fault, FaultKind
from tests.fakes import ListSource, iso

START = 1_700_000_000
DAY = 86_400
CHANGED_AT = START + 900
"""When the truth changes."""

POSTS = {"page-a": 11, "page-b": 4}


@dataclass(frozen=True)
class Workload:
    """`stored` newest items were stored by a live event; `twice` delivers every message again after it was handled."""

    name: str
    stored: int = 0
    faults: tuple[Fault, ...] = ()
    twice: bool = False
    pages_per_message: int = 2
    change: bool = True


WORKLOADS = {
    one.name: one
    for one in (
        Workload("history"),
        # The newest page and more is stored, and proves nothing: stopping at known items loses the history.
        Workload("live-first", stored=5, change=False),
        # Throttled and down again and again, on the first pages: parks, and doorbells that are due later.
        Workload(
            "parks",
            faults=(
                *[Fault(kind=FaultKind.THROTTLED, wait=90.0, calls=1)] * 3,
                Fault(kind=FaultKind.TRANSIENT, wait=20),
            ),
            pages_per_message=1,
            change=False,
        ),
        # Every message comes once more: stale doorbells and twins of each page.
        Workload("twice", twice=True, pages_per_message=1, change=False),
    )
}


def first_truth(source: ListSource) -> None:
    """Put what exists at the beginning: five days of posts, with ties, one of them without a time."""
    source.scopes = {"a": ["page-a"], "b": ["page-b"]}
    for scope, count in POSTS.items():
        for number in range(count):
            moment = START - 1000 - (number - number % 2) * DAY // 4  # two posts share each second
            source.add(scope, f"{scope}_{number:03}", moment, updated_time=iso(moment))
    source.add("page-a", "page-a_900", START - DAY)["created_time"] = "yesterday"


def later_truth(source: ListSource) -> None:
    """Edit one post, delete one, publish two. What it gives is the same however often it is called."""
    source.add("page-a", "page-a_004", START - 1000 - DAY, updated_time=iso(CHANGED_AT), message="edited")
    source.remove("page-a", "page-a_006")
    for number in (500, 501):
        source.add("page-a", f"page-a_{number}", CHANGED_AT, updated_time=iso(CHANGED_AT))


def truth(workload: Workload, hashed: Callable[[object], str]) -> dict[str, Any]:
    """Give the truth as the simulator tells it, with the hashes of what was true before."""
    source = ListSource(clock=None)  # type: ignore[arg-type]  # no page is asked of it
    first_truth(source)
    before = {(scope, item["id"]): item for scope, items in source.items.items() for item in items}
    if workload.change:
        later_truth(source)
    after = {(scope, item["id"]): item for scope, items in source.items.items() for item in items}
    rows = []
    for (scope, item_id), item in {**before, **after}.items():
        visible = (scope, item_id) in after
        old = before.get((scope, item_id))
        rows.append(
            {
                "user": scope.removeprefix("page-"), "scope": scope, "edge": "posts", "id": item_id,
                "hash": hashed(item), "history": [hashed(old)] if old else [], "visible": visible,
                "deleted": not visible, "malformed": item["created_time"] == "yesterday" and "no time",
            }
        )  # fmt: skip
    return {"now": CHANGED_AT, "rows": rows}
