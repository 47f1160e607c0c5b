"""What an answer that is no page means, before it becomes a `Fault`; and how its text is made safe to keep."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import quote

from pipeline.sources.base import FaultKind

MAX_DETAIL = 200
"""Characters of the API's own words that we keep."""

MAX_RETRY_AFTER = 7 * 86_400.0
"""Seconds; what asks for more than a week is a mistake, not a hint."""

_SECRETS = re.compile(
    r"(?i)(access_token|input_token|fb_exchange_token|appsecret_proof|client_secret|api_key|bearer|access token)"
    r"([\"']?[\s=:]+[\"']?)[^\s&\"',;]+"
    r"|EAA[A-Za-z0-9]+|[A-Za-z0-9_\-|.]{32,}"
)


class Verdict(NamedTuple):
    """The meaning of one refused, failed or unreadable call."""

    kind: FaultKind
    code: str
    detail: str = ""
    blames: str = ""
    """Whose budget is used up: `app`, `user`, `object`, or the name of a use case."""
    wait: float = 0.0
    """Seconds, if the answer itself named a time."""
    quick: bool = False
    """Whether asking again at once makes sense."""
    shrink: bool = False
    """Whether a smaller page may be the cure."""


def masked(text: str, secrets: Sequence[str] = ()) -> str:
    """Give the first part of a foreign text without the given secrets and without anything that looks like one."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***").replace(quote(secret, safe=""), "***")
    return " ".join(_SECRETS.sub("***", text[: 10 * MAX_DETAIL]).split())[:MAX_DETAIL]


def retry_after(headers: Mapping[str, str]) -> float:
    """
    Read `Retry-After` as seconds, from a number or a date (against the answer's own `Date`); junk is no hint.

    HTTP dates are GMT, whether they say so or not.
    """
    text = headers.get("Retry-After", "")
    try:
        seconds = float(text) if text else 0.0
    except ValueError:
        until, now = _instant(text), _instant(headers.get("Date", "")) or datetime.now(UTC)
        seconds = (until - now).total_seconds() if until else 0.0
    return seconds if 0.0 < seconds < MAX_RETRY_AFTER else 0.0


def _instant(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
