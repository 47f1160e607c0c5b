"""A single user's token from the environment."""

from __future__ import annotations

from pipeline.sources.env_tokens import EnvironmentTokens


async def test_a_rotated_token_is_picked_up_at_once():
    """Otherwise a user stays locked out until a restart."""
    environment = {"GRAPH_ACCESS_TOKEN": "old"}
    tokens = EnvironmentTokens(lambda: environment)
    old = await tokens.get("1", "graph")
    environment["GRAPH_ACCESS_TOKEN"] = "new"

    new = await tokens.get("1", "graph")

    assert old is not None
    assert new is not None
    assert (old.value.get_secret_value(), new.value.get_secret_value()) == ("old", "new")
    assert old.version != new.version


async def test_a_dead_token_is_not_given_again_and_a_newer_one_is():
    """A dead token costs a call each time; marking the old one late must not kill the new one."""
    environment = {"GRAPH_ACCESS_TOKEN": "old"}
    tokens = EnvironmentTokens(lambda: environment)
    old = await tokens.get("1", "graph")
    assert old is not None
    await tokens.mark_dead("1", "graph", old.version)
    dead = await tokens.get("1", "graph")
    environment["GRAPH_ACCESS_TOKEN"] = "new"
    await tokens.mark_dead("1", "graph", old.version)

    assert dead is None
    assert await tokens.get("1", "graph") is not None


async def test_other_users_and_other_sources_have_no_token():
    """A token given to the wrong user would mine one person's data under another's name."""
    tokens = EnvironmentTokens(lambda: {"GRAPH_ACCESS_TOKEN": "t", "REST_ACCESS_TOKEN": " "}, user_id="1")

    assert await tokens.get("2", "graph") is None
    assert await tokens.get("1", "rest") is None
    assert await tokens.get("1", "other-api") is None
    assert await tokens.get("1", "graph") is not None


async def test_the_version_does_not_give_the_token_away_and_fits_a_column():
    """It stands in SQL and in messages."""
    token = await EnvironmentTokens(lambda: {"GRAPH_ACCESS_TOKEN": "tok-1"}).get("1", "graph")

    assert token is not None
    assert 0 <= token.version < 2**63
    assert "tok-1" not in repr(token)
