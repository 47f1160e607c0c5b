"""Quarantine: what cannot be used is kept once, with its reason and its bytes."""

from __future__ import annotations

import zlib

from pipeline.chains.protocol import Key, Lane
from pipeline.storage import quarantine
from pipeline.storage.database import Database
from pipeline.storage.quarantine import Bad

KEY = Key("user", "posts", "page", Lane.MAIN)
BAD = Bad("item", "validate", "malformed", "created_time: no time", b'{"id":"x"}', "x", 5)


def put(database: Database, bad: Bad, key: Key = KEY) -> bool:
    """Put something into quarantine."""
    return database.write_here("quarantine", quarantine.put, key, bad, observed=1, now=2)


def count(database: Database) -> int:
    """Count the rows."""
    return int(database.read_here(lambda c: c.exec_driver_sql("SELECT count(*) FROM quarantine").scalar_one()))


def test_the_same_bad_item_met_again_makes_no_second_row(database: Database) -> None:
    """Every refresh meets it again; a row each time would bury the others."""
    assert put(database, BAD)
    assert not put(database, BAD)
    assert not put(database, BAD, KEY._replace(lane=Lane.REFRESH))
    assert count(database) == 1


def test_other_bytes_reasons_and_scopes_are_other_rows(database: Database) -> None:
    """Nothing is dropped because something like it waits."""
    assert put(database, BAD)
    assert put(database, BAD._replace(body=b'{"id":"y"}'))
    assert put(database, BAD._replace(reason="oversize"))
    assert put(database, BAD, KEY._replace(scope="other"))
    assert put(database, BAD, KEY._replace(user_id="other"))
    assert count(database) == 5


def test_what_was_dealt_with_does_not_come_back(database: Database) -> None:
    """A person's decision holds when the item is met again."""
    put(database, BAD)
    database.write_here("q", lambda c: c.exec_driver_sql("UPDATE quarantine SET state = 'discarded'"))
    assert not put(database, BAD)


def test_the_body_is_kept_byte_for_byte_and_long_texts_are_cut(database: Database) -> None:
    """It is what a replay starts from; a detail that does not fit must not fail the page."""
    assert put(database, BAD._replace(detail="d" * 5000, reason="r" * 500, item_id="i" * 500))
    body = database.read_here(lambda c: c.exec_driver_sql("SELECT body FROM quarantine").scalar_one())
    assert zlib.decompress(body) == BAD.body
