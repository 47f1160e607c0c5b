"""
The data contract: one JSON Schema per feed for its data messages, written into `docs/contracts/`.

`python -m pipeline.contracts --write` writes the files; a test fails when they are stale. A change that could break a
reader is refused unless the feed's `version` grows with it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.bus.messages import DATA_VERSION, MAX_ITEMS
from pipeline.feeds import Feeds, load_feeds
from pipeline.feeds.base import Feed
from pipeline.feeds.published import Schema, data_schema
from pipeline.settings import load

FOLDER = Path(__file__).parent.parent / "docs" / "contracts"
FEED_VERSION = "x-feedVersion"

_TEXT: Schema = {"type": "string"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_MOMENT: Schema = {"type": "string", "format": "date-time"}


def contract(feed: Feed) -> Schema:
    """Give the schema of a feed's data message, decoded."""
    data = data_schema(feed)
    definitions = {**data.pop("$defs", {}), "Data": data}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"Data message of {feed.name}",
        "description": f"Body on the topic {feed.topic}, after `contentEncoding` (zlib) is undone.",
        FEED_VERSION: feed.version,
        **_object(
            {
                "version": {"const": DATA_VERSION},
                "userId": _TEXT,
                "feed": {"const": feed.name},
                "scope": _TEXT,
                "chain": _object({"lane": _TEXT, "epoch": _COUNT}),
                "page": _COUNT,
                "feedVersion": _COUNT,
                "originalTimeOfData": _MOMENT,
                "metaData": _object(
                    {
                        "facebookUserId": _TEXT,
                        "itemCount": _COUNT,
                        "firstItemTime": _MOMENT,
                        "lastItemTime": _MOMENT,
                        "correlationId": _TEXT,
                    }
                ),
                "includeMetadataWhenStoring": {"type": "boolean"},
                "rawDataType": {"const": feed.raw_data_type},
                "featureName": {"const": feed.name},
                "fileName": _TEXT,
                "producedBy": _TEXT,
                "jsonDataArray": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": MAX_ITEMS,
                    "items": {"$ref": "#/$defs/DataItem"},
                },
            }
        ),
        "$defs": {"DataItem": _item(), **definitions},
    }


def breaking_changes(old: Schema, new: Schema) -> list[str]:
    """
    Tell what in `new` could break a reader of `old`, or make a message of `old` unreadable: a field that is gone, a
    type or value that was not possible, a field that must be there and had not to be, or the other way round.
    """
    return list(_breaks(old, new, old.get("$defs", {}), new.get("$defs", {}), "message", 0))


def text_of(schema: Schema) -> str:
    """Give a contract file's text."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def refused(feeds: Feeds, folder: Path = FOLDER) -> list[str]:
    """Name the breaking changes against the written files whose feed has not got a greater version."""
    found = []
    for feed in feeds.values():
        path = folder / f"{feed.name}.json"
        if not path.exists():
            continue
        old = json.loads(path.read_text(encoding="utf-8"))
        if feed.version <= int(old.get(FEED_VERSION, 0)):
            found += [f"{feed.name}: {change}" for change in breaking_changes(old, contract(feed))]
    return found


def stale(feeds: Feeds, folder: Path = FOLDER) -> dict[Path, str]:
    """Give the files that are missing or differ, with the text that they should have."""
    wanted = {folder / f"{feed.name}.json": text_of(contract(feed)) for feed in feeds.values()}
    return {
        path: text for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text
    }


def main(arguments: list[str] | None = None, *, feeds: Feeds | None = None, folder: Path = FOLDER) -> int:
    """Write the files, or without `--write` say which are stale (exit code 1)."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.contracts", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the files instead of comparing them")
    write = parser.parse_args(arguments).write
    feeds = load_feeds(load().feeds_package) if feeds is None else feeds
    if breaks := refused(feeds, folder):
        lines = "\n  ".join(breaks)
        sys.stdout.write(f"these changes would break readers; undo them or raise the feed's version:\n  {lines}\n")
        return 1
    files = stale(feeds, folder)
    if write:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
    names = ", ".join(path.name for path in files)
    sys.stdout.write(f"{'wrote' if write else 'stale:'} {names}\n" if files else "all contracts are up to date\n")
    return 1 if files and not write else 0


def _item() -> Schema:
    return _object(
        {
            "id": {"type": "string", "minLength": 1, "maxLength": 128},
            "revision": {"type": "integer", "minimum": 1, "description": "A greater one replaces a lower one."},
            "op": {"enum": ["upsert", "delete"]},
            "sourceTime": _MOMENT,
            "hour": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d$"},
            "capture": {"enum": ["batch", "live"]},
            "raw": {"type": ["object", "null"], "description": "As the API gave it; null when deleted."},
            "data": {"anyOf": [{"$ref": "#/$defs/Data"}, {"type": "null"}], "description": "Null when deleted."},
        }
    )


def _object(properties: dict[str, Schema]) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


MAX_DEPTH = 20
"""Of objects in objects; a model that holds itself ends here."""


def _breaks(old: Schema, new: Schema, old_defs: Schema, new_defs: Schema, path: str, depth: int) -> Iterator[str]:
    olds, news = _options(old, old_defs), _options(new, new_defs)
    if added := sorted(news.keys() - olds.keys()):
        yield f"{path}: may now be {', '.join(added)}, was {', '.join(sorted(olds))}"
    for kind in olds.keys() & news.keys():
        before, after = olds[kind], news[kind]
        if more := _values(after) - _values(before) if _values(before) else set():
            yield f"{path}: may now be {', '.join(sorted(more))}"
        if _values(before) and not _values(after):
            yield f"{path}: may now have any value"
        if depth >= MAX_DEPTH:
            continue
        yield from _broken_fields(before, after, old_defs, new_defs, path, depth)
        if "items" in before and "items" in after:
            yield from _breaks(before["items"], after["items"], old_defs, new_defs, f"{path}[]", depth + 1)


def _broken_fields(
    before: Schema, after: Schema, old_defs: Schema, new_defs: Schema, path: str, depth: int
) -> Iterator[str]:
    had, has = before.get("properties", {}), after.get("properties", {})
    must, now_must = set(before.get("required", [])), set(after.get("required", []))
    for name, field in had.items():
        if name not in has:
            yield f"{path}.{name}: is gone"
        else:
            yield from _breaks(field, has[name], old_defs, new_defs, f"{path}.{name}", depth + 1)
    yield from (f"{path}.{name}: is required now" for name in sorted(now_must - must))
    yield from (f"{path}.{name}: may be missing now" for name in sorted((must - now_must) & has.keys()))


def _options(schema: Schema, definitions: Schema) -> dict[str, Schema]:
    """Give what a value may be, by type, with references followed."""
    if "$ref" in schema:
        return _options(definitions.get(schema["$ref"].rpartition("/")[2], {}), definitions)
    if "anyOf" in schema:
        return {kind: one for part in schema["anyOf"] for kind, one in _options(part, definitions).items()}
    kinds = schema.get("type", "value" if _values(schema) else "anything")
    return {kind: schema for kind in ([kinds] if isinstance(kinds, str) else kinds)}


def _values(schema: Schema) -> set[str]:
    """Give the only values that are possible, as JSON; empty means any."""
    listed: list[Any] = [schema["const"]] if "const" in schema else schema.get("enum", [])
    return {json.dumps(value) for value in listed}


if __name__ == "__main__":
    sys.exit(main())
