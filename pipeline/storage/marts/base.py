"""What a mart is, and what can be demanded of data. The SQL is the part that SQLite and SQL Server share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Unique(NamedTuple):
    """No two rows have the same values in these columns."""

    columns: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"unique({', '.join(self.columns)})"

    def failures(self, table: str) -> str:
        """Give the query that counts what fails."""
        chosen = ", ".join(map(_quote, self.columns))
        twice = f"SELECT {chosen} FROM {table} GROUP BY {chosen} HAVING COUNT(*) > 1"  # noqa: S608 - declared names
        return f"SELECT COUNT(*) FROM ({twice}) AS twice"  # noqa: S608 - declared names


class NotNull(NamedTuple):
    """A column always has a value, in the rows that `where` chooses."""

    column: str
    where: str = ""

    @property
    def name(self) -> str:
        return f"not_null({self.column})"

    def failures(self, table: str) -> str:
        """Give the query that counts what fails."""
        also = f" AND {self.where}" if self.where else ""
        return f"SELECT COUNT(*) FROM {table} WHERE {_quote(self.column)} IS NULL{also}"  # noqa: S608 - declared names


class Relation(NamedTuple):
    """Each row's columns stand as `other_columns` in another table or mart."""

    columns: tuple[str, ...]
    other: str
    other_columns: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"relation({', '.join(self.columns)} in {self.other})"

    def failures(self, table: str) -> str:
        """Give the query that counts what fails."""
        pairs = zip(self.columns, self.other_columns, strict=True)
        match = " AND ".join(f"p.{_quote(theirs)} = c.{_quote(ours)}" for ours, theirs in pairs)
        missing = f"NOT EXISTS (SELECT 1 FROM {self.other} AS p WHERE {match})"  # noqa: S608 - declared names
        return f"SELECT COUNT(*) FROM {table} AS c WHERE {missing}"  # noqa: S608 - declared names


class AcceptedValues(NamedTuple):
    """A column has one of these values, or none."""

    column: str
    values: tuple[str | int, ...]

    @property
    def name(self) -> str:
        return f"accepted_values({self.column})"

    def failures(self, table: str) -> str:
        """Give the query that counts what fails."""
        listed = ", ".join(_literal(one) for one in self.values)
        return f"SELECT COUNT(*) FROM {table} WHERE {_quote(self.column)} NOT IN ({listed})"  # noqa: S608 - declared


DataTest = Unique | NotNull | Relation | AcceptedValues


@dataclass(frozen=True, kw_only=True)
class Mart:
    """One view. It exists where all its feeds are enabled."""

    name: str
    feeds: tuple[str, ...]
    select: str
    """The query, over the tables of its feeds (`data_posts`); the view is called `mart_` and the name."""
    tests: tuple[DataTest, ...] = field(default=())

    @property
    def view(self) -> str:
        """The view's name."""
        return f"mart_{self.name}"


def _literal(value: str | int) -> str:
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"


def _quote(name: str) -> str:
    return f'"{name}"'
