"""One item that no message can carry goes to quarantine; the others of its page and the chain go on."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.sources.base import Page, PageRequest
from tests.fakes import iso
from tests.integration.interleavings.configs import Config, only
from tests.integration.interleavings.runs import make
from tests.integration.interleavings.steps import point
from tests.integration.interleavings.world import START

QUIET = Config(items=(1,), hidden=(), fresh=99, events=only(), cache=False)


def nested(depth: int) -> Any:
    """Give a list in a list in a list …"""
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    "extra",
    [nested(254), nested(300), nested(900), 2**70, -(2**70), "\ud800"],
    ids=["254", "300", "900", "2**70", "-2**70", "surrogate"],
)
@pytest.mark.parametrize("size", [0, 500])
def test_an_item_that_cannot_be_encoded_does_not_block_its_chain(extra: Any, size: int) -> None:
    """It parses, it validates, and fails when the message is written: ten deliveries later the chain is dead."""
    world = make(QUIET, 0)
    world.oracle.published = lambda message: None  # type: ignore[method-assign]  # these items have no truth
    world.truth.clear()
    good = {"id": "i1", "created_time": iso(START), "v": 0, "replies": 0}
    bad = {"id": "i2", "created_time": iso(START - 1), "v": 0, "replies": 0, "extra": extra}

    async def fetch(request: PageRequest) -> Page:
        await point("fetch")
        return Page(items=[good, bad], cursor=None, limit=2, bytes=size)

    world.fetch = fetch  # type: ignore[method-assign]
    world.tick("u0")
    world._drain()
    assert world.database.scalar("SELECT group_concat(item_id) FROM items") == "i1"
    assert world.database.scalar("SELECT group_concat(item_id) FROM quarantine") == "i2"
    assert world.database.scalar("SELECT reason FROM quarantine") == "unencodable"
    assert world.database.scalar("SELECT group_concat(DISTINCT state) FROM chains") == "done"
