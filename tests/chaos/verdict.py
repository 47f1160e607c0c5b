"""The truth and the lake before the independent checker, which runs as a process of its own."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from infra.local.run.compare import Delivered, Fact, Key, Verdict, compare
from infra.local.run.delivered import Tables, differing
from infra.local.run.places import ROOT
from tests.chaos.people import DAY_SECONDS, Row

REFRESHED_SECONDS = 6 * DAY_SECONDS
"""A deletion younger than the refresh window, with a day to spare, must be noticed."""

SWEPT = ("ads", "profile")
CHECK_SECONDS = 300


def promised(row: Row, now: float) -> bool:
    """Tell whether a deletion of such an item must be noticed."""
    if row["feed"] in SWEPT:
        return True
    return row["feed"] == "posts" and int(row["created"]) > now - REFRESHED_SECONDS


def for_checker(rows: Iterable[Row], now: float) -> list[Row]:
    """
    Give the rows as the checker takes them: nobody need notice what is promised to nobody, and what was spoiled for a
    while must have arrived in the end.
    """
    return [
        {**row, "malformed_served": False, "deleted": row["deleted"] and promised(row, now)}
        | ({"visible": False} if row["deleted"] else {})
        for row in rows
    ]


def progress(rows: list[Row], delivered: Delivered, now: float) -> Verdict:
    """Compare quickly, to learn whether it is worth asking the checker."""
    truth = {
        Key(row["feed"], str(row["user"]), str(row["scope"]), str(row["id"])): Fact(
            digest=row["hash"],
            created=int(row["created"]),
            visible=bool(row["visible"]),
            deleted=bool(row["deleted"]) and promised(row, now),
            malformed=bool(row.get("malformed")),
        )
        for row in rows
    }
    return compare(truth, delivered)


async def ask_checker(rows: list[Row], lake: Path, folder: Path, *, seed: int, now: float) -> dict[str, Any]:
    """Give the checker's verdict on the lake."""
    truth, received = folder / "truth.json", folder / "received.jsonl"
    truth.write_text(json.dumps({"rows": for_checker(rows, now)}))
    await asyncio.to_thread(_write_received, lake, received)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.checker", "--deletions", "--seed", str(seed),
        "--truth", str(truth), "--received", str(received),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(child.communicate(), CHECK_SECONDS)
    if not out:
        raise RuntimeError(f"the checker said nothing: {err.decode()[-1000:]}")
    return {**json.loads(out), "exit_code": child.returncode}


def _write_received(lake: Path, received: Path) -> None:
    with received.open("w") as file:
        for path in sorted(lake.glob("feed=*/date=*/hour=*/*.jsonl.gz")):
            items = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
            head = {name: items[0][name] for name in ("feed", "userId", "scope")}
            file.write(json.dumps({"messageId": items[0]["messageId"], "message": {**head, "jsonDataArray": items}}))
            file.write("\n")


def tables_that_differ(database: Path, delivered: Delivered, feeds: Iterable[str]) -> dict[str, int]:
    """Count, by feed, the items in which the analytics table and the lake are not at the same revision."""
    tables = Tables(database)
    found = {feed: len(differing(tables.rows(feed), delivered, feed)) for feed in feeds}
    return {feed: count for feed, count in found.items() if count}
