"""Status codes of a plain REST API."""

from __future__ import annotations

import pytest

from pipeline.sources.base import FaultKind
from pipeline.sources.rest_errors import classify
from pipeline.sources.verdicts import retry_after


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, {"data": []}, None),
        (200, [], None),
        (200, None, "TRANSIENT"),
        (301, {}, "REFUSED"),
        (302, {}, "TRANSIENT"),
        (400, {"error": "bad"}, "REFUSED"),
        (401, {"error": "bad key"}, "TOKEN_DEAD"),
        (401, None, "TRANSIENT"),
        (403, {}, "FORBIDDEN"),
        (404, {}, "GONE"),
        (404, None, "TRANSIENT"),
        (408, {}, "TRANSIENT"),
        (410, {}, "GONE"),
        (413, {}, "TOO_MUCH"),
        (422, {}, "REFUSED"),
        (429, {}, "THROTTLED"),
        (429, None, "THROTTLED"),
        (500, {}, "TRANSIENT"),
        (503, None, "TRANSIENT"),
        (599, {}, "TRANSIENT"),
    ],
)
def test_a_status_means_what_to_do(status, body, kind):
    """A proxy's page (no JSON) must not give up a key or close a scope."""
    verdict = classify(status, body)

    assert (verdict and verdict.kind) == (kind and FaultKind[kind])


def test_a_server_that_asks_for_patience_is_not_asked_again_at_once():
    """503 with `Retry-After: 30` is a plan, not a hiccup."""
    verdicts = [classify(503, {}, wait=wait) for wait in (0.0, 30.0)]

    assert [verdict.quick for verdict in verdicts if verdict] == [True, False]


def test_the_apis_words_are_kept_without_the_key():
    """They explain a halt; they may repeat the key."""
    verdict = classify(400, {"error": {"message": "key canary-key is odd"}}, secrets=["canary-key"])

    assert verdict is not None
    assert verdict.detail == "key *** is odd"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0.0),
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": "0.5"}, 0.5),
        ({"Retry-After": "-7"}, 0.0),
        ({"Retry-After": "soon"}, 0.0),
        ({"Retry-After": "inf"}, 0.0),
        ({"Retry-After": "nan"}, 0.0),
        ({"Retry-After": "99999999"}, 0.0),
        ({"Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
        ({"Retry-After": "Wed, 21 Oct 2020 07:28:30 GMT"}, 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date_or_no_hint(headers, seconds):
    """A date counts against the answer's own clock: ours may be wrong. Junk must not park a user for years."""
    assert retry_after(headers) == seconds
