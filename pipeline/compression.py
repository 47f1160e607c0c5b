"""Undo compression, never beyond a bound: a small body could claim gigabytes."""

from __future__ import annotations

import zlib

from isal import isal_zlib

STORED_BYTES = 64 * 1024 * 1024
"""The bound for what this product compressed itself: far above any page, far below a worker's memory."""

_ZLIB, _GZIP = zlib.MAX_WBITS, zlib.MAX_WBITS | 16


class Damaged(ValueError):
    """The bytes are not what they claim to be, or end early."""


class TooLarge(ValueError):
    """There are more bytes than the bound."""


def inflate(body: bytes, *, limit: int = STORED_BYTES) -> bytes:
    """Decode a zlib stream of at most `limit` bytes. Raises Damaged or TooLarge."""
    return _inflate(body, _ZLIB, limit)


def gunzip(body: bytes, *, limit: int = STORED_BYTES) -> bytes:
    """Decode a gzip stream of at most `limit` bytes. Raises Damaged or TooLarge."""
    return _inflate(body, _GZIP, limit)


def _inflate(body: bytes, window: int, limit: int) -> bytes:
    stream = isal_zlib.decompressobj(window)
    try:
        decoded = stream.decompress(body, limit + 1)
    except isal_zlib.IsalError as error:  # type: ignore[misc]  # its stub does not say that it is an exception
        raise Damaged("not a compressed stream") from error
    if len(decoded) > limit:
        raise TooLarge(f"more than {limit} bytes decoded")
    if not stream.eof:
        raise Damaged("the stream ends early")
    return decoded
