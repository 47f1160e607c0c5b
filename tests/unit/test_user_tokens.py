"""Whose token a call carries: the stored one, or that of the environment's only user."""

from __future__ import annotations

from pydantic import SecretStr

from pipeline.bootstrap import _secrets
from pipeline.settings import Settings
from pipeline.storage.tokens import SealedToken, TokenKeys, new_key

KEYS = TokenKeys(SecretStr(new_key()))
SETTINGS = Settings(graph_access_token=SecretStr("of-the-environment"), graph_user_id="1")


def stored(text: str, *, version: int = 7, dead: int = 0) -> SealedToken:
    """A row of user 1."""
    return SealedToken(KEYS.seal("1", "graph", SecretStr(text)), version, dead)


def test_the_environments_token_is_its_one_users():
    """A token given to the wrong user would mine one person's data under another's name."""
    secret = _secrets(SETTINGS, None)
    found = secret("1", "graph", None)

    assert found is not None
    assert found.value.get_secret_value() == "of-the-environment"
    assert secret("2", "graph", None) is None
    assert secret("1", "rest", None) is None
    assert _secrets(Settings(), KEYS)("1", "graph", None) is None


def test_a_stored_token_counts_at_once_and_a_newer_one_after_it():
    """Otherwise a user stays locked out until a restart."""
    secret = _secrets(SETTINGS, KEYS)
    first, second = secret("1", "graph", stored("old")), secret("1", "graph", stored("new", version=8))

    assert first is not None
    assert second is not None
    assert (first.value.get_secret_value(), second.value.get_secret_value()) == ("old", "new")
    assert first.version < second.version


def test_a_dead_token_is_not_used_and_the_environments_does_not_stand_in():
    """A dead token costs a call each time, and whoever stored one has left the environment's behind."""
    secret = _secrets(SETTINGS, KEYS)

    assert secret("1", "graph", stored("dead", dead=7)) is None


def test_the_death_of_the_environments_token_spares_a_stored_one():
    """It may be stored while the old one's refusal is on its way."""
    found = _secrets(SETTINGS, None)("1", "graph", None)

    assert found is not None
    assert not stored("new", dead=found.version).dead
