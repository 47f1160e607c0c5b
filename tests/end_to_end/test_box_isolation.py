"""One user throttled, one poisoned, one looping: what the others notice of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.isolation import GOAL, TROUBLED, arm

USERS, POSTS = 33, 600


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_three_users_in_trouble_do_not_hold_up_the_others(tmp_path: Path) -> None:
    """
    One customer's trouble must not become everybody's.

    Progress is counted in calls, which do not depend on the machine: pages that the others got for each call that
    anybody made until the others were complete. `tests/bench/isolation.py` measures the same in pages per second.
    """
    alone = await arm(tmp_path / "alone", troubled=False, users=USERS, posts=POSTS)
    beside = await arm(tmp_path / "beside", troubled=True, users=USERS, posts=POSTS)

    assert alone.pages, alone.text
    assert beside.pages == alone.pages, beside.text
    progress_alone = alone.pages / alone.calls_of_others
    progress_beside = beside.pages / (beside.calls_of_others + beside.calls_of_troubled)
    assert progress_beside >= GOAL * progress_alone, (alone, beside)
    assert beside.calls_of_others <= alone.calls_of_others * 1.05, (alone, beside)
    assert not beside.troubled_complete, f"{TROUBLED} were not in trouble at all"
