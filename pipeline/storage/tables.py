"""
All tables. Instants (`*_at`, `not_before`, `due`, `observed`) are whole microseconds of the database's clock since
1970; item times (`item_time`, `updated`, `lo`, `hi`, `wanted`) are whole seconds. Ids are case-sensitive text.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import mssql

metadata = MetaData()

_BINARY_COLLATION = "Latin1_General_100_BIN2_UTF8"


def _id(length: int) -> Any:
    # SQL Server's default collations ignore case; two ids that differ in case only would be one: loss.
    return String(length).with_variant(mssql.VARCHAR(length, collation=_BINARY_COLLATION), "mssql")


def _long_text() -> Any:
    return Text().with_variant(mssql.NVARCHAR(None), "mssql")


USER, FEED, SCOPE, LANE, ITEM, DOORBELL = _id(64), _id(41), _id(128), _id(12), _id(128), _id(128)
_BIG = BigInteger().with_variant(Integer, "sqlite")  # SQLite counts rows only in a column typed INTEGER

users = Table(
    "users",
    metadata,
    Column("user_id", USER, primary_key=True),
    Column("state", String(12), nullable=False),  # active | disabled
    Column("priority", SmallInteger, nullable=False, default=0),
    Column("created_at", BigInteger, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    Column("user_id", USER, nullable=False),
    Column("source", _id(32), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("dead_version", BigInteger, nullable=False, default=0),
    Column("stored_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("user_id", "source"),
)

scopes = Table(
    "scopes",
    metadata,
    Column("user_id", USER, nullable=False),
    Column("kind", _id(32), nullable=False),
    Column("scope", SCOPE, nullable=False),
    Column("name", String(200).with_variant(mssql.NVARCHAR(200), "mssql"), nullable=False, default=""),
    Column("state", String(12), nullable=False),  # open | closed
    Column("seen_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("user_id", "kind", "scope"),
)

discoveries = Table(
    "discoveries",
    metadata,
    Column("user_id", USER, nullable=False),
    Column("kind", _id(32), nullable=False),
    Column("done_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("user_id", "kind"),
)

chains = Table(
    "chains",
    metadata,
    Column("user_id", USER, nullable=False),
    Column("feed", FEED, nullable=False),
    Column("scope", SCOPE, nullable=False),
    Column("lane", LANE, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("doorbell_id", DOORBELL, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("rung_at", BigInteger, nullable=False),
    Column("state", String(12), nullable=False),
    Column("not_before", BigInteger, nullable=False),
    Column("reason", String(64), nullable=False),
    Column("opener", BigInteger, nullable=False),
    Column("opened_at", BigInteger, nullable=False),
    Column("committed_at", BigInteger, nullable=False),
    Column("cursor", _long_text()),
    Column("lo", BigInteger, nullable=False),
    Column("hi", BigInteger, nullable=False),
    Column("position_time", BigInteger),
    Column("position_id", ITEM),
    Column("ordered", SmallInteger, nullable=False),
    Column("wanted", BigInteger, nullable=False),
    Column("rerings", Integer, nullable=False),
    Column("seen", Integer, nullable=False),
    Column("stalled", Integer, nullable=False),
    Column("restarts", Integer, nullable=False),
    Column("halts", Integer, nullable=False),
    Column("pages", BigInteger, nullable=False),
    Column("token_version", BigInteger, nullable=False),
    Column("correlation_id", String(64), nullable=False),
    # Totals over the chain's life, for people.
    Column("total_pages", BigInteger, nullable=False, default=0, server_default="0"),
    Column("total_calls", BigInteger, nullable=False, default=0, server_default="0"),
    Column("total_new", BigInteger, nullable=False, default=0, server_default="0"),
    Column("total_changed", BigInteger, nullable=False, default=0, server_default="0"),
    Column("total_duplicate", BigInteger, nullable=False, default=0, server_default="0"),
    Column("total_quarantined", BigInteger, nullable=False, default=0, server_default="0"),
    Column("last_error", String(200), nullable=False, default="", server_default=""),
    PrimaryKeyConstraint("user_id", "feed", "scope", "lane"),
)
Index("ix_chains_state_rung", chains.c.state, chains.c.rung_at)

coverage = Table(
    "coverage",
    metadata,
    Column("user_id", USER, nullable=False),
    Column("feed", FEED, nullable=False),
    Column("scope", SCOPE, nullable=False),
    Column("history_start", BigInteger, nullable=False),
    Column("first_opened_at", BigInteger, nullable=False),
    Column("spans", _long_text(), nullable=False),  # JSON [[lo, hi], …] in normal form
    PrimaryKeyConstraint("user_id", "feed", "scope"),
)
Index("ix_coverage_feed", coverage.c.feed)

items = Table(
    "items",
    metadata,
    Column("user_id", USER, nullable=False),
    Column("feed", FEED, nullable=False),
    Column("scope", SCOPE, nullable=False),
    Column("item_id", ITEM, nullable=False),
    Column("item_time", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("hash", _id(32), nullable=False),
    Column("updated", BigInteger),  # the API's updated_time, where it has one
    Column("observed", BigInteger, nullable=False),
    Column("deleted", SmallInteger, nullable=False),
    Column("first_seen_at", BigInteger, nullable=False),
    Column("changed_at", BigInteger, nullable=False),
    Column("message_id", _id(64), nullable=False),  # the data message that carried the latest revision
    Column("capture", String(8), nullable=False),
    Column("swept", BigInteger, nullable=False, default=0),  # the last marking epoch that returned it
    PrimaryKeyConstraint("user_id", "feed", "scope", "item_id"),
    sqlite_with_rowid=False,
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", _BIG, primary_key=True, autoincrement=True),
    Column("user_id", USER, nullable=False),
    Column("feed", FEED, nullable=False),
    Column("scope", SCOPE, nullable=False),
    Column("lane", LANE, nullable=False),
    Column("entity", _id(120), nullable=False),
    Column("message_id", _id(128), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("properties", _long_text(), nullable=False),  # JSON object of application properties
    Column("due", BigInteger, nullable=False),  # 0 = now
    Column("size", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("sent_at", BigInteger),
    Column("claimed_until", BigInteger, nullable=False, default=0),
    sqlite_autoincrement=True,  # SQLite gives the id of a removed row to the next one; a slow sender would remove that
)
Index("ix_outbox_chain", outbox.c.user_id, outbox.c.feed, outbox.c.scope, outbox.c.lane)
Index("ix_outbox_sent_created", outbox.c.sent_at, outbox.c.created_at)

quarantine = Table(
    "quarantine",
    metadata,
    Column("id", _BIG, primary_key=True, autoincrement=True),
    Column("user_id", USER, nullable=False),
    Column("feed", FEED, nullable=False),
    Column("scope", SCOPE, nullable=False),
    Column("lane", LANE, nullable=False),
    Column("kind", String(12), nullable=False),  # item | message
    Column("fingerprint", _id(32), nullable=False),
    Column("item_id", ITEM),
    Column("item_time", BigInteger),
    Column("stage", String(32), nullable=False),
    Column("reason", String(64), nullable=False),
    Column("detail", String(400).with_variant(mssql.NVARCHAR(400), "mssql"), nullable=False),
    Column("body", LargeBinary, nullable=False),  # zlib
    Column("properties", _long_text(), nullable=False),
    Column("feed_version", Integer, nullable=False),
    Column("observed", BigInteger, nullable=False),
    Column("correlation_id", String(64), nullable=False),
    Column("state", String(12), nullable=False),  # waiting | replayed | discarded
    Column("attempts", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("closed_at", BigInteger),
    UniqueConstraint("user_id", "feed", "scope", "fingerprint", name="uq_quarantine_fingerprint"),
)
Index("ix_quarantine_state", quarantine.c.state, quarantine.c.feed, quarantine.c.created_at)

budgets = Table(
    "budgets",
    metadata,
    Column("name", _id(200), primary_key=True),
    Column("not_before", BigInteger, nullable=False),
    Column("percent", Integer, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("pause", BigInteger, nullable=False),
)

queues = Table(
    "queues",
    metadata,
    Column("name", _id(120), primary_key=True),
    Column("wait", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

samples = Table(
    "samples",
    metadata,
    Column("taken_at", BigInteger, nullable=False),
    Column("name", _id(160), nullable=False),
    Column("value", BigInteger, nullable=False),
    PrimaryKeyConstraint("taken_at", "name"),
)

leases = Table(
    "leases",
    metadata,
    Column("name", _id(64), primary_key=True),
    Column("holder", _id(64), nullable=False),
    Column("token", BigInteger, nullable=False),  # counts up with each new holder: the fencing number
    Column("expires_at", BigInteger, nullable=False),
)

brakes = Table(
    "brakes",
    metadata,
    Column("name", _id(41), primary_key=True),  # '*' or a feed
    Column("level", String(12), nullable=False),  # stop
    Column("reason", String(200).with_variant(mssql.NVARCHAR(200), "mssql"), nullable=False),
    Column("set_at", BigInteger, nullable=False),
)

ticks = Table(
    "ticks",
    metadata,
    Column("feed", FEED, nullable=False),
    Column("occurrence", BigInteger, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("users", BigInteger, nullable=False),
    PrimaryKeyConstraint("feed", "occurrence"),
)

inbox = Table(
    "inbox",
    metadata,
    Column("subscriber", _id(32), nullable=False),
    Column("message_id", _id(128), nullable=False),
    Column("seen_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("subscriber", "message_id"),
)
Index("ix_inbox_seen", inbox.c.seen_at)

incarnation = Table(
    "incarnation",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("value", _id(32), nullable=False),  # in every Redis key: a restored database meets no keys of its past
)

latest = Table(
    "latest",
    metadata,
    Column("user_id", USER, nullable=False),
    Column("feed", FEED, nullable=False),
    Column("scope", SCOPE, nullable=False),
    Column("item_id", ITEM, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("data", _long_text(), nullable=False),  # the published `data` of the latest revision, JSON
    PrimaryKeyConstraint("user_id", "feed", "scope", "item_id"),
)
