"""Judge what arrived against the truth. Pure; standard library only."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

EDGES = {"ads-clicks": "insights"}
"""Feeds whose name is not the truth's edge."""

CLASSES = ("ok", "lost", "duplicated", "unexpected", "stale", "wrong-user", "altered", "undeleted")
MOST_EXAMPLES = 5

Name = tuple[str, str, str, str]
"""(user, edge, scope, item id)."""

Hashes = Mapping[Name, str]
"""What each item's content was at some moment."""


class Arrival(NamedTuple):
    """One revision of one item in one message."""

    name: Name
    revision: int
    deleted: bool
    hash: str
    message_id: str


@dataclass
class Verdict:
    """How many items fell into each class, with examples; only `ok` may stand alone."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)
    messages: int = 0
    redelivered: int = 0
    """Messages that came again under their own MessageId: allowed, every inbox drops them."""

    def note(self, kind: str, what: object) -> None:
        """Count one item."""
        self.counts[kind] += 1
        if kind != "ok" and len(self.examples.setdefault(kind, [])) < MOST_EXAMPLES:
            self.examples[kind].append(str(what))

    @property
    def valid(self) -> bool:
        """Whether nothing but `ok` was found; unlike Jepsen's queue checker, duplicates fail."""
        return not any(count for kind, count in self.counts.items() if kind != "ok")

    def as_json(self) -> dict[str, Any]:
        """Give the verdict for printing."""
        counts = {kind: self.counts.get(kind, 0) for kind in CLASSES}
        return {"valid": self.valid, **counts, "messages": self.messages, "redelivered": self.redelivered,
                "examples": self.examples}  # fmt: skip


class Truth(NamedTuple):
    """The rows of the truth by name, and by what they are without their user."""

    rows: Mapping[Name, Mapping[str, Any]]
    owners: Mapping[tuple[str, str, str], set[str]]


def read_truth(answer: Mapping[str, Any], seen: Iterable[Hashes] = ()) -> Truth:
    """Read the simulator's answer. With what was `seen` in answers before, it tells each item's history."""
    rows: dict[Name, Mapping[str, Any]] = {}
    owners: dict[tuple[str, str, str], set[str]] = {}
    before = list(seen)
    for row in answer["rows"]:
        name = _name(row)
        rows[name] = row | {"history": [one[name] for one in before if name in one]} if before else row
        owners.setdefault(name[1:], set()).add(name[0])
    return Truth(rows, owners)


def hashes(answer: Mapping[str, Any]) -> Hashes:
    """Give the content of all that an answer shows, to remember what was true once."""
    return {_name(row): str(row["hash"]) for row in answer["rows"]}


def _name(row: Mapping[str, Any]) -> Name:
    return str(row["user"]), str(row["edge"]), str(row["scope"]), str(row["id"])


def read_received(lines: Iterable[str], verdict: Verdict) -> list[Arrival]:
    """
    Read what arrived: JSON lines with `messageId` and either `body` (base64, as sent) and `contentEncoding`, or
    `message` (decoded). A message that comes again under its id counts once; if it changed, it is `altered`.
    """
    seen: dict[str, str] = {}
    arrivals: list[Arrival] = []
    for line in lines:
        if not line.strip():
            continue
        one = json.loads(line)
        message = one["message"] if "message" in one else _decode(one)
        digest = canonical_hash(message)
        verdict.messages += 1
        if one["messageId"] in seen:
            verdict.redelivered += 1
            if seen[one["messageId"]] != digest:
                verdict.note("altered", one["messageId"])
            continue
        seen[one["messageId"]] = digest
        arrivals += _arrivals(one["messageId"], message)
    return arrivals


def judge(truth: Truth, arrivals: Iterable[Arrival], verdict: Verdict, *, deletions: bool = False) -> Verdict:
    """
    Judge arrivals. With `deletions` every deleted item that was published must have been published as deleted too;
    without, deletions older than the refresh window are nobody's promise.
    """
    found: dict[Name, dict[int, Arrival]] = {}
    for one in arrivals:
        revisions = found.setdefault(one.name, {})
        if one.revision in revisions:
            verdict.note("duplicated", (*one.name, one.revision))
        revisions[one.revision] = one
    for name, revisions in found.items():
        row = truth.rows.get(name)
        if row is None:
            others = truth.owners.get(name[1:])
            verdict.note("wrong-user" if others else "unexpected", (*name, sorted(revisions)))
        elif _must(row):
            _final(verdict, name, row, revisions)
        elif deletions and row["deleted"] and not revisions[max(revisions)].deleted:
            verdict.note("undeleted", name)
        else:
            verdict.note("ok", name)
    for name, row in truth.rows.items():
        if _must(row) and name not in found:
            verdict.note("lost", name)
    return verdict


def control(truth: Truth, arrivals: list[Arrival], seed: int, *, deletions: bool = False) -> bool:
    """Drop one row that must be there: whether the judgement turns red. It must, or it proves nothing."""
    last = {one.name: one for one in sorted(arrivals, key=lambda one: one.revision)}
    musts = [one for name, one in sorted(last.items()) if name in truth.rows and _must(truth.rows[name])]
    if not musts:
        return False
    dropped = random.Random(seed).choice(musts)
    return not judge(truth, [one for one in arrivals if one is not dropped], Verdict(), deletions=deletions).valid


def canonical_hash(value: object) -> str:
    """Give the sha256 of the canonical JSON: sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _must(row: Mapping[str, Any]) -> bool:
    return bool(row["visible"]) and not row.get("malformed") and not row.get("malformed_served")


def _final(verdict: Verdict, name: Name, row: Mapping[str, Any], revisions: Mapping[int, Arrival]) -> None:
    last = revisions[max(revisions)]
    if last.deleted or (row.get("hash") and last.hash != row["hash"]):
        verdict.note("stale", (*name, max(revisions)))
    elif unknown := [r for r, one in revisions.items() if not one.deleted and not _was_true(row, one)]:
        verdict.note("unexpected", (*name, unknown))
    else:
        verdict.note("ok", name)


def _was_true(row: Mapping[str, Any], one: Arrival) -> bool:
    """Whether a revision was true once; known only where the truth tells its history."""
    history = row.get("history")
    return history is None or one.hash in history or one.hash == row.get("hash")


def _decode(one: Mapping[str, Any]) -> Any:
    body = base64.b64decode(one["body"])
    return json.loads(zlib.decompress(body) if one.get("contentEncoding") == "zlib" else body)


def _arrivals(message_id: str, message: Mapping[str, Any]) -> Iterable[Arrival]:
    edge = EDGES.get(message["feed"], message["feed"])
    for item in message["jsonDataArray"]:
        name = (str(message["userId"]), edge, str(message["scope"]), str(item["id"]))
        yield Arrival(name, int(item["revision"]), item["op"] == "delete", canonical_hash(item["raw"]), message_id)
