"""
Typed tables for people, one per feed: the latest revision of each item, tombstones included.

A row is replaced by a greater revision only, so that messages may come in any order and any number of times. A
deleted item keeps its row with `deleted` = 1 and no data; a lower revision never brings it back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects import mssql
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateColumn, CreateTable

from pipeline.bus.data import DataItem, DataMessage
from pipeline.feeds.base import Feed
from pipeline.storage import inbox
from pipeline.storage.analytics_columns import ColumnType, DataColumn, data_columns, table_name
from pipeline.storage.database import Database
from pipeline.storage.dialect import COLLATION, LOCK_HINT, MSSQL, SQLITE
from pipeline.storage.tables import ITEM, SCOPE, USER

_KEY = ("user_id", "scope", "item_id")
_FIXED = ("user_id", "scope", "feed_version", "message_id")
_ROW = ("item_id", "revision", "deleted", "source_time", "source_date", "capture")

_NOW = {MSSQL: "DATEDIFF_BIG(microsecond, '19700101', SYSUTCDATETIME())", SQLITE: "pipeline_now()"}

_SERVER_TYPES = {
    ColumnType.TEXT: "NVARCHAR(MAX)",
    ColumnType.INTEGER: "BIGINT",
    ColumnType.NUMBER: "FLOAT",
    ColumnType.BOOLEAN: "BIT",
    ColumnType.JSON: "NVARCHAR(MAX)",
}
_OWN_SERVER_TYPES = {
    "item_id": "VARCHAR(128)",
    "revision": "BIGINT",
    "deleted": "SMALLINT",
    "source_time": "DATETIME2(0)",
    "source_date": "DATE",
    "capture": "VARCHAR(8)",
}


class FeedTable:
    """One feed's table: its columns, and the statements that fill it."""

    def __init__(self, feed: Feed) -> None:
        self.name = table_name(feed.name)
        self.columns = data_columns(feed)
        self._readers = [column.reader() for column in self.columns]
        self._nothing = [None] * len(self.columns)

    @cached_property
    def table(self) -> sa.Table:
        """The table's declaration, apart from the tables that migrations know."""
        return sa.Table(
            self.name,
            sa.MetaData(),
            sa.Column("user_id", USER, nullable=False),
            sa.Column("scope", SCOPE, nullable=False),
            sa.Column("item_id", ITEM, nullable=False),
            sa.Column("revision", sa.BigInteger, nullable=False),
            sa.Column("deleted", sa.SmallInteger, nullable=False),
            sa.Column("source_time", _moment(), nullable=False),
            sa.Column("source_date", sa.String(10).with_variant(sa.Date(), MSSQL), nullable=False),
            sa.Column("capture", sa.String(8), nullable=False),
            sa.Column("feed_version", sa.Integer, nullable=False),
            sa.Column("message_id", sa.String(128), nullable=False),
            sa.Column("written_at", sa.BigInteger, nullable=False),
            *(sa.Column(column.name, _sql_type(column), nullable=True) for column in self.columns),
            sa.PrimaryKeyConstraint(*_KEY),
            sqlite_with_rowid=False,
        )

    def rows(self, items: Iterable[DataItem]) -> str:
        """Give a message's items as the one JSON parameter of the statements."""
        readers, nothing = self._readers, self._nothing
        return orjson.dumps(
            [
                [
                    item.id,
                    item.revision,
                    int(item.deleted),
                    item.source_time[:19],
                    item.source_time[:10],
                    item.capture,
                    *(nothing if item.data is None else [read(item.data) for read in readers]),
                ]
                for item in items
            ]
        ).decode()

    def upsert(self, dialect: str) -> Sequence[sa.TextClause]:
        """Give the statements that make the table hold the greatest revision of each item."""
        if dialect not in self._statements:
            self._statements[dialect] = self._for_mssql() if dialect == MSSQL else self._for_sqlite()
        return self._statements[dialect]

    @cached_property
    def _statements(self) -> dict[str, Sequence[sa.TextClause]]:
        return {}

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return (*_ROW, *(column.name for column in self.columns))

    def _for_sqlite(self) -> Sequence[sa.TextClause]:
        picked = ", ".join(f"json_extract(j.value, '$[{place}]')" for place in range(len(self._names)))
        target = ", ".join(map(_quote, (*_FIXED, "written_at", *self._names)))
        fixed = ", ".join(f":{name}" for name in _FIXED)
        replaced = [name for name in (*_FIXED, "written_at", *self._names) if name not in _KEY]
        sets = ", ".join(f"{_quote(name)} = excluded.{_quote(name)}" for name in replaced)
        return [
            sa.text(
                f"INSERT INTO {self.name} ({target}) "  # noqa: S608 - names of declared columns, quoted
                f"SELECT {fixed}, {_NOW[SQLITE]}, {picked} FROM json_each(:rows) AS j WHERE true "
                f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET {sets} WHERE excluded.revision > {self.name}.revision"
            )
        ]

    def _for_mssql(self) -> Sequence[sa.TextClause]:
        """Update, then insert: a row that another transaction inserts in between fails the key, and the unit reruns."""
        types = [*_OWN_SERVER_TYPES.values(), *(_SERVER_TYPES[column.type] for column in self.columns)]
        pairs = zip(self._names, types, strict=True)
        declared = ", ".join(f"{_quote(name)} {kind} '$[{place}]'" for place, (name, kind) in enumerate(pairs))
        others = ", ".join(f"j.{_quote(name)}" for name in self._names if name != "item_id")
        source = (
            f"(SELECT j.item_id COLLATE {COLLATION} AS item_id, {others}, ROW_NUMBER() OVER "  # noqa: S608 - as above
            f"(PARTITION BY j.item_id COLLATE {COLLATION} ORDER BY j.revision DESC) AS rn "
            f"FROM OPENJSON(:rows) WITH ({declared}) AS j) AS s"
        )
        match = "d.user_id = :user_id AND d.scope = :scope AND d.item_id = s.item_id"
        sets = ", ".join(
            [
                *(f"{_quote(name)} = s.{_quote(name)}" for name in self._names if name != "item_id"),
                *(f"{name} = :{name}" for name in _FIXED if name not in _KEY),
                f"written_at = {_NOW[MSSQL]}",
            ]
        )
        target = ", ".join(map(_quote, (*_FIXED, "written_at", *self._names)))
        values = ", ".join([*(f":{n}" for n in _FIXED), _NOW[MSSQL], *(f"s.{_quote(n)}" for n in self._names)])
        return [
            sa.text(
                f"UPDATE d SET {sets} FROM {self.name} AS d {LOCK_HINT} JOIN {source} ON {match} "  # noqa: S608 - as above
                "WHERE s.rn = 1 AND s.revision > d.revision OPTION (MAXDOP 1)"
            ),
            sa.text(
                f"INSERT INTO {self.name} ({target}) SELECT {values} FROM {source} WHERE s.rn = 1 AND NOT EXISTS "  # noqa: S608 - as above
                f"(SELECT 1 FROM {self.name} AS d {LOCK_HINT} WHERE {match}) OPTION (MAXDOP 1)"
            ),
        ]


