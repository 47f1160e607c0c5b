"""Who may do what: SASL, and the tokens that `$cbs` takes."""

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl, unquote_plus

from infra.local.servicebus.clock import Clock
from infra.local.servicebus.errors import USE_OFFICIAL
from infra.local.servicebus.namespace import path_of

#: A connection may hold this many tokens; clients hold one or two per link.
_MAX_GRANTS: Final = 2000


@dataclass(frozen=True, slots=True)
class Gate:
    """The key that clients must know; without one everybody may do everything."""

    key: str | None
    key_name: str

    def check(self, token: str, now_ms: int) -> str | None:
        """Return why a shared access signature is refused, or None."""
        if self.key is None:
            return None
        if not token.startswith("SharedAccessSignature "):
            return f"only shared access signatures are checked; Entra ID tokens: {USE_OFFICIAL}"
        raw = dict(part.partition("=")[::2] for part in token.removeprefix("SharedAccessSignature ").split("&"))
        fields = dict(parse_qsl(token.removeprefix("SharedAccessSignature "), keep_blank_values=True))
        if fields.get("skn") != self.key_name:
            return "the key name is unknown"
        if not self._signed(raw.get("sr", ""), fields.get("se", ""), unquote_plus(raw.get("sig", ""))):
            return "the signature does not match the key"
        if not fields["se"].isdigit() or int(fields["se"]) * 1000 < now_ms:
            return "the token has expired"
        return None

    def _signed(self, resource: str, expiry: str, signature: str) -> bool:
        """Check both spellings of a plus sign: in base64 it may have become a space."""
        assert self.key is not None
        message = f"{resource}\n{expiry}".encode()
        expected = hmac.new(self.key.encode(), message, hashlib.sha256).digest()
        try:
            given = base64.b64decode(signature.replace(" ", "+"), validate=True)
        except (binascii.Error, ValueError):
            return False
        return hmac.compare_digest(expected, given)

    def scope(self, token: str) -> str:
        """Return the path a token is good for; empty means the whole namespace."""
        fields = dict(parse_qsl(token.removeprefix("SharedAccessSignature ")))
        return path_of(fields.get("sr", "")).lower()


class Grants:
    """What one connection has proven."""

    def __init__(self, gate: Gate, clock: Clock) -> None:
        self._gate = gate
        self._clock = clock
        self._everything = gate.key is None
        self._scopes: set[str] = set()

    def sasl(self, mechanism: str, response: bytes) -> bool:
        """Say whether a SASL exchange succeeds; PLAIN proves the key for the whole connection."""
        if mechanism != "PLAIN" or self._gate.key is None:
            return True
        parts = response.split(b"\0")
        wanted = [self._gate.key_name.encode(), self._gate.key.encode()]
        if len(parts) == 3 and all(hmac.compare_digest(*pair) for pair in zip(parts[1:], wanted, strict=True)):
            self._everything = True
        return self._everything

    def put_token(self, token: Any) -> str | None:
        """Take a token; return why it is refused, or None."""
        text = token.decode("utf-8", "replace") if isinstance(token, bytes) else str(token)
        refusal = self._gate.check(text, self._clock.now())
        if refusal is None and not self._everything:
            if len(self._scopes) >= _MAX_GRANTS:
                return "the connection holds too many tokens"
            self._scopes.add(self._gate.scope(text))
        return refusal

    def allow(self, address: str) -> bool:
        """Say whether the connection may open a link on an address."""
        if self._everything:
            return True
        path = path_of(address).lower()
        return any(scope == "" or path == scope or path.startswith(f"{scope}/") for scope in self._scopes)
