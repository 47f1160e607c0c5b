"""The Graph API's error table, row by row. A wrong row loses data (halt), calls (retry) or a user (dead token)."""

from __future__ import annotations

import pytest

from pipeline.sources.base import FaultKind
from pipeline.sources.graph_errors import classify, read_error


def envelope(code: object = None, subcode: object = None, message: str = "", **more: object) -> dict[str, object]:
    error: dict[str, object] = {"message": message, "type": "OAuthException", **more}
    if code is not None:
        error["code"] = code
    if subcode is not None:
        error["error_subcode"] = subcode
    return {"error": error}


REDUCE = "Please reduce the amount of data you're asking for, then retry your request"

TABLE = [
    # status, code, subcode, message, is_transient, kind, blames
    (500, 1, None, "An unknown error occurred", None, "TRANSIENT", ""),
    (400, 1, None, "", None, "TRANSIENT", ""),
    (500, 1, None, REDUCE, None, "TOO_MUCH", ""),
    (400, 1, 99, "An unknown error occurred", None, "TRANSIENT", ""),
    (500, 1, 99, "", None, "TRANSIENT", ""),
    (500, 2, None, "Service temporarily unavailable", None, "TRANSIENT", ""),
    (400, 2, None, "", None, "TRANSIENT", ""),
    (503, 2, None, "", None, "TRANSIENT", ""),
    (400, 77777, None, "", True, "TRANSIENT", ""),
    (400, 4, None, "(#4) Application request limit reached", True, "THROTTLED", "app"),
    (403, 4, None, "(#4) Application request limit reached", None, "THROTTLED", "app"),
    (400, 4, 1504022, "", None, "THROTTLED", "app"),
    (400, 4, 1504039, "", None, "THROTTLED", "app"),
    (400, 17, None, "(#17) User request limit reached", None, "THROTTLED", "user"),
    (400, 17, 2446079, "", None, "THROTTLED", "ads_management"),
    (400, 32, None, "(#32) Page request limit reached", None, "THROTTLED", "object"),
    (400, 341, None, "", None, "THROTTLED", "app"),
    (400, 613, None, "", None, "THROTTLED", "user"),
    (400, 613, 1996, "", None, "THROTTLED", "user"),
    (400, 613, 1487742, "", None, "THROTTLED", "ads_management"),
    (400, 80000, None, "", None, "THROTTLED", "ads_insights"),
    (400, 80001, None, "", None, "THROTTLED", "pages"),
    (400, 80002, None, "", None, "THROTTLED", "instagram"),
    (400, 80003, None, "", None, "THROTTLED", "custom_audience"),
    (400, 80004, None, "", True, "THROTTLED", "ads_management"),
    (400, 80005, None, "", None, "THROTTLED", "leadgen"),
    (400, 80006, None, "", None, "THROTTLED", "messenger"),
    (400, 80008, None, "", None, "THROTTLED", "whatsapp"),
    (400, 80009, None, "", None, "THROTTLED", "catalog_management"),
    (400, 80014, None, "", None, "THROTTLED", "catalog_batch"),
    (400, 80042, None, "", None, "THROTTLED", "object"),
    (400, 190, None, "", None, "TOKEN_DEAD", ""),
    (401, 190, 463, "", None, "TOKEN_DEAD", ""),
    (400, 190, 458, "", None, "TOKEN_DEAD", ""),
    (400, 190, 459, "", None, "TOKEN_DEAD", ""),
    (400, 190, 460, "", None, "TOKEN_DEAD", ""),
    (400, 190, 464, "", None, "TOKEN_DEAD", ""),
    (400, 190, 467, "", None, "TOKEN_DEAD", ""),
    (400, 190, 492, "", None, "TOKEN_DEAD", ""),
    (400, 102, None, "", None, "TOKEN_DEAD", ""),
    (401, 102, None, "", None, "TOKEN_DEAD", ""),
    (400, 2500, None, "An active access token must be used to query information", None, "TOKEN_DEAD", ""),
    (400, 2500, None, "Unknown path components: /nothing", None, "REFUSED", ""),
    (400, 10, None, "(#10) Application does not have permission", None, "FORBIDDEN", ""),
    (403, 200, None, "", None, "FORBIDDEN", ""),
    (403, 299, None, "", None, "FORBIDDEN", ""),
    (400, 3, None, "", None, "FORBIDDEN", ""),
    (400, 100, 33, "Unsupported get request. Object does not exist", None, "GONE", ""),
    (400, 100, None, "(#100) limit must be at most 100", None, "REFUSED", ""),
    (400, 100, None, "(#100) The value must be a valid insights metric", None, "REFUSED", ""),
    (400, 100, None, "(#100) Tried accessing nonexisting field (x)", None, "REFUSED", ""),
    (400, 100, None, "Invalid appsecret_proof provided in the API argument", None, "REFUSED", ""),
    (400, 100, None, "Cannot include total_count in summary param", None, "TRANSIENT", ""),
    (400, 100, None, "(#100) The After Cursor specified exceeds the max limit", None, "INVALID_CURSOR", ""),
    (400, 2642, None, "(#2642) Invalid cursors values", None, "INVALID_CURSOR", ""),
    (400, 104, None, "", None, "TRANSIENT", ""),
    (400, 368, None, "The action attempted has been deemed abusive", None, "THROTTLED", "user"),
    (400, 506, None, "Duplicate status message", None, "REFUSED", ""),
    (404, 803, None, "(#803) Some of the aliases you requested do not exist", None, "GONE", ""),
    (400, 803, None, "", None, "GONE", ""),
    (400, 960, None, "", None, "TRANSIENT", ""),
    (400, 2601, 1815107, "Error accessing adreport job", True, "TRANSIENT", ""),
    (400, 2635, None, "deprecated version", None, "REFUSED", ""),
    (400, 3018, None, "start date", None, "REFUSED", ""),
    (400, 1609005, None, "", None, "REFUSED", ""),
    (400, 99999, None, "nobody knows", None, "REFUSED", ""),
    (404, 99999, None, "nobody knows", None, "REFUSED", ""),
    (502, 99999, None, "nobody knows", None, "TRANSIENT", ""),
    (429, 99999, None, "", None, "THROTTLED", "object"),
    (500, None, None, "no code", None, "TRANSIENT", ""),
    (400, None, None, "no code", None, "REFUSED", ""),
    (400, "nonsense", None, "", None, "REFUSED", ""),
]


