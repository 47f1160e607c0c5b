"""The `fields` language: `id,message,comments.limit(2).summary(true){id,from{name}}`."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import NamedTuple

from infra.local.graph.errors import GraphError

MAX_DEPTH = 8
OPENING, CLOSING = "([{", ")]}"


class Field(NamedTuple):
    """One wanted field: its name, its modifiers, and what is wanted of it (None: the default)."""

    name: str
    modifiers: tuple[tuple[str, str], ...] = ()
    fields: tuple[Field, ...] | None = None

    @property
    def output(self) -> str:
        """The key under which the answer has it."""
        return dict(self.modifiers).get("as", self.name) if self.modifiers else self.name


Fields = tuple[Field, ...]


@lru_cache(maxsize=4096)
def parse(text: str) -> Fields:
    """Parse a `fields` parameter; a JSON list of names is accepted too. Raises GraphError 2500 as the API does."""
    if text.lstrip().startswith("["):
        try:
            text = ",".join(str(name) for name in json.loads(text))
        except ValueError as error:
            raise _syntax(text, 0) from error
    fields, position = _parse_list(text, 0, 0)
    if position < len(text):
        raise _syntax(text, position)
    return fields


def _parse_list(text: str, position: int, depth: int) -> tuple[Fields, int]:
    if depth > MAX_DEPTH:
        raise GraphError(100, "(#100) Too many levels of field expansion")
    fields: list[Field] = []
    while True:
        field, position = _parse_field(text, _skip(text, position), depth)
        if field.name:
            fields.append(field)
        position = _skip(text, position)
        if position >= len(text) or text[position] != ",":
            return tuple(dict.fromkeys(fields)), position
        position += 1


def _parse_field(text: str, position: int, depth: int) -> tuple[Field, int]:
    name, position = _word(text, position)
    modifiers: list[tuple[str, str]] = []
    fields: Fields | None = None
    while position < len(text) and name:
        mark = text[position]
        if mark == ".":
            key, position = _word(text, position + 1)
            if not key or position >= len(text) or text[position] != "(":
                raise _syntax(text, position)
            end = _closing(text, position)
            modifiers.append((key, text[position + 1 : end].strip()))
            position = end + 1
        elif mark == "{":
            fields, position = _parse_list(text, position + 1, depth + 1)
            if position >= len(text) or text[position] != "}":
                raise _syntax(text, position)
            position += 1
        else:
            break
    return Field(name, tuple(modifiers), fields), position


def _word(text: str, position: int) -> tuple[str, int]:
    start = position
    while position < len(text) and (text[position].isalnum() or text[position] in "_-:"):
        position += 1
    return text[start:position], position


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _closing(text: str, position: int) -> int:
    depth = 0
    for index in range(position, len(text)):
        if text[index] in OPENING:
            depth += 1
        elif text[index] in CLOSING:
            depth -= 1
            if depth == 0:
                return index
    raise _syntax(text, len(text))


def _syntax(text: str, position: int) -> GraphError:
    rest = text[position : position + 20] or "end of string"
    return GraphError(
        2500, f'Syntax error "Expected end of string instead of "{rest[:1]}"." at character {position}: {text[:200]}'
    )
