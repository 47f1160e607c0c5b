"""
Typed tables for people, one per feed: the latest revision of each item, tombstones included.

A row is replaced by a greater revision only, so that messages may come in any order and any number of times. A
deleted item keeps its row with `deleted` = 1 and no data; a lower revision never brings it back.
"""

from __future__ import annotations

import inspect
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
from pipeline.feeds.base import ChildOf, Feed
from pipeline.storage import inbox
from pipeline.storage.analytics_columns import ColumnType, DataColumn, data_columns, reader, table_name
from pipeline.storage.database import Database, read_now
from pipeline.storage.dialect import COLLATION, LOCK_HINT, MSSQL
from pipeline.storage.marts.base import Mart
from pipeline.storage.tables import ITEM, SCOPE, USER

_KEY = ("user_id", "scope", "item_id")
_FIXED = ("user_id", "scope", "feed_version", "message_id")
_ROW = ("item_id", "revision", "deleted", "source_time", "source_date", "capture")

_SERVER_NOW = "DATEDIFF_BIG(microsecond, '19700101', SYSUTCDATETIME())"

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
        self.parent = table_name(feed.scope.feed) if isinstance(feed.scope, ChildOf) else None
        """A child feed's scope is an item of this table."""
        self.columns = data_columns(feed)
        required = {name for name, info in feed.item.model_fields.items() if info.is_required()}
        self.required = tuple(column.name for column in self.columns if column.path[0] in required and column.scalar)
        """Columns that an item always fills unless it is deleted: its model refuses it without them."""
        self._read = reader(self.columns)

    @cached_property
    def table(self) -> sa.Table:
        """
        The table's declaration, apart from the tables that migrations know.

        Its rows are wide: SQLite keeps them in the order of arrival, for in the order of the key it would split a
        page for every third row.
        """
        return sa.Table(
            self.name,
            sa.MetaData(),
            sa.Column("user_id", USER, nullable=False),
            sa.Column("scope", SCOPE, nullable=False),
            sa.Column("item_id", ITEM, nullable=False),
            sa.Column("revision", sa.BigInteger, nullable=False),
            sa.Column("deleted", sa.SmallInteger, nullable=False),
            sa.Column("source_time", _moment(), nullable=False),
            sa.Column("source_date", sa.String(10).with_variant(sa.DATE(), MSSQL), nullable=False),
            sa.Column("capture", sa.String(8), nullable=False),
            sa.Column("feed_version", sa.Integer, nullable=False),
            sa.Column("message_id", sa.String(128), nullable=False),
            sa.Column("written_at", sa.BigInteger, nullable=False),
            *(sa.Column(column.name, _sql_type(column), nullable=True) for column in self.columns),
            sa.PrimaryKeyConstraint(*_KEY),
        )

    def upsert(self, connection: Connection, message: DataMessage) -> None:
        """Make the table hold the greatest revision of each of the message's items."""
        rows = [self._row(item) for item in message.items]
        fixed = {
            "user_id": message.user_id,
            "scope": message.scope,
            "feed_version": message.feed_version,
            "message_id": message.id[:128],
        }
        if connection.dialect.name == MSSQL:
            parameters = {**fixed, "rows": orjson.dumps(rows).decode()}
            for statement in self.mssql_statements:
                connection.execute(statement, parameters)
            return
        # Rows beat one JSON parameter by more than half here: SQLite would parse each row once per column.
        head = (*fixed.values(), read_now(connection))
        connection.exec_driver_sql(self.sqlite_statement, [(*head, *row) for row in rows])

    def _row(self, item: DataItem) -> list[Any]:
        moment = item.source_time
        row = [item.id, item.revision, int(item.deleted), moment[:19], moment[:10], item.capture]
        self._read(item.data or {}, row.append)
        return row

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return (*_ROW, *(column.name for column in self.columns))

    @cached_property
    def sqlite_statement(self) -> str:
        """Insert one row, or replace an older revision."""
        names = (*_FIXED, "written_at", *self._names)
        target = ", ".join(map(_quote, names))
        sets = ", ".join(f"{_quote(name)} = excluded.{_quote(name)}" for name in names if name not in _KEY)
        return (
            f"INSERT INTO {self.name} ({target}) VALUES ({', '.join('?' * len(names))}) "  # noqa: S608 - declared names
            f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET {sets} WHERE excluded.revision > {self.name}.revision"
        )

    @cached_property
    def mssql_statements(self) -> Sequence[sa.TextClause]:
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
                f"written_at = {_SERVER_NOW}",
            ]
        )
        target = ", ".join(map(_quote, (*_FIXED, "written_at", *self._names)))
        values = ", ".join([*(f":{n}" for n in _FIXED), _SERVER_NOW, *(f"s.{_quote(n)}" for n in self._names)])
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
    """Takes data messages into the tables; makes and extends a table, and the marts over it, when first met."""

    def __init__(self, database: Database, feeds: Iterable[Feed], marts: Iterable[Mart] = ()) -> None:
        self._database = database
        self._feeds = {feed.name: feed for feed in feeds}
        self._ready: dict[str, FeedTable] = {}
        self.marts = tuple(mart for mart in marts if self._feeds.keys() >= set(mart.feeds))
        """The marts whose feeds are all enabled."""

    def knows(self, feed: str) -> bool:
        """Whether the feed is enabled here, so that its columns are known."""
        return feed in self._feeds

    async def take(self, subscriber: str, message: DataMessage) -> bool:
        """Take a message's items, once; False if the message was taken before."""
        table = await self.table(message.feed)
        return await self._database.write("analytics", _take, subscriber, table, message)

    async def table(self, feed: str) -> FeedTable:
        """Give a feed's table, which exists with all its columns, and its marts too, when this returns."""
        if feed not in self._ready:
            marts = [mart for mart in self.marts if feed in mart.feeds]
            needed = {feed, *(name for mart in marts for name in mart.feeds)}
            tables = {name: FeedTable(self._feeds[name]) for name in sorted(needed)}
            await self._database.write("analytics.prepare", prepare, tables.values(), marts)
            self._ready[feed] = tables[feed]
        return self._ready[feed]

    async def tables(self) -> list[FeedTable]:
        """Give all tables of the enabled feeds."""
        return [await self.table(feed) for feed in self._feeds]

    async def prepare(self) -> None:
        """Make all tables and marts now: a deploy step where the app's own identity may not."""
        await self.tables()


