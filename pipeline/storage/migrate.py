"""Migrations: alembic, configured in code. A deploy runs them; the app only checks that they were run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from pipeline.errors import MigrateFirst

if TYPE_CHECKING:
    from alembic.config import Config

    from pipeline.storage.database import Database

COMMAND = "python -m pipeline migrate"
_FOLDER = Path(__file__).parent / "migrations"


def upgrade(database: Database) -> str:
    """Bring the schema to the newest revision; gives its id."""
    from alembic import command

    config = _config()
    with database.engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()
    return newest()


def sql_script(dialect: str) -> str:
    """Give the migrations as one SQL script, for people who apply them by hand and for the parser check."""
    import io

    from alembic import command

    config = _config()
    out = io.StringIO()
    config.output_buffer = out
    config.attributes["dialect"] = dialect
    command.upgrade(config, "head", sql=True)
    return out.getvalue()


def newest() -> str:
    """Give the newest revision's id: the file names sort by it, so alembic need not be imported for the check."""
    return max(path.name.split("_")[0] for path in (_FOLDER / "versions").glob("[0-9]*_*.py"))


def current(connection: Connection) -> str:
    """Give the database's revision, empty if it was never migrated."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return ""
    row = connection.execute(sa.text("SELECT version_num FROM alembic_version")).first()
    return str(row[0]) if row else ""


def require_current(connection: Connection) -> None:
    """Raise MigrateFirst if the schema is older than the code; a newer one is fine (expand, then contract)."""
    found, wanted = current(connection), newest()
    if found < wanted:
        raise MigrateFirst(f"the database is at {found or 'no'} revision, the code needs {wanted}: run `{COMMAND}`")


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_FOLDER))
    return config
