"""Read JSON that a stranger sent: one broken item must not cost the page, and no body may cost the process."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence, Set
from typing import Any, NamedTuple

import orjson

from pipeline.sources.base import BROKEN_TEXT_CHARACTERS, BrokenItem

MAX_TOKENS = 2_000_000
"""About two seconds of scanning; a page of 100 honest items has some ten thousand."""

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{},:]', re.DOTALL)  # possessive: linear on hostile input


class NotJson(ValueError):
    """Treat the answer as cut off or not from the API: it cannot be read even item by item."""


def parse(body: bytes, *, list_fields: Sequence[str]) -> Any:
    """
    Give the JSON value of a body.

    If the body as a whole is not valid JSON, the list under one of `list_fields` of the outermost object (or the
    outermost list itself) is split and each element is parsed alone; one that fails becomes a `BrokenItem`.

    Raises `NotJson` if that does not help: HTML, truncated, or broken outside the list.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        cause = error
    split = _split(body, {b'"' + field.encode() + b'"' for field in list_fields})
    try:
        if split is None:
            return _lenient(body)
        frame = _lenient(body[: split.start] + b"[]" + body[split.end :])
    except (ValueError, RecursionError):
        raise NotJson("the body is no JSON") from cause
    items = [_item(body[start:end]) for start, end in split.elements]
    if isinstance(frame, list):
        return items
    frame[split.field] = items
    return frame


class _Split(NamedTuple):
    field: str
    start: int
    end: int
    elements: list[tuple[int, int]]


def _split(body: bytes, fields: Set[bytes]) -> _Split | None:
    """Find the list and the borders of its elements without recursion; None if there is no complete list."""
    tokens = _tokens(body)
    found = _list_start(tokens, fields)
    if found is None:
        return None
    field, start = found
    depth, begin, elements = 0, start + 1, []
    for at, token in tokens:
        if token in b"[{":
            depth += 1
        elif token in b"]}":
            if depth == 0:
                if body[begin:at].strip():
                    elements.append((begin, at))
                return _Split(field, start, at + 1, elements) if token == b"]" else None
            depth -= 1
        elif token == b"," and depth == 0:
            elements.append((begin, at))
            begin = at + 1
    return None


def _tokens(body: bytes) -> Iterator[tuple[int, bytes]]:
    """Walk over strings and punctuation, at most `MAX_TOKENS` of them."""
    for count, match in enumerate(_TOKEN.finditer(body)):
        if count >= MAX_TOKENS:
            return
        yield match.start(), match.group()


def _list_start(tokens: Iterator[tuple[int, bytes]], fields: Set[bytes]) -> tuple[str, int] | None:
    """Advance to the `[` that opens the list: the outermost one, or the value of a field of the outermost object."""
    depth, before, last = 0, b"", b""
    for at, token in tokens:
        if token == b"[" and (depth == 0 or (depth == 1 and last == b":" and before in fields)):
            return before.strip(b'"').decode(), at
        if token in b"[{":
            depth += 1
        elif token in b"]}":
            depth -= 1
        before, last = last, token
    return None


def _lenient(body: bytes) -> Any:
    """Parse what orjson refuses but can be answered: bytes that are not UTF-8, numbers beyond a double."""
    return json.loads(body.decode("utf-8", "replace"), parse_constant=lambda name: None, parse_int=_short_int)


def _short_int(digits: str) -> int | float:
    """Read an integer; one of absurd length becomes infinity instead of an error."""
    return int(digits) if len(digits) < 4000 else float("inf")


def _item(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        plain = text.strip()[:BROKEN_TEXT_CHARACTERS].decode("ascii", "backslashreplace")[:BROKEN_TEXT_CHARACTERS]
        return BrokenItem(reason=error.msg, text=plain)
