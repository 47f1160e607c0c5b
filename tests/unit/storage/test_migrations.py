"""Migrations: a fresh database, the same twice, an older and a newer one."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.chains.protocol import Chain, Key, Lane
from pipeline.errors import MigrateFirst
from pipeline.storage import chains, migrate, outbox
from pipeline.storage.database import Database
from pipeline.storage.tables import metadata
from tests.unit.storage.candidates import candidate
from tests.unit.storage.test_items import accept
from tests.unit.storage.test_outbox import put


def set_version(connection: Connection, version: str) -> None:
    """Say that the schema is at another revision."""
    connection.execute(sa.text("UPDATE alembic_version SET version_num = :v"), {"v": version})


def test_a_fresh_database_becomes_what_the_code_declares(database: Database) -> None:
    """A column that is only in one of the two fails at the first page, in production."""
    inspector = sa.inspect(database.engine)
    assert set(metadata.tables) <= set(inspector.get_table_names())
    for name, table in metadata.tables.items():
        found = {column["name"]: column["nullable"] for column in inspector.get_columns(name)}
        assert found == {column.name: bool(column.nullable) for column in table.columns}, name
        assert inspector.get_pk_constraint(name)["constrained_columns"] == [c.name for c in table.primary_key.columns]
        indexes = {index["name"]: index["column_names"] for index in inspector.get_indexes(name)}
        declared = {str(index.name): [column.name for column in index.columns] for index in table.indexes}
        assert declared.items() <= indexes.items(), name


def test_migrating_twice_is_migrating_once(database: Database) -> None:
    """It is the first step of every deploy."""
    assert migrate.upgrade(database) == migrate.newest()
    assert database.read_here(migrate.current) == migrate.newest()


def test_a_database_without_schema_is_refused_by_the_command_that_makes_one(tmp_path: Path) -> None:
    """The error must say what to do, not that a table is missing."""
    database = Database(f"sqlite:///{tmp_path}/empty.db", threads=1)
    with pytest.raises(MigrateFirst, match="python -m pipeline migrate"):
        database.read_here(migrate.require_current)
    database.engine.dispose()


def test_an_older_schema_is_refused_and_a_newer_one_is_not(database: Database) -> None:
    """Expand, then contract: while a deploy rolls, old code runs on the new schema, never the other way round."""
    database.write_here("version", set_version, "0000")
    with pytest.raises(MigrateFirst, match="python -m pipeline migrate"):
        database.read_here(migrate.require_current)
    database.write_here("version", set_version, "9999")
    database.read_here(migrate.require_current)


def test_a_newer_schema_with_unknown_columns_still_takes_pages(database: Database) -> None:
    """Columns that a newer deployment added must not fail the inserts of this one."""

    def expand(connection: Connection) -> None:
        for table in ("items", "outbox", "chains"):
            connection.exec_driver_sql(f"ALTER TABLE {table} ADD COLUMN later INT")

    database.write_here("expand", expand)
    key = Key("user", "posts", "page", Lane.MAIN)
    assert accept(database, candidate("a"), observed=1) == [("a", 1)]
    database.write_here("put", put, "m")
    database.write_here("chain", chains.store, Chain(key=key, epoch=1), exists=False)
    row, _ = database.read_here(chains.read, key)
    assert row
    assert row.epoch == 1
    assert len(database.read_here(outbox.of_chain, key)) == 1


@pytest.mark.parametrize("dialect", ["sqlite", "mssql"])
def test_the_migrations_can_be_read_as_a_script(dialect: str) -> None:
    """Where a person applies them by hand, and where a parser checks them."""
    script = migrate.sql_script(dialect)
    assert "CREATE TABLE chains" in script
