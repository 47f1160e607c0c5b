"""
What a page's transaction costs in an empty store and in one with two million items.

CPU of this process per page of 100 new posts; goal: at most 1.2 times. The store is filled by plain inserts.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from pipeline.chains.protocol import Chain, Key, Lane, PageFacts, Position, Rules, State
from pipeline.feeds.posts import FEED
from pipeline.processors.data_messages import encode
from pipeline.processors.read_items import ReadPage, read_page
from pipeline.storage import chains, migrate, outbox, pages
from pipeline.storage.database import Database
from pipeline.storage.pages import PageWork

PAGES = 400
ITEMS = 2_000_000
USERS = 1000
GOAL = 1.2
RULES = Rules(settle=300, fresh_window=172_800, refresh_every=86_400, refresh_window=604_800)
NEWEST = 1_700_000_000


def measure(*, items: int = ITEMS, page_count: int = PAGES) -> dict[str, Any]:
    """Give milliseconds per page empty and full, and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "store.db"
        database = Database(f"sqlite:///{file}")
        migrate.upgrade(database)
        empty = _pages(database, page_count, "a")
        _fill(file, items)
        full = _pages(database, page_count, "b")
        size = file.stat().st_size
        database.engine.dispose()
    return {
        "items": items,
        "empty_ms": round(empty, 2),
        "full_ms": round(full, 2),
        "ratio": round(full / empty, 3),
        "goal": GOAL,
        "bytes_per_item": round(size / items),
    }


def _pages(database: Database, count: int, mark: str) -> float:
    """Commit pages spread over many users; gives CPU milliseconds per page."""
    key = Key("", FEED.name, "", Lane.BACKFILL)
    work = []
    for number in range(count):
        user = f"{mark}{number % 50}"
        chain = Chain(
            key=key._replace(user_id=user, scope=f"page-{user}"),
            epoch=1,
            seq=number // 50,
            doorbell_id="b",
            state=State.OPEN,
            hi=NEWEST + 1,
            position=Position(NEWEST + 1 - number, "x") if number >= 50 else None,
        )
        work.append((chain, _page(user, number)))
    for chain, _ in work[:50]:
        database.write_here("open", _open, chain)
    started = time.process_time()
    for chain, page in work:
        held = database.write_here("page", pages.commit_page, _work(chain, page)).held  # type: ignore[union-attr]
        database.write_here("sent", outbox.sent, [row.id for row in held], keep=False)
    return (time.process_time() - started) / count * 1000


def _open(connection: Any, chain: Chain) -> None:
    chains.open_coverage(connection, chain.key, history_start=0, now=1)
    chains.store(connection, replace(chain, seq=0, position=None), exists=False)


def _work(chain: Chain, page: ReadPage) -> PageWork:
    return PageWork(
        chain=chain,
        feed=FEED,
        rules=RULES,
        route=lambda chain: "queue",
        candidates=page.candidates,
        bad=page.bad,
        facts=PageFacts(Position(NEWEST - chain.seq - 1, "x"), f"cursor{chain.seq}"),
        observed=1,
        yielding=False,
        encode=lambda accepted, nonce: encode(FEED, "topic", chain, accepted, nonce),
    )


def _page(user: str, number: int) -> ReadPage:
    items = [
        {"id": f"{user}_{number:06d}{i:03d}", "created_time": "2023-11-14T00:00:00+0000", "message": "word " * 180}
        for i in range(100)
    ]
    return read_page(FEED, items, observed=1)


def _fill(file: Path, items: int) -> None:
    with sqlite3.connect(file) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(items)")]
        row = dict.fromkeys(columns, 0) | {
            "feed": FEED.name,
            "hash": "0" * 32,
            "message_id": "d" * 26,
            "capture": "batch",
        }
        marks = ", ".join("?" for _ in columns)
        per_user = items // USERS
        for user in range(USERS):
            owner = {**row, "user_id": f"u{user}", "scope": f"page-u{user}"}
            connection.executemany(
                f"INSERT INTO items ({', '.join(columns)}) VALUES ({marks})",
                [tuple({**owner, "item_id": f"u{user}_{i:09d}"}.values()) for i in range(per_user)],
            )


if __name__ == "__main__":
    print(orjson.dumps(measure(), option=orjson.OPT_INDENT_2).decode())
