"""
Tokens in SQL, sealed by AES-GCM with the user and source as bound data: a row copied to another user does not open.

`TOKEN_KEY` is 32 bytes in base64; several, separated by commas, allow rotation: the first seals, all open.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from typing import NamedTuple

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import SecretStr
from sqlalchemy.engine import Connection

from pipeline import redaction
from pipeline.errors import ConfigurationError
from pipeline.storage.database import Database, read_now
from pipeline.storage.tables import tokens

_NONCE_BYTES = 12


class SealedToken(NamedTuple):
    """A token as the table holds it."""

    sealed: bytes
    version: int
    dead_version: int

    @property
    def dead(self) -> bool:
        """Whether the API refused the newest version for good."""
        return self.dead_version >= self.version


class TokenKeys:
    """Seals and opens tokens."""

    def __init__(self, text: SecretStr) -> None:
        self._ciphers = [AESGCM(_key(part)) for part in text.get_secret_value().split(",") if part.strip()]
        if not self._ciphers:
            raise ConfigurationError("TOKEN_KEY is missing: 32 random bytes in base64 (python -m pipeline new-key)")

    def seal(self, user_id: str, source: str, token: SecretStr) -> bytes:
        """Encrypt a token for one user and source."""
        redaction.secrets.add(token.get_secret_value())
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._ciphers[0].encrypt(nonce, token.get_secret_value().encode(), _bound(user_id, source))

    def open(self, user_id: str, source: str, sealed: bytes) -> SecretStr:
        """Decrypt a token; raises ConfigurationError if no key of TOKEN_KEY fits this user's row."""
        for cipher in self._ciphers:
            try:
                plain = cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], _bound(user_id, source))
            except InvalidTag:
                continue
            text = plain.decode()
            redaction.secrets.add(text)
            return SecretStr(text)
        raise ConfigurationError(f"no key in TOKEN_KEY opens the token of user {user_id!r} for {source!r}")


def new_key() -> str:
    """Draw a key for TOKEN_KEY."""
    return base64.b64encode(secrets.token_bytes(32)).decode()


_SELECT = sa.select(tokens.c.sealed, tokens.c.version, tokens.c.dead_version).where(
    tokens.c.user_id == sa.bindparam("user_id"), tokens.c.source == sa.bindparam("source")
)


def read_sealed(connection: Connection, user_id: str, source: str) -> SealedToken | None:
    """Read a user's token as it stands in the table."""
    row = connection.execute(_SELECT, {"user_id": user_id, "source": source}).first()
    return SealedToken(bytes(row.sealed), row.version, row.dead_version) if row else None


def store(connection: Connection, user_id: str, source: str, sealed: bytes) -> int:
    """Store a token as the newest; gives its version, which grows with each store."""
    now = read_now(connection)
    old = read_sealed(connection, user_id, source)
    if old is None:
        version = now
        connection.execute(
            sa.insert(tokens),
            {
                "user_id": user_id,
                "source": source,
                "sealed": sealed,
                "version": version,
                "dead_version": 0,
                "stored_at": now,
            },
        )
        return version
    version = max(now, old.version + 1)
    connection.execute(
        sa.update(tokens)
        .where(tokens.c.user_id == user_id, tokens.c.source == source)
        .values(sealed=sealed, version=version, stored_at=now)
    )
    return version


def mark_dead(connection: Connection, user_id: str, source: str, version: int) -> bool:
    """Note that the API refused a version for good; False if it was noted before."""
    return (
        connection.execute(
            sa.update(tokens)
            .where(tokens.c.user_id == user_id, tokens.c.source == source, tokens.c.dead_version < version)
            .values(dead_version=version)
        ).rowcount
        > 0
    )


class SqlTokens:
    """Notes what the API says of tokens; reading one is part of a chain's look."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def mark_dead(self, user_id: str, source: str, version: int) -> None:
        """Note that the API refused this version for good."""
        await self._database.write("tokens", mark_dead, user_id, source, version)


def _bound(user_id: str, source: str) -> bytes:
    return f"{len(user_id)}:{user_id}|{source}".encode()


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        raise ConfigurationError("TOKEN_KEY is not base64") from None
    if len(key) != 32:
        raise ConfigurationError(f"TOKEN_KEY must be 32 bytes, it is {len(key)}")
    return key
