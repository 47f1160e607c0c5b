"""What only the Graph source promises, against its simulator."""

from __future__ import annotations

import pytest
from pydantic import SecretStr, ValidationError

from infra.local.graph.faults import MALFORMED
from infra.local.graph.tokens import APP_SECRET
from pipeline.sources.base import BrokenItem, Fault, FaultKind, Page
from tests.contract.sources.collecting import collect
from tests.contract.sources.simulators import graph


@pytest.mark.parametrize("how", MALFORMED)
async def test_a_malformed_item_is_handed_on_and_costs_no_other(how):
    """It goes to quarantine; the page, and all that is older, must not go with it."""
    async with graph() as simulation:
        truth = await simulation.truth()
        bad = sorted(truth)[7]
        await simulation.control("POST", "faults", {"kind": "malformed_item", "how": how, "ids": [bad]})
        found = await collect(simulation.source, simulation.request())

    assert len(found.items) == len(truth)
    assert truth - found.ids("id") <= {bad}
    refused = 0
    for item in found.items:
        try:
            simulation.feed.item.model_validate(item)
        except ValidationError:
            refused += 1
    assert refused <= 1
    assert sum(isinstance(item, BrokenItem) for item in found.items) == (
        how in {"lone_surrogate", "huge_int", "nan", "deep"}
    )


@pytest.mark.parametrize("timed", [False, True])
async def test_the_proof_of_the_app_secret_is_accepted_and_its_lack_refused(timed):
    """Apps can require it, and then refuse every call without."""
    extra = {"appsecret_proof": "timed"} if timed else {}
    async with graph(proof=True, app_secret=SecretStr(APP_SECRET), extra=extra) as simulation:
        page = await simulation.source.fetch(simulation.request())
        log = await simulation.calls()
    async with graph(proof=True) as simulation:
        fault = await simulation.source.fetch(simulation.request())

    assert isinstance(page, Page)
    assert log["token_in_query"] == 0
    assert isinstance(fault, Fault)
    assert fault.kind is FaultKind.REFUSED


async def test_all_scopes_are_discovered():
    """A page that is not discovered is never mined."""
    async with graph() as simulation:
        world = await simulation.control("GET", f"world?user={simulation.user_id}")
        pages = await simulation.source.discover("page", simulation.user_id, simulation.token)
        accounts = await simulation.source.discover("ad-account", simulation.user_id, simulation.token)

    assert not isinstance(pages, Fault)
    assert not isinstance(accounts, Fault)
    assert [(ref.id, ref.name) for ref in pages] == [(page["id"], page["name"]) for page in world["users"][0]["pages"]]
    assert [ref.id for ref in accounts] == [account["id"] for account in world["users"][0]["ad_accounts"]]


@pytest.mark.parametrize(
    ("scope", "kind"), [("1999999", FaultKind.GONE), ("act_1", FaultKind.GONE), ("another user's", FaultKind.FORBIDDEN)]
)
async def test_a_scope_that_is_gone_and_one_that_is_forbidden_are_told_apart(scope, kind):
    """One closes the scope, the other needs a person."""
    async with graph() as simulation:
        asked = simulation.request(scope=simulation.others[0][1] if scope == "another user's" else scope)
        fault = await simulation.source.fetch(asked)

    assert isinstance(fault, Fault)
    assert fault.kind is kind


async def test_ties_and_a_jump_by_time_lose_nothing():
    """Seconds are shared by several posts; `until` must be inclusive, at our end and at the API's."""
    async with graph(posts=200, limit=7) as simulation:
        first = await simulation.source.fetch(simulation.request())
        assert isinstance(first, Page)
        rows = (await simulation.control("GET", f"truth?user={simulation.user_id}"))["rows"]
        middle = sorted(row["created"] for row in rows)[100]
        found = await collect(simulation.source, simulation.request(until=middle))

    assert found.ids("id") == {row["id"] for row in rows if row["created"] <= middle}
