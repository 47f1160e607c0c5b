"""What a command is, and what it is given: settings, a pipeline, and where to read and write."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TextIO

from pipeline.errors import PipelineError, StoreUnavailable
from pipeline.settings import Settings, load

if TYPE_CHECKING:
    from pipeline.bootstrap import Pipeline
    from pipeline.storage.database import Database

OK, FAILED, WRONG_USE = 0, 1, 2


class WrongUse(PipelineError):
    """Correct the command: the text names the argument at fault."""


Build = Callable[[Settings], Awaitable["Pipeline"]]


@dataclass(frozen=True, kw_only=True)
class Context:
    """The world of one command. Tests pass their own; `build` None is the composition root, imported when needed."""

    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    out: TextIO = field(default_factory=lambda: sys.stdout)
    err: TextIO = field(default_factory=lambda: sys.stderr)
    stdin: TextIO = field(default_factory=lambda: sys.stdin)
    build: Build | None = None

    @property
    def settings(self) -> Settings:
        """The app settings. Raises ConfigurationError."""
        return load(self.environment)

    def say(self, text: str) -> None:
        """Print one line of the answer."""
        self.out.write(text + "\n")

    def note(self, text: str) -> None:
        """Print one line beside the answer, for people."""
        self.err.write(text + "\n")

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[Pipeline]:
        """Build the pipeline and close it at the end. Raises ConfigurationError, StoreUnavailable."""
        build = self.build
        if build is None:
            from pipeline.bootstrap import bootstrap  # two seconds of imports that `--help` need not wait for

            build = bootstrap
        with _store_errors():
            pipeline = await build(self.settings)
            try:
                yield pipeline
            finally:
                await pipeline.close()

    @asynccontextmanager
    async def database(self) -> AsyncIterator[Database]:
        """Open the database alone, whatever its schema. Raises ConfigurationError, StoreUnavailable."""
        from pipeline.errors import ConfigurationError
        from pipeline.storage.database import Database

        url = self.settings.database_url
        if url is None:
            raise ConfigurationError("DATABASE_URL is missing")
        with _store_errors():
            database = Database(url.get_secret_value(), threads=2)
            try:
                yield database
            finally:
                await database.close()


class _store_errors:  # noqa: N801 - stands in `with` as a function
    """Turn a database that cannot be used at all into the error that says which setting names it."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from sqlalchemy.exc import SQLAlchemyError

        if isinstance(error, SQLAlchemyError):
            raise StoreUnavailable(f"the database named by DATABASE_URL: {type(error).__name__}") from error


class Command(NamedTuple):
    """One command; `run` gives the exit code: 0 yes, 1 no or failed, 2 wrong use."""

    name: str
    help: str
    configure: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Context], Awaitable[int]]


def with_json(parser: argparse.ArgumentParser) -> None:
    """Offer `--json`, for commands whose answer is data."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
