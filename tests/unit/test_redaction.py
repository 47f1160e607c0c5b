"""What the log shows in place of a secret."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest

from pipeline import redaction
from pipeline.redaction import Secrets, parts_of_connection, parts_of_url
from pipeline.settings import load


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger whose records are made by the redacting factory."""
    before, said = logging.getLogRecordFactory(), io.StringIO()
    logger, handler = logging.getLogger("somebody.elses.library"), logging.StreamHandler(said)
    redaction.install()
    logger.addHandler(handler)
    yield logger, said
    logger.removeHandler(handler)
    logging.setLogRecordFactory(before)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Endpoint=sb://x;SharedAccessKey=abcd1234=;EntityPath=q", "Endpoint=sb://x;SharedAccessKey=***;EntityPath=q"),
        ("mssql+pyodbc://sa:Pa%40ss@h/db", "mssql+pyodbc://sa:***@h/db"),
        ("Driver=x;PWD=hunter22;Server=y", "Driver=x;PWD=***;Server=y"),
        ("Authorization: Bearer abcdefgh.ijkl", "Authorization: Bearer ***"),
        ("GET /x?access_token=abcdef&limit=5", "GET /x?access_token=***&limit=5"),
        ("https://a/api/status?code=abcdef==", "https://a/api/status?code=***"),
        ("blob?sv=1&sig=abc%2Fdef", "blob?sv=1&sig=***"),
        ("token EAABsbCS1iHgBA0ZD here", "token *** here"),
        ("code: 190, subcode 463", "code: 190, subcode 463"),
        ("queue posts-mining-queue-local waits: token-dead", "queue posts-mining-queue-local waits: token-dead"),
    ],
)
def test_what_looks_like_a_secret_is_hidden_and_the_rest_is_not(text: str, shown: str) -> None:
    """A log without secrets that nobody can read is of no use either."""
    assert Secrets().redact(text) == shown


def test_a_known_secret_is_hidden_as_a_url_quotes_it() -> None:
    """Most leaks are in somebody's printed URL."""
    known = Secrets()
    known.add("a/secret+with=signs")

    assert known.redact("x a%2Fsecret%2Bwith%3Dsigns a/secret+with=signs") == "x *** ***"


def test_the_registry_is_bounded_and_keeps_the_most_recently_used() -> None:
    """A worker meets the tokens of all users in time; looking for each in every line must stay cheap."""
    known = Secrets(limit=2)
    known.add("secret-one", "secret-two", "secret-one", "secret-three")

    assert len(known) == 2
    assert known.redact("secret-one secret-two secret-three") == "*** secret-two ***"


def test_every_record_is_redacted_whoever_logs_it(log: tuple[logging.Logger, io.StringIO]) -> None:
    """Libraries print what they connect to."""
    logger, said = log

    logger.warning("connecting to %s", "amqp://root:secret-key-1@host")

    assert said.getvalue() == "connecting to amqp://root:***@host\n"


def test_a_logged_exception_is_shown_without_the_secret(log: tuple[logging.Logger, io.StringIO]) -> None:
    """The traceback is formatted by whoever handles the record, long after it was made."""
    logger, said = log
    try:
        raise OSError("PWD=secret-key-2")
    except OSError:
        logger.exception("no connection")

    assert "secret-key-2" not in said.getvalue()
    assert "OSError: PWD=***" in said.getvalue()


def test_wrong_arguments_of_a_log_call_do_no_harm(log: tuple[logging.Logger, io.StringIO]) -> None:
    """A slip in a log line must not stop a page."""
    logger, _ = log
    raising, logging.raiseExceptions = logging.raiseExceptions, False

    logger.warning("two places %s %s", "one")

    logging.raiseExceptions = raising


def test_settings_make_their_secrets_known() -> None:
    """What was read is hidden from the first line on, in whole and in its parts."""
    load(
        {
            "DATABASE_URL": "mssql+pyodbc://sa:p%40ss-of-sql@h/d?driver=x",
            "MINER_AZURE_SERVICE_BUS": "Endpoint=sb://x;SharedAccessKeyName=R;SharedAccessKey=key-of-the-bus=",
            "TOKEN_KEY": "first-key-of-two,second-key-of-two",
        }
    )

    shown = redaction.redact("p@ss-of-sql p%40ss-of-sql key-of-the-bus= first-key-of-two second-key-of-two")
    assert shown == "*** *** *** *** ***"


def test_parts_of_urls_and_connection_strings() -> None:
    """A password is quoted in a URL and plain in the driver's complaint."""
    assert parts_of_url("redis://:a%2Fb@h/0") == ["a%2Fb", "a/b"]
    assert parts_of_url("not a url [") == []
    assert parts_of_connection("A=b;AccountKey=k==")[1:] == ["k=="]
