"""Items as bytes, kept by version and wanted fields: a page in a new window is then only a join."""

from __future__ import annotations

import orjson

from infra.local.graph import nodes
from infra.local.graph.fields import Field, Fields
from infra.local.graph.reader import Context, project
from infra.local.graph.world import Item

MOST_BYTES = 256 * 1024 * 1024
STEADY_KINDS = frozenset({"post", "comment", "ad"})


class Fragments:
    """A bounded store of encoded items; when it is full it starts again."""

    def __init__(self) -> None:
        self._kept: dict[Fields | None, dict[str, tuple[int, orjson.Fragment]]] = {}
        self._bytes = 0

    def of(self, context: Context, items: list[Item], fields: Fields | None) -> list[orjson.Fragment]:
        """Give the items as `project` shows them, encoded."""
        if self._bytes > MOST_BYTES:
            self._kept.clear()
            self._bytes = 0
        kept = self._kept.setdefault(fields, {})
        made = []
        for item in items:
            found = kept.get(item.id)
            if found is None or found[0] != item.version:
                encoded = orjson.dumps(project(context, item, fields))
                self._bytes += len(encoded)
                found = kept[item.id] = (item.version, orjson.Fragment(encoded))
            made.append(found[1])
        return made


def is_steady(kind: str, fields: Fields | None) -> bool:
    """Tell whether an item so shown changes only with its version: nothing of it lists other items or has a link."""
    return kind in STEADY_KINDS and all(_is_plain(kind, wanted) for wanted in fields or ())


def _is_plain(kind: str, wanted: Field) -> bool:
    if wanted.name == "insights":
        return False
    if wanted.name not in nodes.EDGES.get(kind, {}):
        return True
    windowed = {"since", "until"} & dict(wanted.modifiers).keys()
    return kind == "post" and not windowed and dict(wanted.modifiers).get("limit") == "0"