class Analytics:
    """Takes data messages into the tables; makes and extends a table when its feed is first met."""

    def __init__(self, database: Database, feeds: Iterable[Feed]) -> None:
        self._database = database
        self._feeds = {feed.name: feed for feed in feeds}
        self._ready: dict[str, FeedTable] = {}

    def knows(self, feed: str) -> bool:
        """Whether the feed is enabled here, so that its columns are known."""
        return feed in self._feeds

    async def take(self, subscriber: str, message: DataMessage) -> bool:
        """Take a message's items, once; False if the message was taken before."""
        table = await self.table(message.feed)
        return await self._database.write("analytics", _take, subscriber, table, message)

    async def table(self, feed: str) -> FeedTable:
        """Give a feed's table, which exists with all its columns when this returns."""
        if feed not in self._ready:
            table = FeedTable(self._feeds[feed])
            await self._database.write("analytics.prepare", prepare_table, table)
            self._ready[feed] = table
        return self._ready[feed]

    async def prepare(self) -> None:
        """Make all tables now: a deploy step where the app's own identity may not."""
        for feed in self._feeds:
            await self.table(feed)


def prepare_table(connection: Connection, table: FeedTable) -> None:
    """Make a table or add what columns it lacks. Columns are never dropped or changed: readers may hang on them."""
    try:
        _extend(connection, table)
    except DBAPIError:
        # Another process made the same table or column at the same moment; then all is there now.
        connection.rollback()
        _extend(connection, table)


def _extend(connection: Connection, table: FeedTable) -> None:
    inspector = sa.inspect(connection)
    if not inspector.has_table(table.name):
        connection.execute(CreateTable(table.table))
        return
    existing = {column["name"] for column in inspector.get_columns(table.name)}
    adds = "ADD" if connection.dialect.name == MSSQL else "ADD COLUMN"
    for column in table.table.columns:
        if column.name not in existing:
            declared = CreateColumn(column).compile(dialect=connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {table.name} {adds} {declared}")


def _take(connection: Connection, subscriber: str, table: FeedTable, message: DataMessage) -> bool:
    if not inbox.take(connection, subscriber, message.id):
        return False
    parameters: dict[str, Any] = {
        "user_id": message.user_id,
        "scope": message.scope,
        "feed_version": message.feed_version,
        "message_id": message.id[:128],
        "rows": table.rows(message.items),
    }
    for statement in table.upsert(connection.dialect.name):
        connection.execute(statement, parameters)
    return True


def _moment() -> Any:
    whole_seconds = mssql.DATETIME2(0)  # type: ignore[no-untyped-call]  # the library leaves it untyped
    return sa.String(19).with_variant(whole_seconds, MSSQL)


def _sql_type(column: DataColumn) -> Any:
    long_text = sa.Text().with_variant(mssql.NVARCHAR(None), MSSQL)
    return {
        ColumnType.TEXT: long_text,
        ColumnType.INTEGER: sa.BigInteger(),
        ColumnType.NUMBER: sa.Float(53),
        ColumnType.BOOLEAN: sa.SmallInteger().with_variant(mssql.BIT(), MSSQL),
        ColumnType.JSON: long_text,
    }[column.type]


def _quote(name: str) -> str:
    return f'"{name}"'  # both databases take the standard's quotes; a field may be called `count` or `order`
