"""The small chaos run: every kind of fault on the whole box, and then the truth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.chaos.faults import KINDS
from tests.chaos.run import Chaos

SEED = 1


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_whatever_fails_the_subscribers_get_every_item_once(tmp_path: Path) -> None:
    """
    Each part is tested against its own faults; only here all of them meet.

    The kinds that a slow machine leaves no time for are counted, so a run that troubled nothing does not pass.
    """
    result = await Chaos(SEED, "small", tmp_path, say=lambda text: None).run()

    told = json.dumps({name: result[name] for name in ("checker", "tables_that_differ", "notes", "chains", "seconds")})
    assert result["valid"], f"{result['repeat']}\n{told}"
    assert (result["lost"], result["twice"]) == (0, 0)
    assert result["checker"]["control"] == "red", "the checker does not see an item that is missing"
    assert result["api"]["token_in_query"] == result["api"]["cross_user"] == 0
    canaries = result["canaries"]
    assert (canaries["planted"], canaries["found"], canaries["control"]) == (40, 0, "red"), canaries
    met = sum(kind["done"] > 0 for kind in result["faults_by_kind"])
    assert met >= len(KINDS) // 2, result["faults_by_kind"]
