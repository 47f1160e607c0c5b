"""One suite over both lakes: what raw storage relies on holds in a folder and in a blob container."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pipeline.bootstrap import build_lake
from pipeline.settings import load
from pipeline.storage.lake import Lake, LakeUnavailable
from tests.contract.lake import azurite

NAME = "feed=posts/date=2026-01-31/hour=05/d0a1-0.jsonl.gz"


@pytest.fixture(scope="module")
def blob_connection() -> Iterator[str]:
    """One Azurite for the module."""
    with azurite.running() as connection:
        yield connection


def open_lake(kind: str, request: pytest.FixtureRequest, folder: Path, container: str) -> Lake:
    """Open a lake by settings, as the app does."""
    environment = {"LAKE_URL": f"file:{folder / container}"}
    if kind == "blob":
        environment = {
            "LAKE_URL": f"https://account.blob.core.windows.net/{container}",
            "LAKE_CONNECTION": request.getfixturevalue("blob_connection"),
        }
    lake = build_lake(load(environment))
    assert lake is not None
    return lake


@pytest.fixture(
    params=["folder", pytest.param("blob", marks=[pytest.mark.azurite, pytest.mark.xdist_group("azurite")])]
)
def kind(request: pytest.FixtureRequest) -> str:
    """Which lake."""
    return str(request.param)


@pytest.fixture
async def lake(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Lake]:
    """An empty lake; its container does not exist yet."""
    name = "lake" + str(abs(hash(request.node.name)))[:12]
    lake = open_lake(kind, request, tmp_path, name)
    yield lake
    await lake.close()


async def names(lake: Lake, feed: str = "posts", since: str = "") -> list[str]:
    """Collect names."""
    return [name async for name in lake.names(feed, since_date=since)]


async def test_an_object_is_read_as_it_was_written(lake):
    """The lake is the only copy of raw data once the API has forgotten it."""
    body = bytes(range(256)) * 400

    assert await lake.write(NAME, body)

    assert await lake.read(NAME) == body


async def test_a_second_write_of_a_name_succeeds_and_changes_nothing(lake):
    """A message may come twice, written by two versions of the code; the first object stays for good."""
    await lake.write(NAME, b"first")

    written = await lake.write(NAME, b"second")

    assert not written
    assert await lake.read(NAME) == b"first"


async def test_of_two_writers_at_the_same_moment_exactly_one_wins(lake):
    """Two instances may hold the same message after a lost lock."""
    bodies = [str(number).encode() * 50_000 for number in range(8)]

    written = await asyncio.gather(*(lake.write(NAME, body) for body in bodies))

    assert sum(written) == 1
    assert await lake.read(NAME) == bodies[written.index(True)]


async def test_names_come_in_order_and_of_one_feed(lake):
    """A reader goes through time, and `ads` is not `ads-clicks`."""
    wanted = [
        "feed=ads/date=2026-01-30/hour=23/d1-0.jsonl.gz",
        "feed=ads/date=2026-01-31/hour=00/d2-0.jsonl.gz",
        "feed=ads/date=2026-01-31/hour=00/d2-1.jsonl.gz",
        "feed=ads/date=2026-02-01/hour=07/d3-0.jsonl.gz",
    ]
    for name in [*reversed(wanted), "feed=ads-clicks/date=2026-01-31/hour=00/d4-0.jsonl.gz"]:
        await lake.write(name, b"x")

    assert await names(lake, "ads") == wanted
    assert await names(lake, "ads", since="2026-01-31") == wanted[1:]


async def test_a_feed_that_was_never_written_has_no_names(lake):
    """Reprocessing a new feed finds nothing, which is no fault."""
    assert await names(lake) == []


async def test_a_name_that_is_not_there_is_a_key_error(lake):
    """Someone may have removed an object between the listing and the read."""
    await lake.write(NAME, b"x")

    with pytest.raises(KeyError):
        await lake.read(NAME.replace("d0a1", "d0a2"))


async def test_a_container_that_is_out_of_reach_asks_for_a_later_try():
    """Then the message is put off and stays in its queue; nothing is lost and nothing dead-lettered."""
    account = "http://127.0.0.1:1/devstoreaccount1"
    connection = f"AccountName=devstoreaccount1;AccountKey={azurite.KEY};BlobEndpoint={account}"
    lake = build_lake(load({"LAKE_URL": f"{account}/lake", "LAKE_CONNECTION": connection}))
    assert lake is not None

    with pytest.raises(LakeUnavailable):
        await lake.write(NAME, b"x")
    await lake.close()


async def test_a_folder_that_cannot_be_written_asks_for_a_later_try(tmp_path):
    """A full or unplugged disk is the folder's way to be out of reach."""
    (tmp_path / "lake").write_text("a file where a folder should be")
    lake = build_lake(load({"LAKE_URL": f"file:{tmp_path / 'lake'}"}))
    assert lake is not None

    with pytest.raises(LakeUnavailable):
        await lake.write(NAME, b"x")


async def test_a_folder_shows_no_unfinished_object(tmp_path):
    """Someone who reads the folder while it is written must never see half an object."""
    lake = build_lake(load({"LAKE_URL": f"file:{tmp_path}"}))
    assert lake is not None

    await lake.write(NAME, b"x" * 100_000)
    await lake.write(NAME, b"y" * 100_000)

    assert [path.name for path in (tmp_path / NAME).parent.iterdir()] == ["d0a1-0.jsonl.gz"]
