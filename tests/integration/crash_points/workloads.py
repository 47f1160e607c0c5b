"""What the workers do until one of them is killed. Each kills other mutants of the protocol."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.fakes import iso

START = 1_700_000_000
DAY = 86_400
CHANGED_AT = START + 900
"""When the truth changes."""

POSTS = {"page-a": 11, "page-b": 4}
TIMELESS = "page-a_900"
"""The post whose time the API spoils."""


@dataclass(frozen=True)
class Workload:
    """
    `stored` newest items were stored by a live event; `faults` are the simulator's, until the workers heal; `twice`
    delivers every message again after it was handled.
    """

    name: str
    stored: int = 0
    faults: tuple[dict[str, Any], ...] = ()
    twice: bool = False
    pages_per_message: int = 2
    change: bool = True


def _on_call(number: int, kind: str, **options: Any) -> dict[str, Any]:
    """Make a fault that hits the call for posts of that number, from 0."""
    return {"kind": kind, "edge": "posts", "after_calls": number, "times": 1, **options}


WORKLOADS = {
    one.name: one
    for one in (
        Workload("history"),
        # The newest page and more is stored, and proves nothing: stopping at known items loses the history.
        Workload("live-first", stored=5, change=False),
        # Down and throttled again and again, on the first pages: parks, and doorbells that are due later. The API fails
        # all quick tries of one call; then a page's calls are used up, with a hint until when, and the app's without.
        Workload(
            "parks",
            faults=(
                _on_call(0, "error", code=2),
                _on_call(1, "html500"),
                _on_call(2, "truncate"),
                _on_call(3, "throttle", code=32, minutes=1),
                _on_call(4, "throttle", code=4),
            ),
            pages_per_message=1,
            change=False,
        ),
        # Every message comes once more: stale doorbells and twins of each page.
        Workload("twice", twice=True, pages_per_message=1, change=False),
    )
}


def first_posts() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Give user, page and post of what exists at the beginning: five days of posts, with ties."""
    for scope, count in POSTS.items():
        for number in range(count):
            moment = START - 1000 - (number - number % 2) * DAY // 4  # two posts share each second
            yield scope.removeprefix("page-"), scope, _post(f"{scope}_{number:03}", moment)
    yield "a", "page-a", _post(TIMELESS, START - DAY)


def changes() -> Iterator[dict[str, Any]]:
    """Give the simulator's orders that edit one post, delete one and publish two."""
    yield {"do": "edit", "id": "page-a_004", "item": {"message": "edited"}}
    yield {"do": "delete", "id": "page-a_006"}
    for number in (500, 501):
        yield {"do": "create", "scope": "page-a", "item": _post(f"page-a_{number}", CHANGED_AT)}


def _post(post_id: str, moment: int) -> dict[str, Any]:
    return {
        "id": post_id, "created_time": iso(moment), "updated_time": iso(moment), "message": f"post {post_id}",
    }  # fmt: skip