def prepare(connection: Connection, tables: Iterable[FeedTable], marts: Iterable[Mart]) -> None:
    """Make tables, add what columns they lack, and make the views over them."""
    wanted = list(tables)
    try:
        _prepare(connection, wanted, marts)
    except DBAPIError:
        # Another process made the same table or column at the same moment; then it is there now.
        connection.rollback()
        _prepare(connection, wanted, marts)


def _prepare(connection: Connection, tables: list[FeedTable], marts: Iterable[Mart]) -> None:
    for table in tables:
        _extend(connection, table)
    for mart in marts:
        _replace_view(connection, mart)


def _extend(connection: Connection, table: FeedTable) -> None:
    """Make a table or add columns. None is ever dropped or changed: readers may hang on it."""
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


def _replace_view(connection: Connection, mart: Mart) -> None:
    body = f"{mart.view} AS {inspect.cleandoc(mart.select)}"
    if connection.dialect.name == MSSQL:
        connection.exec_driver_sql(f"CREATE OR ALTER VIEW {body}")
        return
    found = connection.execute(_SQLITE_VIEW, {"name": mart.view}).scalar()
    if found == f"CREATE VIEW {body}":
        return
    connection.exec_driver_sql(f"DROP VIEW IF EXISTS {mart.view}")
    connection.exec_driver_sql(f"CREATE VIEW {body}")


_SQLITE_VIEW = sa.text("SELECT sql FROM sqlite_master WHERE type = 'view' AND name = :name")


def _take(connection: Connection, subscriber: str, table: FeedTable, message: DataMessage) -> bool:
    if not inbox.take(connection, subscriber, message.id):
        return False
    table.upsert(connection, message)
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
