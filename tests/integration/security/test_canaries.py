"""Forty secrets go in; nothing that the product writes may hold one."""

from __future__ import annotations

import base64
import logging
import secrets
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from pipeline import telemetry
from pipeline.bootstrap import Pipeline, bootstrap
from pipeline.bus.messages import Received
from pipeline.redaction import RedactedError, redacted
from pipeline.redaction import secrets as known
from pipeline.settings import Settings
from tests.desk import Desk
from tests.integration.security.hostile import ANSWERS, hostile_api

USERS = 34
_PLAIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def _canary(number: int) -> str:
    """A secret of no known pattern for most; those of a pattern would prove only the pattern."""
    text = "".join(secrets.choice(_PLAIN) for _ in range(24))
    return text if number % 3 else f"{text}/+{number}=="


def _token(number: int) -> str:
    """A token that makes the API answer in its own way: all ways are met."""
    while sum((token := _canary(number)).encode()) % len(ANSWERS) != number % len(ANSWERS):
        pass
    return token


class HostileDesk(Desk):
    """A desk whose source is the real one, against an API that repeats tokens."""

    async def build(self, settings: Settings) -> Pipeline:
        return await bootstrap(settings, bus=self.bus, clock=self.clock)


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "_tracer", provider.get_tracer("pipeline"))
    yield exporter
    provider.shutdown()


@pytest.fixture
def logged() -> Iterator[list[str]]:
    """Every record of every logger at every level, as a handler formats it."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record) + repr(vars(record)))

    handler, root = Keep(), logging.getLogger()
    before, factory = root.level, logging.getLogRecordFactory()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield lines
    root.removeHandler(handler)
    root.setLevel(before)
    logging.setLogRecordFactory(factory)


def test_forty_canaries_and_none_is_found(tmp_path: Path, exported: InMemorySpanExporter, logged: list[str]) -> None:
    """Logs, spans, messages, dead letters, SQL, lake and answers are read by more people than may mine with a token."""
    tokens = {f"u{number}": _token(number) for number in range(USERS)}
    own = {name: _canary(1) for name in ("bus", "redis", "app", "lake", "user")}
    key = base64.b64encode(secrets.token_bytes(32)).decode()
    canaries = [*tokens.values(), *own.values(), key]
    assert len(canaries) == 40
    said: list[str] = []
    with hostile_api() as address:
        desk = HostileDesk(
            tmp_path,
            overrides={
                "GRAPH_BASE_URL": address,
                "GRAPH_MINUTE_SECONDS": "0.01",
                "API_TOTAL_SECONDS": "3",
                "FEEDS_ENABLED": "posts",
                "TOKEN_KEY": key,
                "GRAPH_APP_SECRET": own["app"],
                "GRAPH_ACCESS_TOKEN": own["user"],
                "GRAPH_USER_ID": "somebody",
                "REDIS_URL": f"redis://:{own['redis']}@127.0.0.1:1/0",
                "LAKE_CONNECTION": f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={own['lake']}",
                "MINER_AZURE_SERVICE_BUS": f"Endpoint=sb://n;SharedAccessKeyName=Root;SharedAccessKey={own['bus']};"
                "UseDevelopmentEmulator=true;",
            },
        )
        for user, token in tokens.items():
            said.append(repr(desk.run("users", "add", user, "--token-stdin", stdin=token)))
        said.append(repr(desk.run("mine", "posts")))
        assert desk.work() >= USERS
        said += [repr(desk.run(*line.split())) for line in ("users list", "status", "why u1 posts", "quarantine list")]
        said += [repr(desk.run("doctor")), repr(desk.run("doctor", "--json")), repr(desk.run("status", "--json"))]
        dead = Received("raw-storage-queue-local", "m", b"{", {"DeadLetterReason": "MaxDeliveryCountExceeded"}, 0, 10)
        desk.with_pipeline(lambda pipeline: pipeline.dead_letters.handle_data(dead))

    written = {
        "answers": "\n".join(said),
        "logs": "\n".join(logged),
        "spans": "\n".join(span.to_json() for span in exported.get_finished_spans()),
        "bus": _of_bus(desk),
        "SQL": _of_sql(tmp_path / "pipeline.db"),
        "files": _of_files(tmp_path),
    }
    assert len(logged) > USERS
    assert "invalid-cursor" in written["SQL"] or "190" in written["SQL"]  # the API's refusals did arrive
    found = [(where, number) for where, text in written.items() for number, one in enumerate(canaries) if one in text]
    assert found == []


@pytest.mark.parametrize("number", range(40))
async def test_an_exception_that_tells_a_secret_is_told_without_it(number: int) -> None:
    """The host writes down what a function raises, wherever a library put the secret."""
    canary = _canary(number)
    known.add(canary)

    @redacted
    async def run() -> None:
        try:
            raise KeyError(canary)
        except KeyError as error:
            raise OSError(f"cannot connect with {canary}") from error

    with pytest.raises(RedactedError) as caught:
        await run()

    assert canary not in str(caught.value)
    assert "cannot connect with ***" in str(caught.value)
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_a_span_ends_with_the_exception_but_not_its_secret(exported: InMemorySpanExporter) -> None:
    """A span's events are stored for months."""
    canary = _canary(1)
    known.add(canary)

    with pytest.raises(OSError, match="refused"), telemetry.span("work", {"user": canary}):
        raise OSError(f"refused: {canary}")

    (span,) = exported.get_finished_spans()
    assert canary not in span.to_json()
    assert span.events[0].name == "exception"


def _of_bus(desk: Desk) -> str:
    messages = [one.message for queue in desk.bus.queues.values() for one in queue]
    messages += [message for topic in desk.bus.topics.values() for message in topic]
    assert messages
    return "\n".join(f"{_text(message.body)} {message.properties} {message.message_id}" for message in messages)


def _of_sql(path: Path) -> str:
    """Every column of every row; sealed tokens too, which must not be plain."""
    connection = sqlite3.connect(path)
    tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    rows = [row for table in tables for row in connection.execute(f'SELECT * FROM "{table}"')]
    connection.close()
    return "\n".join(" ".join(_text(value) for value in row) for row in rows)


def _of_files(folder: Path) -> str:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    return "\n".join(path.name + path.read_bytes().decode("latin-1") for path in files)


def _text(value: object) -> str:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return zlib.decompress(value).decode("latin-1")
    except zlib.error:
        return value.decode("latin-1")
