"""Our code, SQLAlchemy, pyodbc and Microsoft's driver against a fake server: what arrives, and how faults come back."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from pipeline.errors import StoreUnavailable
from pipeline.storage import items
from pipeline.storage.database import Database, read_now
from pipeline.storage.items import Candidate, Writing
from tests.tsql import fetch
from tests.tsql.tds_server import Answer, Drops, Fails, TdsServer, tds_server

pytest.importorskip("pyodbc", reason="libodbc2 is not installed", exc_type=ImportError)
if not (fetch.FOLDER / "driver").exists():
    pytest.skip("Microsoft's driver is not here: make test-tsql", allow_module_level=True)

DRIVER = fetch.driver_library()
NOW = 1_700_000_000_000_000


@pytest.fixture
def server() -> Iterator[TdsServer]:
    with tds_server() as running:
        running.answer = lambda sql: [[NOW]]
        yield running


@pytest.fixture
def database(server: TdsServer) -> Iterator[Database]:
    parts = f"Driver={DRIVER};Server=127.0.0.1,{server.port};UID=sa;PWD=x;Encrypt=no;LoginTimeout=5;ConnectRetryCount=0"
    found = Database(f"mssql+pyodbc:///?odbc_connect={quote(parts)}", threads=2)
    yield found
    found.engine.dispose()


def answering(server: TdsServer, *answers: Answer) -> None:
    """Give these answers in turn, then the clock."""
    waiting = list(answers)
    server.answer = lambda sql: waiting.pop(0) if waiting else [[NOW]]


def test_the_servers_clock_is_read(database: Database) -> None:
    """The first statement of most units, and proof that the whole path works."""
    assert database.read_here(read_now) == NOW


def test_a_page_goes_as_one_statement_with_one_text(database: Database, server: TdsServer) -> None:
    """Constant text keeps one plan, and no page comes near the 2,100 parameters."""
    answering(server, [["i1"], ["i3"]])
    page = [Candidate(f"i{number}", number, "hash", None, {}, b"{}") for number in (1, 2, 3)]
    owner = {"user_id": "u1", "feed": "posts", "scope": "u1"}

    new = database.write_here("items", lambda connection: items._insert(connection, owner, page, Writing(1, 2, "m")))

    assert new == {"i1", "i3"}
    assert len(server.statements) == 1
    assert "FROM OPENJSON(@P" in server.statements[0]
    assert sum('["i1",1,"hash",null,0,0]' in text for text in server.parameters) == 1


@pytest.mark.parametrize("number", [1205, 1222, 2627, 3960, 8645, 10928, 40197, 40501, 40613, 49918])
def test_a_unit_that_met_a_passing_fault_is_run_again(database: Database, server: TdsServer, number: int) -> None:
    """The driver calls throttling a programming error; only the number tells."""
    answering(server, Fails(number))

    assert database.write_here("test", read_now) == NOW
    assert len(server.statements) == 2


@pytest.mark.parametrize("number", [102, 208, 547, 8152])
def test_a_fault_of_our_own_is_raised_at_once(database: Database, server: TdsServer, number: int) -> None:
    """A wrong statement does not get better by asking again."""
    answering(server, Fails(number))

    with pytest.raises(sa.exc.DBAPIError):
        database.write_here("test", read_now)

    assert len(server.statements) == 1


def test_a_fault_that_stays_is_told_as_the_store_being_away(database: Database, server: TdsServer) -> None:
    """The chain is parked then, not halted."""
    answering(server, *[Fails(40501)] * 3)

    with pytest.raises(StoreUnavailable):
        database.write_here("test", read_now)


def test_a_connection_that_breaks_in_a_statement_is_replaced(database: Database, server: TdsServer) -> None:
    """A failover closes all connections at once."""
    answering(server, Drops())

    assert database.write_here("test", read_now) == NOW
    assert server.logins == 2


@pytest.mark.parametrize(("number", "passes"), [(40613, True), (40197, True), (4060, True), (18456, False)])
def test_a_refused_login_passes_or_does_not(database: Database, server: TdsServer, number: int, passes: bool) -> None:
    """A database that is resuming refuses logins for a minute; a wrong password stays wrong."""
    server.refuse_login = number

    with pytest.raises(StoreUnavailable if passes else sa.exc.DBAPIError):
        database.read_here(read_now)


def test_what_a_fault_says_holds_no_parameter(database: Database, server: TdsServer) -> None:
    """A failing insert would print a page of users' data into the log."""
    answering(server, Fails(547))
    page = [Candidate("a-very-private-id", 1, "hash", None, {}, b"{}")]
    owner = {"user_id": "u1", "feed": "posts", "scope": "u1"}

    with pytest.raises(sa.exc.DBAPIError) as caught:
        database.write_here("items", lambda connection: items._insert(connection, owner, page, Writing(1, 2, "m")))

    assert "a-very-private-id" not in str(caught.value)
