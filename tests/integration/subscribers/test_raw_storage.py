"""Raw storage over a folder: each message once, complete, whatever dies."""

from __future__ import annotations

import gzip

import orjson
import pytest

from pipeline import failpoints
from pipeline.errors import ConfigurationError
from pipeline.storage.lake import LakeUnavailable
from tests.integration.subscribers.test_analytics import Crash, crash_at
from tests.unit.subscribers.making import accept, post, sent

MESSAGE = sent([accept(post(1)), accept(post(2))], "a1")


async def test_each_message_is_one_object_however_often_it_comes(stage):
    """Readers count lines; a second object of one message would count its items twice."""
    for copies in range(3):
        await stage.give("raw-storage", MESSAGE, copies=copies, originalId=MESSAGE.message_id)

    [path] = stage.objects()
    lines = [orjson.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert path.relative_to(stage.lake).as_posix() == "feed=posts/date=2026-01-05/hour=05/da1-0.jsonl.gz"
    assert [(line["id"], line["raw"]["message"]) for line in lines] == [
        ("post_1", "message 1"),
        ("post_2", "message 2"),
    ]


@pytest.mark.parametrize("point", ["lake.write.before", "lake.rename.before", "lake.write.after"])
async def test_a_crash_at_any_moment_leaves_a_whole_object_or_none(stage, point):
    """Half an object would break every reader of its folder, and write-once would keep it for good."""
    crash_at(point)
    with pytest.raises(Crash):
        await stage.give("raw-storage", MESSAGE)
    named = [path for path in stage.objects() if path.name.endswith(".jsonl.gz")]

    await stage.give("raw-storage", MESSAGE)

    assert len(named) == (1 if point.endswith("after") else 0)
    [path] = stage.objects()
    assert len(gzip.decompress(path.read_bytes()).splitlines()) == 2


async def test_while_the_lake_is_out_of_reach_messages_are_put_off(stage):
    """An outage of Blob Storage must not dead-letter a single message."""

    def out_of_reach(name: str) -> None:
        if name == "lake.write.before":
            raise LakeUnavailable("the lake's container: ServiceRequestError")

    failpoints.install(out_of_reach)

    await stage.give("raw-storage", MESSAGE)

    [copy] = stage.bus.queues["raw-storage-queue-local"]
    assert copy.message.due > stage.clock.now


async def test_without_a_lake_the_setting_is_named(stage):
    """The one who forgot LAKE_URL must read its name in the log, not a stack trace about None."""
    object.__setattr__(stage.pipeline, "lake", None)

    with pytest.raises(ConfigurationError, match="LAKE_URL"):
        await stage.give("raw-storage", MESSAGE)
