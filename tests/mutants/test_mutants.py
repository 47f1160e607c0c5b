"""Every broken rule is noticed by a test; what nobody notices is a rule that nobody keeps."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.mutants.entries import ROOT, read
from tests.mutants.runner import FAILED, PASSED, Runner, selections
from tests.mutants.tree import patched

MUTANTS = read()
PATCHED = [one for one in MUTANTS.values() if not one.same_as]
GROUPS = 8
"""Each group stays on one process of xdist, which makes one copy of the project for all it runs."""

HOLES = "1 2 3 4 5 7 9 10 11 16 17 18 22 23 25 27 28 29 31 32 34 35 38 39 40 41 43 46".split()
VARIATIONS = """
    open_completes twin_completes copy_row copy_local giveback bell_by_seq wd_open_only mid_const tick_const no_nonce
    no_nonce+forget_epoch no_fence bell_outside no_cas no_seq_cas tick_steals no_opener opener_last hi_now hi_newest
    hi_finish skew tie_stop stop_short stop_alldup stop_touch claim_later claim_all prog_closed gap_newest gap_oldest
    gap_by_rank kid_settle kid_no_want kid_stale_read kid_now early_fetch kid_halt_forget seek_excl cursor_restart
    cursor_done delete_first random_ids cache_before prefetch rev_arrival rev_any
""".split()
"""What the list must hold. It was fixed before any test was written; an entry may be added, none taken away."""

OUTSIDE_UNIT = 15


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    """A copy of the project and a process that runs tests in it."""
    with Runner() as running:
        yield running


def _grouped(number: int) -> pytest.MarkDecorator:
    return pytest.mark.xdist_group(f"mutants-{number % GROUPS}")


def test_the_list_holds_every_hole_and_every_variation() -> None:
    """A mutant that is taken from the list is a rule that may break unseen."""
    wanted = {*(f"H{number}" for number in HOLES), *VARIATIONS}
    assert wanted <= set(MUTANTS)


def test_every_patch_fits_the_source() -> None:
    """A patch that does not apply breaks nothing, and its tests would be green for no reason."""
    for one in PATCHED:
        patched(one.hunks, ROOT)


def test_enough_mutants_are_killed_outside_unit_tests() -> None:
    """Unit tests know how the code is written; the promises are made by the whole."""
    outside = [one.id for one in PATCHED if not any(test.startswith("tests/unit/") for test in one.tests)]
    assert len(outside) >= OUTSIDE_UNIT


PARTS = 4
SELECTIONS = [
    pytest.param(env, tests[part::PARTS], marks=_grouped(PARTS * number + part), id=f"{number}-{part}")
    for number, (env, tests) in enumerate(selections(PATCHED))
    for part in range(PARTS)
    if tests[part::PARTS]
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("env", "tests"), SELECTIONS)
def test_the_unbroken_source_passes_what_kills_the_mutants(
    runner: Runner, env: dict[str, str], tests: list[str]
) -> None:
    """A test that is red anyway kills every mutant."""
    result = runner.whole(tests, env, seconds=500)
    assert result.code == PASSED, result.output[-4000:]


@pytest.mark.parametrize("name", [pytest.param(one.id, marks=_grouped(number)) for number, one in enumerate(PATCHED)])
def test_a_broken_rule_is_noticed(runner: Runner, name: str) -> None:
    """A survivor says that a rule may be broken tomorrow and everything stays green."""
    mutant = MUTANTS[name]
    result = runner.broken(mutant)
    assert result.code == FAILED, f"{name} survives (exit {result.code}): {mutant.breaks}\n{result.output[-4000:]}"
