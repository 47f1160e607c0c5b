"""
The few places where SQLite and SQL Server differ: the clock, row locks, and one JSON parameter as a set of rows.

Statements are constant text with one JSON parameter per page, so each database keeps one plan and no statement
nears a limit on parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

SQLITE, MSSQL = "sqlite", "mssql"
COLLATION = "Latin1_General_100_BIN2_UTF8"
LOCK_HINT = "WITH (UPDLOCK, HOLDLOCK)"
"""Holds what was read until the commit. SQLite needs none: each of our units begins IMMEDIATE."""


class db_now(FunctionElement[int]):  # noqa: N801 - stands in statements as a function
    """The database's clock, whole microseconds since 1970: the only clock that decides anything."""

    type = sa.BigInteger()
    inherit_cache = True


@compiles(db_now, SQLITE)
def _sqlite_now(element: db_now, compiler: SQLCompiler, **kw: Any) -> str:
    return "pipeline_now()"


@compiles(db_now, MSSQL)
def _mssql_now(element: db_now, compiler: SQLCompiler, **kw: Any) -> str:
    return "DATEDIFF_BIG(microsecond, '19700101', SYSUTCDATETIME())"


class Prepared:
    """
    A statement compiled once per dialect and then handed to the driver as text: the hot statements of a page.

    SQLAlchemy's own path costs a tenth of a millisecond a statement, as much as SQLite needs to run it.
    """

    def __init__(self, statement: sa.Executable) -> None:
        """`statement` has no `IN` over a list: its text would depend on the values."""
        self._statement = statement
        self._compiled: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {}

    def __call__(self, connection: Connection, parameters: Mapping[str, Any]) -> sa.CursorResult[*tuple[Any, ...]]:
        """Execute with values by name; those that the statement itself carries need not be given."""
        text, names, own = self._compiled.get(connection.dialect.name) or self._compile(connection)
        values = tuple(parameters[name] if name in parameters else own[name] for name in names)
        return connection.exec_driver_sql(text, values)

    def many(self, connection: Connection, each: Sequence[Mapping[str, Any]]) -> sa.CursorResult[*tuple[Any, ...]]:
        """Execute once for each set of values; `rowcount` is their sum."""
        text, names, _ = self._compiled.get(connection.dialect.name) or self._compile(connection)
        return connection.exec_driver_sql(text, [tuple(one[name] for name in names) for one in each])

    def rows(
        self, connection: Connection, common: Mapping[str, Any], rows: Sequence[tuple[Any, ...]]
    ) -> sa.CursorResult[*tuple[Any, ...]]:
        """Execute once for each row: its values are the statement's last ones, those before it are common to all."""
        text, names, _ = self._compiled.get(connection.dialect.name) or self._compile(connection)
        before = tuple(common[name] for name in names[: len(names) - len(rows[0])])
        return connection.exec_driver_sql(text, [before + row for row in rows])

    def _compile(self, connection: Connection) -> tuple[str, tuple[str, ...], dict[str, Any]]:
        compiled = self._statement.compile(dialect=connection.dialect)  # type: ignore[attr-defined]  # ours all compile
        ready = (str(compiled), tuple(compiled.positiontup or ()), compiled.construct_params(_check=False))
        self._compiled[connection.dialect.name] = ready
        return ready


class JsonColumn(NamedTuple):
    """One column of a JSON row `[v0, v1, …]`; `mssql_type` is declared on the server, so no text is widened."""

    name: str
    mssql_type: str

    @property
    def is_text(self) -> bool:
        return self.mssql_type.startswith("VARCHAR")


def json_columns(table: sa.Table, names: tuple[str, ...]) -> tuple[JsonColumn, ...]:
    """Describe columns of a table for use in a JSON row, in the given order."""
    return tuple(JsonColumn(name, _server_type(table.c[name].type)) for name in names)


def _server_type(column_type: Any) -> str:
    if isinstance(column_type, sa.String):
        return f"VARCHAR({column_type.length})"
    if isinstance(column_type, sa.SmallInteger):
        return "SMALLINT"
    return "BIGINT" if isinstance(column_type, sa.BigInteger) else "INT"


def json_rows(dialect: str, columns: tuple[JsonColumn, ...], parameter: str = "rows", alias: str = "s") -> str:
    """Give a derived table that reads a JSON array of arrays from one parameter."""
    if dialect == MSSQL:
        declared = ", ".join(f"{c.name} {c.mssql_type} '$[{i}]'" for i, c in enumerate(columns))
        # The collation is named outside WITH: inside it, a database of another collation meets error 468.
        picked = ", ".join(
            f"j.{c.name} COLLATE {COLLATION} AS {c.name}" if c.is_text else f"j.{c.name}" for c in columns
        )
        return f"(SELECT {picked} FROM OPENJSON(:{parameter}) WITH ({declared}) AS j) AS {alias}"  # noqa: S608 - our names
    picked = ", ".join(f"json_extract(j.value, '$[{i}]') AS {c.name}" for i, c in enumerate(columns))
    return f"(SELECT {picked} FROM json_each(:{parameter}) AS j) AS {alias}"  # noqa: S608 - our own names


def insert_new(
    dialect: str,
    table: sa.Table,
    fixed: tuple[str, ...],
    columns: tuple[str, ...],
    key: tuple[str, ...],
    returning: tuple[str, ...],
) -> sa.TextClause:
    """
    Give the statement that inserts rows that are not there yet (rule 11: nothing read before it says what is new).

    `fixed` columns come from parameters of their own name. SQL Server reads `columns` from the rows of a JSON parameter
    in that order, and returns what is new. SQLite would need half as much again for that; there the statement is run
    for each row (`Prepared.rows`), and its count tells how many were new.
    """
    target = ", ".join((*fixed, *columns))
    if dialect != MSSQL:
        values = ", ".join(f":{name}" for name in (*fixed, *columns))
        return sa.text(f"INSERT INTO {table.name} ({target}) VALUES ({values}) ON CONFLICT DO NOTHING")  # noqa: S608
    values = ", ".join((*(f":{name}" for name in fixed), *(f"s.{name}" for name in columns)))
    inner_key = ", ".join(f"s0.{name}" for name in key if name in columns)
    match = " AND ".join(f"d.{n} = {'s.' + n if n in columns else ':' + n}" for n in key)
    rows = json_rows(dialect, json_columns(table, columns), alias="s0")
    return sa.text(
        f"INSERT INTO {table.name} ({target}) "  # noqa: S608 - names of our own tables and columns
        f"OUTPUT {', '.join(f'inserted.{name}' for name in returning)} "
        f"SELECT {values} FROM (SELECT s0.*, ROW_NUMBER() OVER (PARTITION BY {inner_key} ORDER BY (SELECT NULL)) "
        f"AS rn FROM {rows}) AS s WHERE s.rn = 1 AND NOT EXISTS "
        f"(SELECT 1 FROM {table.name} AS d {LOCK_HINT} WHERE {match}) OPTION (MAXDOP 1)"
    )