@pytest.mark.parametrize(("status", "code", "subcode", "message", "transient", "kind", "blames"), TABLE)
def test_every_row_of_the_error_table_means_what_it_says(status, code, subcode, message, transient, kind, blames):
    """One wrong row parks what should halt, halts what should park, or gives up a good token."""
    more = {} if transient is None else {"is_transient": transient}

    verdict = classify(status, envelope(code, subcode, message, **more))

    assert verdict is not None
    assert (verdict.kind, verdict.blames) == (FaultKind[kind], blames)


@pytest.mark.parametrize("code", [4, 17, 190, 200, 100, 2642, 2])
def test_an_error_inside_http_200_is_an_error(code):
    """The API does this; a client that checks the status takes an error for an empty page, and the end."""
    in_400, in_200 = classify(400, envelope(code)), classify(200, envelope(code))

    assert in_200 is not None
    assert in_200 == in_400


@pytest.mark.parametrize(("code", "subcode"), [("190", "463"), (190.0, 463), ("190", None)])
def test_numbers_may_come_as_text(code, subcode):
    """Proxies and old endpoints send numbers as text."""
    verdict = classify(400, envelope(code, subcode))

    assert verdict is not None
    assert verdict.kind is FaultKind.TOKEN_DEAD


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, {"data": []}, None),
        (200, {"id": "1"}, None),
        (200, {"data": [], "error": None}, None),
        (200, None, "TRANSIENT"),  # truncated, or HTML
        (500, None, "TRANSIENT"),
        (502, None, "TRANSIENT"),
        (503, {"data": []}, "TRANSIENT"),
        (504, None, "TRANSIENT"),
        (408, None, "TRANSIENT"),
        (400, None, "TRANSIENT"),  # a proxy's page: the API itself always sends JSON
        (404, None, "TRANSIENT"),
        (302, None, "TRANSIENT"),
        (301, None, "REFUSED"),
        (400, {}, "REFUSED"),
        (404, [], "REFUSED"),
        (429, None, "THROTTLED"),
        (429, {}, "THROTTLED"),
        (200, {"error": "something"}, "TRANSIENT"),
        (200, {"error": {"message": "?"}}, "TRANSIENT"),
        (400, {"error": "invalid_request"}, "REFUSED"),
        (400, {"error": [1]}, "REFUSED"),
        (500, {"error": 7}, "TRANSIENT"),
    ],
)
def test_an_answer_without_the_envelope_is_judged_by_its_status(status, body, kind):
    """Load balancers answer for the API; their pages must neither crash us nor look like data."""
    verdict = classify(status, body)

    assert (verdict and verdict.kind) == (kind and FaultKind[kind])


@pytest.mark.parametrize("code", [4, 17, 32, 190, 200, 100, 2642, 80001, 368])
def test_only_passing_faults_are_asked_again_at_once(code):
    """A throttle that is asked again at once is lengthened; a refusal is asked again for nothing."""
    verdict = classify(400, envelope(code))

    assert verdict is not None
    assert not verdict.quick


def test_a_policy_block_waits_for_hours():
    """Fast retries make it longer."""
    verdict = classify(400, envelope(368), minute_seconds=1.0)

    assert verdict is not None
    assert verdict.wait == 240.0


def test_a_heavy_page_may_be_tried_smaller():
    """Code 1 is the same remedy as 'reduce the amount of data', but not with subcode 99."""
    assert [
        verdict.shrink
        for verdict in (
            classify(500, envelope(1)),
            classify(500, envelope(1, 99)),
            classify(500, envelope(1, message=REDUCE)),
        )
        if verdict
    ] == [True, False, True]


def test_the_detail_keeps_the_trace_and_loses_the_token():
    """The API repeats a malformed token in its message; the detail goes to logs and to the chain's row."""
    token = "canary/with+signs=="
    message = f"Malformed access token {token} and canary%2Fwith%2Bsigns%3D%3D"

    verdict = classify(400, envelope(190, message=message, fbtrace_id="AmFG"), secrets=[token])

    assert verdict is not None
    assert "canary" not in verdict.detail
    assert "AmFG" in verdict.detail


@pytest.mark.parametrize(
    "text",
    [
        "https://x/?access_token=abc.def&x=1",
        "Bearer abc.def",
        "EAAGabc123",
        "appsecret_proof=00ff",
        '{"access_token": "abc.def"}',
        "client_secret: abc.def",
        "a" * 40,
    ],
)
def test_whatever_looks_like_a_secret_is_masked(text):
    """Some messages hold other people's secrets, which cannot be masked by value."""
    verdict = classify(400, envelope(99999, message=text))

    assert verdict is not None
    for secret in ("abc.def", "abc123", "00ff", "a" * 32):
        assert secret not in verdict.detail


def test_every_field_of_the_envelope_is_optional():
    """`error_data` may be text, `message` null, `code` true: reading must not raise."""
    error = read_error({"error": {"message": None, "code": True, "error_subcode": {}, "error_data": "{}"}})

    assert error is not None
    assert error[:2] == (None, None)
