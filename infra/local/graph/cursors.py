"""Paging cursors: opaque, signed, bound to their edge and scope."""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import NamedTuple

SIGNATURE_BYTES = 6
PREFIX = "QVFI"


class Position(NamedTuple):
    """An item's place in a listing: ordered by time, then by number. `salt` only makes equal places look different."""

    created: int
    number: int
    salt: int = 0


START = Position(-1, -1)
"""The place before the first item; only an empty page's cursor needs it."""


class Cursors:
    """Writes and reads the cursors of one world."""

    def __init__(self, seed: int) -> None:
        self._key = f"cursors of {seed}".encode()

    def write(self, edge: str, scope: str, position: Position) -> str:
        """Give the cursor for a place on one edge of one scope."""
        created, number, salt = position
        text = f"{edge}|{scope}|{created}|{number}|{salt}".encode()
        return PREFIX + base64.urlsafe_b64encode(self._sign(text) + text).decode().rstrip("=")

    def read(self, edge: str, scope: str, cursor: str) -> Position | None:
        """Give the place a cursor points at; None if it is not one of ours for this edge and scope."""
        encoded = cursor.removeprefix(PREFIX)
        try:
            raw = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        except (binascii.Error, ValueError):
            return None
        signature, text = raw[:SIGNATURE_BYTES], raw[SIGNATURE_BYTES:]
        if len(signature) < SIGNATURE_BYTES or signature != self._sign(text):
            return None
        place, created, number, salt = text.decode().rsplit("|", 3)
        if place != f"{edge}|{scope}":
            return None
        return Position(int(created), int(number), int(salt))

    def _sign(self, text: bytes) -> bytes:
        return hashlib.blake2b(text, key=self._key, digest_size=SIGNATURE_BYTES).digest()
