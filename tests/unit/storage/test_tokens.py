"""Tokens at rest: sealed for one user and source, versions that only grow."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from pipeline.errors import ConfigurationError
from pipeline.storage import tokens
from pipeline.storage.database import Database
from pipeline.storage.tokens import TokenKeys, new_key

SECRET = SecretStr("EAAB-canary")


def test_a_token_opens_for_its_user_and_source_only() -> None:
    """A row copied to another user must not give that user's calls this token."""
    keys = TokenKeys(SecretStr(new_key()))
    sealed = keys.seal("user", "graph", SECRET)
    assert keys.open("user", "graph", sealed).get_secret_value() == "EAAB-canary"
    for user, source in (("user2", "graph"), ("user", "rest"), ("user|g", "raph")):
        with pytest.raises(ConfigurationError, match="opens the token"):
            keys.open(user, source, sealed)


def test_the_sealed_bytes_do_not_hold_the_token_and_never_repeat() -> None:
    """A dump of the table must be worth nothing, and say nothing of equal tokens."""
    keys = TokenKeys(SecretStr(new_key()))
    one, two = (keys.seal("user", "graph", SECRET) for _ in range(2))
    assert b"canary" not in one
    assert one != two


def test_a_changed_byte_is_refused() -> None:
    """Damaged is not decrypted to something else."""
    keys = TokenKeys(SecretStr(new_key()))
    sealed = bytearray(keys.seal("user", "graph", SECRET))
    sealed[-1] ^= 1
    with pytest.raises(ConfigurationError):
        keys.open("user", "graph", bytes(sealed))


def test_keys_rotate() -> None:
    """The first key seals, all open: no token is lost while the rows are sealed anew."""
    old, new = new_key(), new_key()
    sealed = TokenKeys(SecretStr(old)).seal("user", "graph", SECRET)
    rotated = TokenKeys(SecretStr(f"{new},{old}"))
    assert rotated.open("user", "graph", sealed).get_secret_value() == "EAAB-canary"
    again = rotated.seal("user", "graph", SECRET)
    with pytest.raises(ConfigurationError):
        TokenKeys(SecretStr(old)).open("user", "graph", again)


@pytest.mark.parametrize("text", ["", " , ", "not base64!", "c2hvcnQ="])
def test_a_key_that_is_none_says_so_without_showing_it(text: str) -> None:
    """The message goes into a log."""
    with pytest.raises(ConfigurationError, match="TOKEN_KEY") as caught:
        TokenKeys(SecretStr(text))
    assert "not base64!" not in str(caught.value)


def test_versions_grow_and_a_dead_one_is_dead_until_a_newer_is_stored(database: Database) -> None:
    """A chain parks for a dead version and goes on with the next; a late refusal of an old one must not kill it."""
    first = database.write_here("tokens", tokens.store, "user", "graph", b"1")
    assert database.write_here("tokens", tokens.mark_dead, "user", "graph", first)
    sealed = database.read_here(tokens.read_sealed, "user", "graph")
    assert sealed
    assert sealed.dead
    second = database.write_here("tokens", tokens.store, "user", "graph", b"2")
    assert second > first
    assert not database.write_here("tokens", tokens.mark_dead, "user", "graph", first)
    sealed = database.read_here(tokens.read_sealed, "user", "graph")
    assert sealed
    assert (sealed.sealed, sealed.dead) == (b"2", False)
