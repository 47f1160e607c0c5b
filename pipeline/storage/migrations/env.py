"""Alembic's entry: configured in code, never from a file."""

from __future__ import annotations

from alembic import context

from pipeline.storage.tables import metadata

config = context.config

if context.is_offline_mode():
    context.configure(dialect_name=config.attributes["dialect"], target_metadata=metadata, literal_binds=True)
    with context.begin_transaction():
        context.run_migrations()
else:
    context.configure(connection=config.attributes["connection"], target_metadata=metadata, render_as_batch=False)
    context.run_migrations()
