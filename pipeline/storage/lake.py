"""
The raw lake: write-once objects by name, in a folder or (`lake_blob`) in a blob container.

Names are `feed=posts/date=2026-01-31/hour=05/<message>.jsonl.gz`: any reader that knows partitions finds its way.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from pipeline.errors import RetryLater
from pipeline.failpoints import failpoint

SUFFIX = ".jsonl.gz"


class LakeUnavailable(RetryLater):
    """The lake is out of reach or full. What was to be written is still in its message."""


class Lake(Protocol):
    """Where raw data is kept for good."""

    async def write(self, name: str, body: bytes) -> bool:
        """
        Keep an object, durable when this returns; False if the name was there before, and then nothing is changed.

        Raises LakeUnavailable.
        """
        ...

    async def read(self, name: str) -> bytes:
        """Give an object's bytes. Raises LakeUnavailable, KeyError for a name that is not there."""
        ...

    def names(self, feed: str, *, since_date: str = "") -> AsyncIterator[str]:
        """Give the names of a feed's objects from a date (`2026-01-31`) on, in order. Raises LakeUnavailable."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


class FolderLake:
    """
    A lake in a folder, for a desk: complete files only, each named when its bytes are on the disk.

    A power cut may undo the naming of the last ones, for folders are not synced; Azure's lake is a container.
    """

    def __init__(self, root: Path) -> None:
        self._root = root

    async def write(self, name: str, body: bytes) -> bool:
        """Keep an object."""
        failpoint("lake.write.before")
        try:
            written = await asyncio.to_thread(self._write, name, body)
        except OSError as error:
            raise LakeUnavailable(f"the lake's folder: {type(error).__name__}") from error
        failpoint("lake.write.after")
        return written

    async def read(self, name: str) -> bytes:
        """Give an object's bytes."""
        try:
            return await asyncio.to_thread((self._root / name).read_bytes)
        except FileNotFoundError:
            raise KeyError(name) from None
        except OSError as error:
            raise LakeUnavailable(f"the lake's folder: {type(error).__name__}") from error

    async def names(self, feed: str, *, since_date: str = "") -> AsyncIterator[str]:
        """Give the names of a feed's objects, one date after the other."""
        folder = self._root / f"feed={feed}"
        for date in await asyncio.to_thread(_entries, folder):
            if not date.startswith("date=") or date < f"date={since_date}":
                continue
            for hour in await asyncio.to_thread(_entries, folder / date):
                for file in await asyncio.to_thread(_entries, folder / date / hour):
                    if file.endswith(SUFFIX):
                        yield f"feed={feed}/{date}/{hour}/{file}"

    async def close(self) -> None:
        """Nothing to close."""

    def _write(self, name: str, body: bytes) -> bool:
        target = self._root / name
        if target.exists():
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.parent / f".{secrets.token_hex(8)}.tmp"
        try:
            with temporary.open("xb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            failpoint("lake.rename.before")
            return _give_name(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)


def _give_name(temporary: Path, target: Path) -> bool:
    """Name a finished file; a link cannot replace a file that a twin has named meanwhile."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError:  # a file system without links: the twin's file is the same message, so replacing it loses nothing
        temporary.replace(target)
    return True


def _entries(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
