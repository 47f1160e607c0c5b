"""
Keep secrets out of what leaves the process as text: logs, exceptions and spans.

Known secrets are replaced by value, and what looks like a secret by pattern. Code that never logs one is the first
defence; this is the second, for texts of others: a library's exception, an API's answer.
"""

from __future__ import annotations

import functools
import logging
import re
import threading
import traceback
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import ParamSpec, TypeVar
from urllib.parse import quote, unquote, urlsplit

P = ParamSpec("P")
R = TypeVar("R")

HIDDEN = "***"
MAX_SECRETS = 512
"""Each is looked for in each line that is logged; the most recently used stay."""

SHORTEST = 8
"""Characters; a shorter secret would hide words."""

_PATTERNS = re.compile(
    r"""(?ix)
    (?P<name> \b (?: SharedAccessKey | SharedAccessSignature | AccountKey | pwd | password | client_secret
        | access_token | input_token | fb_exchange_token | appsecret_proof | api_key ) ["']? \s* [=:] \s* ["']? )
      [^\s;,&"'}\])]{4,}
    | (?P<key> [?&] (?: code | sas | sig ) = ) [^\s&"']{4,}
    | (?P<scheme> \b (?: bearer | basic | oauth ) \s+ ) [A-Za-z0-9._~+/=|-]{8,}
    | (?P<user> :// [^\s:/@]* : ) [^\s@/]+ (?= @ )
    | \b EAA[A-Za-z0-9]{12,}
    """
)

_HINTS = (
    *("key", "signature", "pwd", "password", "secret", "token", "proof", "code=", "sig=", "sas="),
    *("bearer", "basic", "oauth", "://", "eaa"),
)
"""One of these stands in all that the patterns find; to look for them takes a tenth of the patterns' time."""


class Secrets:
    """The secrets that this process has met, at most `limit`."""

    def __init__(self, limit: int = MAX_SECRETS) -> None:
        self._limit = limit
        self._known: OrderedDict[str, tuple[str, ...]] = OrderedDict()
        self._starts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def add(self, *secrets: str) -> None:
        """Hide these from now on, as they are and as a URL quotes them."""
        with self._lock:
            for secret in secrets:
                if len(secret) < SHORTEST:
                    continue
                if secret not in self._known:
                    self._known[secret] = tuple(dict.fromkeys((secret, quote(secret, safe=""), repr(secret)[1:-1])))
                    self._starts.update(form[:SHORTEST] for form in self._known[secret])
                self._known.move_to_end(secret)
            while len(self._known) > self._limit:
                for form in self._known.popitem(last=False)[1]:
                    self._starts[form[:SHORTEST]] -= 1
                    if not self._starts[form[:SHORTEST]]:
                        del self._starts[form[:SHORTEST]]

    def redact(self, text: str) -> str:
        """Give the text without secrets."""
        # One look per place in the text, however many secrets there are: a worker logs a line per page.
        places = range(len(text) - SHORTEST + 1)
        if not self._starts.keys().isdisjoint([text[at : at + SHORTEST] for at in places]):
            text = self._replaced(text)
        lowered = text.lower()
        return _PATTERNS.sub(_without_value, text) if any(hint in lowered for hint in _HINTS) else text

    def _replaced(self, text: str) -> str:
        with self._lock:
            forms = [form for known in self._known.values() for form in known]
        for form in forms:
            text = text.replace(form, HIDDEN)
        return text


secrets = Secrets()
"""The process's own: a secret that one part knows, no other part may write."""


def redact(text: str) -> str:
    """Give the text without secrets."""
    return secrets.redact(text)


def parts_of_url(url: str) -> list[str]:
    """Give the password in a URL, if it has one, as it is written there and as it is used."""
    try:
        password = urlsplit(url).password
    except ValueError:
        return []
    return [password, unquote(password)] if password else []


def parts_of_connection(text: str) -> list[str]:
    """Give the secret values in a connection string `Name=value;…`, and the whole text."""
    named = (part.partition("=") for part in text.split(";"))
    hidden = ("key", "signature", "pwd", "password")
    return [text, *(value for name, _, value in named if name.strip().lower().endswith(hidden))]


def redacted(work: Callable[P, Awaitable[R]]) -> Callable[P, Awaitable[R]]:
    """Have an async function raise no exception whose text holds a secret: the host writes that text down."""

    @functools.wraps(work)
    async def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await work(*args, **kwargs)
        except Exception as error:
            told = _told(error)
            if (clean := redact(told)) == told:
                raise
        raise RedactedError(clean)  # outside the `except`, so that it carries no cause and no context

    return run


def install() -> None:
    """Have every log record of this process redacted as it is made, before any handler sees it. Idempotent."""
    if not isinstance(logging.getLogRecordFactory(), _Factory):
        logging.setLogRecordFactory(_Factory(logging.getLogRecordFactory()))


class _Factory:
    """
    Makes log records. A filter on a logger would miss the records of loggers below it, and one on a handler those of
    handlers that come later: the Functions worker and the telemetry exporter add theirs when they like.
    """

    def __init__(self, make: Callable[..., logging.LogRecord]) -> None:
        self._make = make

    def __call__(self, *args: object, **kwargs: object) -> logging.LogRecord:
        record = self._make(*args, **kwargs)
        try:
            said = record.getMessage()
        except (TypeError, ValueError, KeyError):  # wrong arguments: logging reports those when it formats
            return record
        if (clean := redact(said)) != said:
            record.msg, record.args = clean, None
        if record.exc_info and record.exc_info[1] is not None:
            told = _told(record.exc_info[1])
            if (clean := redact(told)) != told:
                # Whoever formats the exception itself would show it, so it is replaced by what may be shown.
                hidden = RedactedError(clean)
                record.exc_info, record.exc_text = (RedactedError, hidden, None), clean
        return record


class RedactedError(Exception):
    """Stands for an exception whose text held a secret; its own text is the traceback without it."""


def _told(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).rstrip("\n")


def _without_value(match: re.Match[str]) -> str:
    kept: Iterable[str | None] = match.groups()
    return "".join(part for part in kept if part) + HIDDEN
