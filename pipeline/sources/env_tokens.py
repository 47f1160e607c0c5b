"""Tokens from the environment, for a single user: `GRAPH_ACCESS_TOKEN`, or whatever the source is called."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

from pydantic import SecretStr

from pipeline.sources.base import Token


class EnvironmentTokens:
    """
    A `Tokens` over settings that are read anew at each call, so that a rotated token is picked up at once.

    `read` gives the environment; only the composition root passes the real one. With a `user_id`, other users have
    no token. A version is a fingerprint of the token: the same token always has the same one, in every process.
    """

    def __init__(self, read: Callable[[], Mapping[str, str]], *, user_id: str = "") -> None:
        self._read = read
        self._user_id = user_id
        self._dead: dict[str, int] = {}

    async def get(self, user_id: str, source: str) -> Token | None:
        """The token, or None if there is none or it is known to be dead."""
        if self._user_id and user_id != self._user_id:
            return None
        text = self._read().get(variable(source), "").strip()
        if not text:
            return None
        version = fingerprint(text)
        return None if self._dead.get(source) == version else Token(SecretStr(text), version)

    async def mark_dead(self, user_id: str, source: str, version: int) -> None:
        """Note that the API refused this version for good, until the variable changes or the process restarts."""
        if not self._user_id or user_id == self._user_id:
            self._dead[source] = version


def variable(source: str) -> str:
    """The environment variable that holds a source's token."""
    return f"{source.upper().replace('-', '_')}_ACCESS_TOKEN"


def fingerprint(token: str) -> int:
    """A number that changes with the token and does not give it away; fits a signed 64-bit column."""
    return int.from_bytes(hashlib.sha256(b"token version:" + token.encode()).digest()[:7], "big")
