"""Mining messages between versions: what an older sender did not write, and what a newer one adds."""

from __future__ import annotations

import orjson
import pytest

from pipeline.bus.messages import MINING_VERSION, MiningMessage, decode_mining

MESSAGE = MiningMessage(user_id="u", feed="posts", scope="page", lane="main", doorbell_id="b1", attempt=2, tick=7)
NEEDED = {"userId", "feed", "doorbellId"}
WRITTEN = orjson.loads(MESSAGE.encode())


@pytest.mark.parametrize("name", sorted(set(WRITTEN) - NEEDED))
def test_a_field_that_is_missing_has_its_default(name: str) -> None:
    """During a deploy both versions run: a field that drops the message ends the chain."""
    older = {field: value for field, value in WRITTEN.items() if field != name}
    found = decode_mining(orjson.dumps(older)).model_dump(by_alias=True)
    expected = MESSAGE.model_dump(by_alias=True)
    expected[name] = MiningMessage(user_id="u", feed="posts", doorbell_id="b1").model_dump(by_alias=True)[name]
    assert found == expected


def test_a_field_that_is_not_known_yet_is_left_alone() -> None:
    """As above, the other way round; what is not understood must not be needed either."""
    newer = {**WRITTEN, "somethingNew": {"a": 1}}
    assert decode_mining(orjson.dumps(newer)) == MESSAGE


def test_the_version_of_this_code_is_not_newer_than_itself() -> None:
    """Off by one here puts every message off for ever."""
    assert decode_mining(orjson.dumps({**WRITTEN, "version": MINING_VERSION})) == MESSAGE
