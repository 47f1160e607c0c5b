"""What a plain REST API means by its status codes. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.sources.base import FaultKind
from pipeline.sources.verdicts import Verdict, masked

_KINDS = {
    401: FaultKind.TOKEN_DEAD,
    403: FaultKind.FORBIDDEN,
    404: FaultKind.GONE,
    410: FaultKind.GONE,
    413: FaultKind.TOO_MUCH,
    429: FaultKind.THROTTLED,
}
_TRANSIENT = {302, 303, 307, 408, 425}

LONG_WAIT_SECONDS = 1.0
"""A server that asks for more than this is not asked again in the same breath."""


def classify(status: int, body: Any, *, secrets: Sequence[str] = (), wait: float = 0.0) -> Verdict | None:
    """
    Say what an answer means, None if it is a good one. `body` is None if it was no JSON, `wait` is `Retry-After`.

    A refusal without JSON comes from something between the API and us, and decides nothing about a user.
    """
    code = f"http-{status}"
    if status == 429:
        return Verdict(FaultKind.THROTTLED, code, blames="user", wait=wait, detail=_words(body, secrets))
    if status >= 500 or status in _TRANSIENT or body is None:
        name = code if body is not None or status >= 300 else "not-json"
        return Verdict(FaultKind.TRANSIENT, name, wait=wait, quick=wait <= LONG_WAIT_SECONDS)
    if 200 <= status < 300:
        return None
    kind = _KINDS.get(status, FaultKind.REFUSED)
    return Verdict(kind, code, detail=_words(body, secrets), shrink=kind is FaultKind.TOO_MUCH)


def _words(body: Any, secrets: Sequence[str]) -> str:
    """The API's own words, where such APIs put them."""
    found = body
    for field in ("error", "message", "detail"):
        if isinstance(found, dict) and field in found:
            found = found[field]
    return masked(found, secrets) if isinstance(found, str) else ""
