"""
Write down what SQL Server would be sent, while the product runs on SQLite.

A Core statement is compiled for SQL Server as it is executed. A statement that a function of the storage layer builds
for one dialect is replaced by what the same function builds for SQL Server.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects.mssql.pyodbc import MSDialect_pyodbc

import pipeline.storage
from pipeline.storage.dialect import MSSQL, SQLITE, Prepared
from tests.tsql.sites import ROOT, Site

SERVER = MSDialect_pyodbc(paramstyle="qmark")  # type: ignore[no-untyped-call]  # the library leaves it untyped
_PLACE = re.compile(r"\?")


class Recorded(NamedTuple):
    """A statement as SQL Server gets it, and the file and line that executed it."""

    file: str
    line: int
    text: str


class Recorder:
    """Holds each statement once per place."""

    def __init__(self, sites: Sequence[Site]) -> None:
        self._sites = sites
        self.statements: dict[Recorded, None] = {}
        self._twins: dict[int, tuple[Any, Any]] = {}

    def unseen(self) -> list[Site]:
        """Give the places that executed nothing."""
        return [site for site in self._sites if not any(site.covers(one.file, one.line) for one in self.statements)]

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record every statement executed on any SQLite engine until the block ends."""
        undo = self._wrap_builders()
        call = Prepared.__call__

        def prepared(one: Prepared, connection: sa.Connection, parameters: Mapping[str, Any]) -> Any:
            self.add(one, None)
            return call(one, connection, parameters)

        def before(connection: sa.Connection, statement: Any, multi: Any, params: Any, options: Any) -> None:
            if connection.dialect.name == SQLITE:
                rows = [*multi, params] if params else list(multi)
                self.add(statement, rows[0] if rows else None)

        setattr(Prepared, "__call__", prepared)  # noqa: B010 - put back below; mypy takes no assignment to a method
        event.listen(sa.Engine, "before_execute", before)
        try:
            yield
        finally:
            event.remove(sa.Engine, "before_execute", before)
            setattr(Prepared, "__call__", call)  # noqa: B010 - as above
            for module, name, original in undo:
                setattr(module, name, original)

    def add(self, statement: Any, parameters: Mapping[str, Any] | None) -> None:
        """Record one statement under the place in the product that executes it now."""
        place = _place()
        if place is None or not any(site.covers(*place) for site in self._sites):
            return  # a migration, or the library asking its own questions
        statement = self._twins.get(id(statement), (None, statement))[1]
        text = statement if isinstance(statement, str) else server_text(statement, parameters)
        self.statements.setdefault(Recorded(*place, text))

    def _wrap_builders(self) -> list[tuple[Any, str, Any]]:
        """Have each function that builds a statement for a dialect build its SQL Server twin, too."""
        undo = []
        for module in _modules():
            for name, function in list(vars(module).items()):
                plain = inspect.unwrap(function)
                if not inspect.isfunction(plain) or plain.__module__ != module.__name__:
                    continue
                if next(iter(inspect.signature(plain).parameters), "") == "dialect" and module.__name__ != _DIALECT:
                    undo.append((module, name, function))
                    setattr(module, name, self._both(function))
        return undo

    def _both(self, build: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(build)
        def both(dialect: str, *args: Any) -> Any:
            built = build(dialect, *args)
            if dialect == SQLITE:
                self._twins[id(built)] = (built, build(MSSQL, *args))  # holding both keeps the id its own
            return built

        return both


_DIALECT = "pipeline.storage.dialect"  # builds parts, not statements


def server_text(statement: Any, parameters: Mapping[str, Any] | None = None) -> str:
    """Compile a statement as SQL Server's driver gets it, its places named @P1, @P2 …"""
    if isinstance(statement, Prepared):
        statement = statement._statement
    if isinstance(statement, sa.DDLElement):
        return str(statement.compile(dialect=SERVER))
    names = list(parameters) if parameters and isinstance(statement, sa.Insert | sa.Update) else None
    compiled = statement.compile(dialect=SERVER, column_keys=names, compile_kwargs={"render_postcompile": True})
    return _numbered(str(compiled))


def _numbered(text: str) -> str:
    numbers = iter(range(1, 10_000))
    return _PLACE.sub(lambda match: f"@P{next(numbers)}", text)


def _modules() -> Sequence[Any]:
    names = [one.name for one in pkgutil.walk_packages(pipeline.storage.__path__, "pipeline.storage.")]
    return [importlib.import_module(name) for name in names if ".migrations" not in name]


def _place() -> tuple[str, int] | None:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(str(ROOT / "pipeline")) and not name.endswith("storage/dialect.py"):
            return name.removeprefix(f"{ROOT}/"), frame.f_lineno
        frame = frame.f_back
    return None


class ServerConnection:
    """Stands for a connection to SQL Server in the few functions that ask which dialect they have. Answers nothing."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.dialect = SERVER

    def execute(self, statement: Any, parameters: Any = None) -> list[Any]:
        """Record a statement; there are no rows."""
        self._recorder.add(statement, parameters if isinstance(parameters, Mapping) else None)
        return []

    def exec_driver_sql(self, text: str, parameters: Any = None) -> list[Any]:
        """Record a text as the driver gets it."""
        self._recorder.add(_numbered(text), None)
        return []
