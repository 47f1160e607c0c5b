"""The matrix of the chaos run: what counts as a cell, and which comes next."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from random import Random

import pytest

from pipeline.errors import StoreUnavailable
from pipeline.failpoints import Orders
from tests.chaos import cells
from tests.chaos.failpoints import Failpoints
from tests.chaos.provoke import BY_UNIT


def test_what_is_left_out_or_provoked_is_in_the_products_source() -> None:
    """A failpoint that was renamed would stay left out, or never be provoked, and nobody would notice."""
    units = {name.rpartition(".")[0] for name in cells.in_source()}

    assert units.issuperset(cells.LEFT_OUT)
    assert units.issuperset(BY_UNIT)


def test_a_failpoint_nobody_has_passed_yet_counts_as_not_tried() -> None:
    """A share of what happened to be passed says nothing of what was forgotten."""
    named = set(cells.cells())

    assert ("store.page.after", "KILL") in named
    assert ("bus.send.after", "STOP") in named
    assert ("bus.send.after", "FAIL") not in named
    assert ("store.reprocess.after", "KILL") not in named


async def test_an_order_is_for_cells_that_were_never_tried_and_provokes_one_of_them(tmp_path: Path) -> None:
    """Rare failpoints come by once a minute; frequent ones would take every order."""
    provoked: list[str] = []

    async def provoke(name: str) -> None:
        provoked.append(name)
        for each in (tried, name):
            with contextlib.suppress(StoreUnavailable):
                process.at(each)

    tried = "store.page.before"
    points = Failpoints(tmp_path / "order", Random(1), provoke)
    process = Orders(points.file)
    points.done[tried, "FAIL"] = 1

    taken = await asyncio.wait_for(points.order("FAIL"), 10)

    assert taken is not None
    assert taken[0] == provoked[0] != tried
    assert points.report()["carried_out"] == 2


@pytest.mark.parametrize("action", cells.ACTIONS)
def test_each_thing_that_can_happen_has_cells(action: str) -> None:
    """An action without a cell would never be ordered."""
    assert any(possible == action for _, possible in cells.cells())
