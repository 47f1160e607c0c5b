"""Faults of the sources: throttled, broken, unauthorised, lying about pages, serving rubbish."""

from __future__ import annotations

from typing import Any

from tests.chaos.scene import Scene

Rule = dict[str, Any]
THROTTLES = (4, 17, 32, 613, 80_001, 80_004)
FOREIGN = "http://169.254.169.254/latest/meta-data"
MALFORMED = ("id_missing", "id_empty", "created_missing", "created_junk", "null_item", "not_object")
"""Ways in which an item cannot be used at all; whatever else an API may do to an item, it would be published so."""


async def throttle(scene: Scene) -> bool:
    """Refuse a user's calls for a while, or everybody's."""
    code = scene.chance.choice(THROTTLES)
    return await _graph(scene, {"kind": "throttle", "code": code, "minutes": 1, "times": scene.chance.randint(1, 4)})


async def reduce(scene: Scene) -> bool:
    """Ask for smaller pages."""
    return await _graph(scene, {"kind": "reduce_data", "limit": scene.chance.choice((10, 25, 50)), "times": 3})


async def broken(scene: Scene) -> bool:
    """Answer with errors, pages of HTML, halves, nothing, or very slowly."""
    rules: list[Rule] = [
        {"kind": "html500", "times": 4},
        {"kind": "error", "code": scene.chance.choice((1, 2)), "status": 500, "times": 4},
        {"kind": "ok_with_error", "code": 2, "times": 2},
        {"kind": "reset", "times": 4},
        {"kind": "truncate", "times": 4},
        {"kind": "slow", "seconds": 0.5, "times": 6},
        {"kind": "slow_drip", "seconds": 1, "times": 1},
        {"kind": "hang", "times": 1},
    ]
    return await _graph(scene, scene.chance.choice(rules))


async def token(scene: Scene) -> bool:
    """End a user's token; the user gives a new one after a while."""
    user = scene.chance.choice(list(scene.users))
    if user in scene.renewals:
        return False
    scene.renewals.add(user)
    action = scene.chance.choice(("revoke", "expire", "rotate"))
    await scene.stack.graph.send("POST", f"/__sim/users/{user}/token", {"action": action})
    return True


async def paging(scene: Scene) -> bool:
    """Serve short, empty, repeated and endless pages, dead cursors, and links to other hosts."""
    rules: list[Rule] = [
        {"kind": "short_page", "items": scene.chance.randint(1, 60), "times": 4},
        {"kind": "empty_with_next", "times": 2},
        {"kind": "endless_empty", "times": 3},
        {"kind": "repeat_cursor", "k": scene.chance.randint(1, 3), "times": 4},
        {"kind": "invalid_cursor", "times": 2},
        {"kind": "dup_item_across_pages", "times": 4},
        {"kind": "pinned", "index": 5, "times": 4},
        {"kind": "foreign_next", "url": FOREIGN, "times": 4},
    ]
    return await _graph(scene, scene.chance.choice(rules) | {"edge": "posts"})


async def malformed(scene: Scene) -> bool:
    """Spoil a share of the items for some pages."""
    rule = {"kind": "malformed_item", "how": scene.chance.choice(MALFORMED), "share": 0.05, "times": 4}
    return await _graph(scene, rule | {"edge": "posts"})


async def reports(scene: Scene) -> bool:
    """Have a report fail, hang or say that it is done when it is not."""
    kind = scene.chance.choice(("job_fail", "job_100_running", "job_not_ready", "result_error"))
    return await _graph(scene, {"kind": kind, "times": 1})


async def rest(scene: Scene) -> bool:
    """Trouble the other source."""
    rules: list[Rule] = [
        {"kind": "throttle", "retry_after": 1, "times": 3},
        {"kind": "error500", "times": 4},
        {"kind": "html500", "times": 3},
        {"kind": "reset", "times": 3},
        {"kind": "truncate", "times": 3},
        {"kind": "slow", "seconds": 0.5, "times": 5},
    ]
    rule = scene.chance.choice(rules)
    await scene.stack.rest.send("POST", "/__sim/faults", rule | {"seed": scene.chance.randint(1, 10**6)})
    return True


async def delete_behind_cursor(scene: Scene) -> bool:
    """Delete the very item that the next cursor stands on, which makes the cursor invalid."""
    change = {"do": "delete", "edge": "posts", "pick": "last_cursor", "at_call": 1, "match": "after="}
    await scene.stack.graph.send("POST", "/__sim/mutate", change)
    return True


async def _graph(scene: Scene, rule: Rule) -> bool:
    """Put a fault in force, for one user or (every third time) for all; it wears off by its own count."""
    if scene.chance.random() < 0.67:
        rule = rule | {"user": scene.chance.choice(list(scene.users))}
    await scene.stack.graph.send("POST", "/__sim/faults", rule | {"seed": scene.chance.randint(1, 10**6)})
    return True
