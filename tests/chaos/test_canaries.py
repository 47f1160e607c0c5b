"""The grep for secrets, against outputs that hold one."""

from __future__ import annotations

import base64
import gzip
import sqlite3
import zlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.chaos.canaries import Canaries

Leak = Callable[[Path, str], object]


def _in_sql(folder: Path, secret: str) -> None:
    with sqlite3.connect(folder / "pipeline.db") as connection:
        connection.execute("INSERT INTO outbox VALUES (?)", (zlib.compress(f"body {secret} end".encode()),))


LEAKS: dict[str, Leak] = {
    "plain": lambda folder, secret: (folder / "host.log").write_text(f"refused: {secret}\n"),
    "in a URL": lambda folder, secret: (folder / "host.log").write_text(f"?token={quote(secret, safe='')}&x"),
    "in base64": lambda folder, secret: (folder / "bus.log").write_bytes(base64.b64encode(f"ab{secret}".encode())),
    "in the lake": lambda folder, secret: (folder / "a.jsonl.gz").write_bytes(gzip.compress(secret.encode())),
    "in a compressed body": _in_sql,
}


def _emptied(folder: Path) -> None:
    with sqlite3.connect(folder / "pipeline.db") as connection:
        connection.execute("CREATE TABLE outbox (body BLOB)")
    (folder / "app.env").write_text("a person's own settings")


@pytest.mark.parametrize("how", LEAKS)
async def test_a_secret_is_found_however_it_was_written(how: str, tmp_path: Path) -> None:
    """A grep that overlooks one form says of every run that it was clean."""
    canaries = Canaries()
    _emptied(tmp_path)
    LEAKS[how](tmp_path, canaries.planted["LAKE_CONNECTION"])

    told = await canaries.judge(tmp_path, tmp_path / "pipeline.db")

    assert told["found"] == 1
    assert told["where"][0].startswith("LAKE_CONNECTION in ")


async def test_outputs_without_a_secret_are_clean_and_the_control_is_seen(tmp_path: Path) -> None:
    """Noughts count only beside a control that was found in each of its forms."""
    canaries = Canaries()
    _emptied(tmp_path)

    told = await canaries.judge(tmp_path, tmp_path / "pipeline.db")

    assert (told["found"], told["control"]) == (0, "red")
