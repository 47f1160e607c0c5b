"""Alembic's folder. Revisions are numbered files in `versions`; the newest number is the schema the code needs."""
