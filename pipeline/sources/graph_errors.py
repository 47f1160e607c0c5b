"""Read what the Graph API means by an error. Pure: status and body in, verdict out; the tests hold the whole table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.sources.base import FaultKind
from pipeline.sources.verdicts import Verdict, masked

USE_CASES = {
    80000: "ads_insights",
    80001: "pages",
    80002: "instagram",
    80003: "custom_audience",
    80004: "ads_management",
    80005: "leadgen",
    80006: "messenger",
    80008: "whatsapp",
    80009: "catalog_management",
    80014: "catalog_batch",
}
"""Codes that say: this use case has used up its calls on this object."""

_BLAMES = {4: "app", 341: "app", 17: "user", 613: "user", 32: "object"}
_AD_ACCOUNT_SUBCODES = {2446079, 1487742}
_TRANSIENT = {1, 2, 104, 960, 2601}
_FORBIDDEN = {3, 10, *range(200, 300)}
_POLICY_BLOCK = 368
_POLICY_MINUTES = 240.0
"""The API names no time; it lasts hours, and fast retries make it longer."""


class ApiError(NamedTuple):
    """The error envelope, with every field optional and of whatever type."""

    code: int | None
    subcode: int | None
    message: str
    transient: bool
    trace: str


def classify(
    status: int, body: Any, *, secrets: Sequence[str] = (), minute_seconds: float = 60.0, retry_after: float = 0.0
) -> Verdict | None:
    """
    Say what an answer means, None if it is a good one. `body` is the parsed JSON, None if it was no JSON.

    The body decides before the status: the API reports errors inside HTTP 200, and throttles with HTTP 400.
    """
    error = read_error(body)
    if error is None:
        return _by_status(status, body, retry_after)
    verdict = _by_code(status, error, minute_seconds)
    words = masked(error.message, secrets)
    detail = f"{words} (trace {masked(error.trace, secrets)})" if error.trace else words
    return verdict._replace(detail=detail, wait=max(verdict.wait, retry_after))


def read_error(body: Any) -> ApiError | None:
    """Find the error envelope; None if there is none. Numbers may come as text, anything may be missing."""
    if not isinstance(body, dict) or not body.get("error"):
        return None
    error = body["error"]
    if not isinstance(error, Mapping):
        return ApiError(None, None, str(error), transient=False, trace="")
    return ApiError(
        _integer(error.get("code")),
        _integer(error.get("error_subcode")),
        str(error.get("message") or ""),
        transient=error.get("is_transient") in (True, "true"),
        trace=str(error.get("fbtrace_id") or ""),
    )


def _integer(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return int(value)
    except (ValueError, OverflowError):
        return None


def _by_status(status: int, body: Any, retry_after: float) -> Verdict | None:
    """Judge an answer without an envelope: a proxy's page, a cut body, or a status alone."""
    code = f"http-{status}"
    if status == 429:
        return Verdict(FaultKind.THROTTLED, code, blames="object", wait=retry_after)
    if status >= 500 or status in (408, 425, 302, 303, 307):  # a temporary redirect is a maintenance page
        return Verdict(FaultKind.TRANSIENT, code, wait=retry_after, quick=True)
    if 200 <= status < 300:
        return None if body is not None else Verdict(FaultKind.TRANSIENT, "not-json", quick=True)
    if body is None and status >= 400:
        return Verdict(FaultKind.TRANSIENT, f"{code}/not-json", quick=True)  # the API itself always sends JSON
    return Verdict(FaultKind.REFUSED, code, detail="an answer without the API's error envelope")


def _by_code(status: int, error: ApiError, minute_seconds: float) -> Verdict:
    code, subcode = error.code, error.subcode
    name = str(code) if not subcode else f"{code}/{subcode}"
    message = error.message.lower()
    if code is None:
        return _without_code(status, error)
    if "reduce the amount of data" in message:
        return Verdict(FaultKind.TOO_MUCH, name, shrink=True)
    if code in _BLAMES or code in USE_CASES or 80000 <= code < 80100:
        return Verdict(FaultKind.THROTTLED, name, blames=_blame(code, subcode))
    if code in (102, 190) or (code == 2500 and "access token" in message):
        return Verdict(FaultKind.TOKEN_DEAD, name)
    if code == _POLICY_BLOCK:
        return Verdict(FaultKind.THROTTLED, name, blames="user", wait=_POLICY_MINUTES * minute_seconds)
    if code == 2642 or (code == 100 and "cursor" in message):
        return Verdict(FaultKind.INVALID_CURSOR, name)
    if code == 803 or (code == 100 and subcode == 33):
        return Verdict(FaultKind.GONE, name)
    if error.transient or code in _TRANSIENT or (code == 100 and "in summary param" in message):
        return Verdict(FaultKind.TRANSIENT, name, quick=True, shrink=code == 1 and subcode != 99)
    if code in _FORBIDDEN:
        return Verdict(FaultKind.FORBIDDEN, name)
    if status >= 500:
        return Verdict(FaultKind.TRANSIENT, name, quick=True)
    if status == 429:
        return Verdict(FaultKind.THROTTLED, name, blames="object")
    return Verdict(FaultKind.REFUSED, name)


def _blame(code: int, subcode: int | None) -> str:
    if subcode in _AD_ACCOUNT_SUBCODES:
        return "ads_management"
    return _BLAMES.get(code) or USE_CASES.get(code, "object")


def _without_code(status: int, error: ApiError) -> Verdict:
    """An envelope that names no code: the status decides, and success that says 'error' is a passing fault."""
    if error.transient or 200 <= status < 300:
        return Verdict(FaultKind.TRANSIENT, "no-code", quick=True)
    return _by_status(status, {}, 0.0) or Verdict(FaultKind.REFUSED, "no-code")
