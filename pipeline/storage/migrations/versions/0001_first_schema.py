"""The first schema."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mssql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _id(length: int) -> Any:
    return sa.String(length).with_variant(mssql.VARCHAR(length, collation="Latin1_General_100_BIN2_UTF8"), "mssql")


def _words(length: int) -> Any:
    return sa.String(length).with_variant(mssql.NVARCHAR(length), "mssql")


def _long_text() -> Any:
    return sa.Text().with_variant(mssql.NVARCHAR(None), "mssql")


def _counter() -> Any:
    return sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "brakes",
        sa.Column("name", _id(41), nullable=False),
        sa.Column("level", sa.String(length=12), nullable=False),
        sa.Column("reason", _words(200), nullable=False),
        sa.Column("set_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "budgets",
        sa.Column("name", _id(200), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("pause", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "chains",
        sa.Column("user_id", _id(64), nullable=False),
        sa.Column("feed", _id(41), nullable=False),
        sa.Column("scope", _id(128), nullable=False),
        sa.Column("lane", _id(12), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("doorbell_id", _id(128), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("rung_at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("opener", sa.BigInteger(), nullable=False),
        sa.Column("opened_at", sa.BigInteger(), nullable=False),
        sa.Column("committed_at", sa.BigInteger(), nullable=False),
        sa.Column("cursor", _long_text(), nullable=True),
        sa.Column("lo", sa.BigInteger(), nullable=False),
        sa.Column("hi", sa.BigInteger(), nullable=False),
        sa.Column("position_time", sa.BigInteger(), nullable=True),
        sa.Column("position_id", _id(128), nullable=True),
        sa.Column("ordered", sa.SmallInteger(), nullable=False),
        sa.Column("wanted", sa.BigInteger(), nullable=False),
        sa.Column("rerings", sa.Integer(), nullable=False),
        sa.Column("seen", sa.Integer(), nullable=False),
        sa.Column("stalled", sa.Integer(), nullable=False),
        sa.Column("restarts", sa.Integer(), nullable=False),
        sa.Column("halts", sa.Integer(), nullable=False),
        sa.Column("pages", sa.BigInteger(), nullable=False),
        sa.Column("token_version", sa.BigInteger(), nullable=False),
        sa.Column("correlation_id", sa.String(length=64), nullable=False),
        sa.Column("total_pages", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("total_calls", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("total_new", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("total_changed", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("total_duplicate", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("total_quarantined", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("last_error", sa.String(length=200), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("user_id", "feed", "scope", "lane"),
    )
    op.create_index("ix_chains_state_rung", "chains", ["state", "rung_at"], unique=False)
    op.create_table(
        "coverage",
        sa.Column("user_id", _id(64), nullable=False),
        sa.Column("feed", _id(41), nullable=False),
        sa.Column("scope", _id(128), nullable=False),
        sa.Column("history_start", sa.BigInteger(), nullable=False),
        sa.Column("first_opened_at", sa.BigInteger(), nullable=False),
        sa.Column("spans", _long_text(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "feed", "scope"),
    )
    op.create_index("ix_coverage_feed", "coverage", ["feed"])
    op.create_table(
        "discoveries",
        sa.Column("user_id", _id(64), nullable=False),
        sa.Column("kind", _id(32), nullable=False),
        sa.Column("done_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "kind"),
    )
    op.create_table(
        "inbox",
        sa.Column("subscriber", _id(32), nullable=False),
        sa.Column("message_id", _id(128), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("subscriber", "message_id"),
    )
    op.create_index("ix_inbox_seen", "inbox", ["seen_at"], unique=False)
    op.create_table(
        "incarnation",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", _id(32), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "items",
        sa.Column("user_id", _id(64), nullable=False),
        sa.Column("feed", _id(41), nullable=False),
        sa.Column("scope", _id(128), nullable=False),
        sa.Column("item_id", _id(128), nullable=False),
        sa.Column("item_time", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("hash", _id(32), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=True),
        sa.Column("observed", sa.BigInteger(), nullable=False),
        sa.Column("deleted", sa.SmallInteger(), nullable=False),
        sa.Column("first_seen_at", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("message_id", _id(64), nullable=False),
        sa.Column("capture", sa.String(length=8), nullable=False),
        sa.Column("swept", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "feed", "scope", "item_id"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "latest",
        sa.Column("user_id", _id(64), nullable=False),
        sa.Column("feed", _id(41), nullable=False),
        sa.Column("scope", _id(128), nullable=False),
        sa.Column("item_id", _id(128), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("data", _long_text(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "feed", "scope", "item_id"),
    )
    op.create_table(
        "leases",
        sa.Column("name", _id(64), nullable=False),
        sa.Column("holder", _id(64), nullable=False),
        sa.Column("token", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", _counter(), autoincrement=True, nullable=False),
        sa.Column("user_id", _id(64), nullable=False),
        sa.Column("feed", _id(41), nullable=False),
        sa.Column("scope", _id(128), nullable=False),
        sa.Column("lane", _id(12), nullable=False),
        sa.Column("entity", _id(120), nullable=False),
        sa.Column("message_id", _id(128), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("properties", _long_text(), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("claimed_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_outbox_chain", "outbox", ["user_id", "feed", "scope", "lane"], unique=False)
    op.create_index("ix_outbox_sent_created", "outbox", ["sent_at", "created_at"], unique=False)
    op.create_table(
        "quarantine",
        sa.Column("id", _counter(), autoincrement=True, nullable=False),
        sa.Column("user_id", _id(64), nullable=False),
        sa.Column("feed", _id(41), nullable=False),
        sa.Column("scope", _id(128), nullable=False),
        sa.Column("lane", _id(12), nullable=False),
        sa.Column("kind", sa.String(length=12), nullable=False),
        sa.Column("fingerprint", _id(32), nullable=False),
        sa.Column("item_id", _id(128), nullable=True),
        sa.Column("item_time", sa.BigInteger(), nullable=True),
        sa.Column("stage", sa.String(length=32), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("detail", _words(400), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("properties", _long_text(), nullable=False),
        sa.Column("feed_version", sa.Integer(), nullable=False),
        sa.Column("observed", sa.BigInteger(), nullable=False),
        sa.Column("correlation_id", sa.String(length=64), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("closed_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("user_id", "feed", "scope", "fingerprint", name="uq_quarantine_fingerprint"),
    )
    op.create_index("ix_quarantine_state", "quarantine", ["state", "feed", "created_at"], unique=False)
    op.create_table(
        "queues",
        sa.Column("name", _id(120), nullable=False),
        sa.Column("wait", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "samples",
        sa.Column("taken_at", sa.BigInteger(), nullable=False),
        sa.Column("name", _id(160), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("taken_at", "name"),
    )
    op.create_table(
        "scopes",
        sa.Column("user_id", _id(64), nullable=False),
        sa.Column("kind", _id(32), nullable=False),
        sa.Column("scope", _id(128), nullable=False),
        sa.Column("name", _words(200), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "kind", "scope"),
    )
    op.create_table(
        "ticks",
        sa.Column("feed", _id(41), nullable=False),
        sa.Column("occurrence", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("users", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("feed", "occurrence"),
    )
    op.create_table(
        "tokens",
        sa.Column("user_id", _id(64), nullable=False),
        sa.Column("source", _id(32), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("dead_version", sa.BigInteger(), nullable=False),
        sa.Column("stored_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "source"),
    )
    op.create_table(
        "users",
        sa.Column("user_id", _id(64), nullable=False),
        sa.Column("state", sa.String(length=12), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("user_id"),
    )


def downgrade() -> None:
    op.drop_table("users")
    op.drop_table("tokens")
    op.drop_table("ticks")
    op.drop_table("scopes")
    op.drop_table("samples")
    op.drop_table("queues")
    op.drop_index("ix_quarantine_state", table_name="quarantine")
    op.drop_table("quarantine")
    op.drop_index("ix_outbox_sent_created", table_name="outbox")
    op.drop_index("ix_outbox_chain", table_name="outbox")
    op.drop_table("outbox")
    op.drop_table("leases")
    op.drop_table("latest")
    op.drop_table("items")
    op.drop_table("incarnation")
    op.drop_index("ix_inbox_seen", table_name="inbox")
    op.drop_table("inbox")
    op.drop_table("discoveries")
    op.drop_index("ix_coverage_feed", table_name="coverage")
    op.drop_table("coverage")
    op.drop_index("ix_chains_state_rung", table_name="chains")
    op.drop_table("chains")
    op.drop_table("budgets")
    op.drop_table("brakes")
