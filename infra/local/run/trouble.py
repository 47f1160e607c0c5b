"""The faults of a run: what the API does to us, when it ends, and what changes in the world meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

Fault = dict[str, Any]
Change = dict[str, Any]


class Cast(NamedTuple):
    """Who is in trouble. `poison` is the id of a post that the API serves spoiled, for good."""

    dead_token: str
    throttled: str
    poisoned: str
    looping: str
    poison: str


def choose(users: Sequence[str]) -> Cast | None:
    """Give four users their parts; None in a world too small for them."""
    if len(users) < 8:
        return None
    step = len(users) // 8
    dead, throttled, poisoned, looping = (users[place * step] for place in (1, 3, 5, 7))
    return Cast(dead, throttled, poisoned, looping, poison="")


def graph_faults(cast: Cast) -> list[Fault]:
    """Give the Graph simulator's faults: most end by themselves, the spoiled post never."""
    return [
        {"kind": "token_expires_after", "user": cast.dead_token, "calls": 2},
        {"kind": "throttle", "user": cast.throttled, "edge": "published_posts", "code": 32, "minutes": 2, "times": 3},
        {"kind": "malformed_item", "user": cast.poisoned, "ids": [cast.poison], "how": "created_junk"},
        {"kind": "repeat_cursor", "user": cast.looping, "k": 1, "times": 3},
        {"kind": "html500", "rate": 0.02, "times": 20, "seed": 1},
        {"kind": "reset", "rate": 0.01, "times": 10, "seed": 2},
        {"kind": "truncate", "rate": 0.01, "times": 10, "seed": 3},
        {"kind": "slow", "rate": 0.05, "seconds": 0.2, "seed": 4},
    ]


def everyday_faults() -> list[Fault]:
    """Give what any API does now and then."""
    return [
        {"kind": "throttle", "rate": 0.005, "code": 32, "minutes": 2, "seed": 1, "edge": "published_posts"},
        {"kind": "html500", "rate": 0.01, "seed": 2},
        {"kind": "reset", "rate": 0.005, "seed": 3},
        {"kind": "slow", "rate": 0.05, "seconds": 0.2, "seed": 4},
    ]


def rest_faults() -> list[Fault]:
    """Give the REST simulator's faults."""
    return [
        {"kind": "throttle", "retry_after": 1, "times": 3, "rate": 0.1, "seed": 5},
        {"kind": "error500", "times": 5, "rate": 0.1, "seed": 6},
    ]


def changes(users: Sequence[str], pages: Sequence[str]) -> list[Change]:
    """Give what people do meanwhile: new posts and comments, edits, deletions, an ad that goes, a page renamed."""
    few = list(users[:10])
    made: list[Change] = [{"do": "create", "edge": "posts", "user": user} for user in few[:5]]
    made += [{"do": "create", "edge": "comments", "user": user} for user in few[2:4]]
    made += [{"do": "edit", "edge": "posts", "user": user, "pick": "newest"} for user in few[5:10]]
    made += [{"do": "delete", "edge": "posts", "user": user, "pick": "newest"} for user in users[10:12]]
    made += [{"do": "edit", "edge": "ads", "user": user, "pick": "newest"} for user in few[:2]]
    made += [{"do": "delete", "edge": "ads", "user": user, "pick": "oldest"} for user in few[2:4]]
    made += [{"do": "edit", "id": page, "item": {"about": "under new management"}} for page in pages[:2]]
    return made


def rest_changes(users: Sequence[str]) -> list[Change]:
    """Give new transactions."""
    return [{"do": "create", "user": user, "count": 2} for user in users[:3]]
