"""The Graph API's errors: codes, texts and the envelope."""

from __future__ import annotations

from typing import Any, NamedTuple


class Known(NamedTuple):
    """What the API usually says with a code."""

    message: str
    status: int = 400
    type: str = "OAuthException"
    transient: bool | None = None


KNOWN: dict[int, Known] = {
    1: Known("An unknown error occurred", 500, transient=True),
    2: Known("An unexpected error has occurred. Please retry your request later.", 500, transient=True),
    3: Known("(#3) Application does not have the capability to make this API call."),
    4: Known("(#4) Application request limit reached", transient=True),
    10: Known(
        "(#10) This endpoint requires the 'pages_read_engagement' permission or the 'Page Public Content Access'"
    ),
    17: Known("(#17) User request limit reached", transient=True),
    32: Known("(#32) Page request limit reached", transient=True),
    100: Known("(#100) Invalid parameter"),
    102: Known("Session key invalid or no longer valid"),
    104: Known("An access token is required to request this resource."),
    190: Known("Error validating access token: Session has expired. The session is no longer valid."),
    200: Known("(#200) Ad account owner has NOT grant ads_management or ads_read permission", 403),
    341: Known("(#341) Application limit reached", transient=True),
    368: Known("(#368) The action attempted has been deemed abusive or is otherwise disallowed"),
    613: Known("(#613) Calls to this api have exceeded the rate limit.", transient=True),
    803: Known("(#803) Some of the aliases you requested do not exist", 404),
    960: Known("Request aborted. This could happen if a dependent request failed or the entire request timed out."),
    2500: Known("An active access token must be used to query information about the current user."),
    2601: Known("(#2601) Error accessing adreport job", transient=True),
    2635: Known("(#2635) You are calling a deprecated version of the Ads API. Please update to the latest version."),
    2642: Known("(#2642) Invalid cursors values", type="OAuthException"),
    3018: Known("(#3018) The start date of the time range cannot be beyond 37 months from the current date"),
    80000: Known("(#80000) There have been too many calls from this ad-account. Wait a bit and try again."),
    80001: Known("(#80001) There have been too many calls to this Page account. Wait a bit and try again."),
    80002: Known("(#80002) There have been too many calls to this Instagram account. Wait a bit and try again."),
    80003: Known("(#80003) There have been too many calls to this ad-account. Wait a bit and try again."),
    80004: Known("(#80004) There have been too many calls to this ad-account. Wait a bit and try again."),
    80005: Known("(#80005) There have been too many leadgen api calls to this Page account. Wait a bit and try again."),
    80006: Known("(#80006) There have been too many messenger api calls to this Page account. Wait and try again."),
    80008: Known("(#80008) There have been too many calls to this WhatsApp Business account."),
    80009: Known("(#80009) There have been too many calls to this Catalog account. Wait a bit and try again."),
    80014: Known("(#80014) There have been too many calls for the batch uploads to this catalog account."),
}

TOKEN_SUBCODES: dict[int, str] = {
    458: "Error validating access token: The user has not authorized application.",
    459: "Error validating access token: You cannot access the app till you log in to www.facebook.com.",
    460: "Error validating access token: The session has been invalidated because the user changed their password.",
    463: "Error validating access token: Session has expired. The current time is later than the expiry.",
    464: "Error validating access token: Sessions for the user are not allowed because the user is not confirmed.",
    467: "Error validating access token: The session is invalid because the user logged out.",
    492: "Error validating access token: The user must be an administrator, editor, or moderator of the page.",
}


class GraphError(Exception):
    """An answer that is an error; what is not given comes from the table of known codes."""

    def __init__(
        self,
        code: int,
        message: str | None = None,
        *,
        subcode: int | None = None,
        status: int | None = None,
        type: str | None = None,
        transient: bool | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        known = KNOWN.get(code, Known(f"(#{code}) Error"))
        text = message or (TOKEN_SUBCODES.get(subcode or 0) if code == 190 else None) or known.message
        super().__init__(text)
        self.code = code
        self.message = text
        self.subcode = subcode
        self.status = status or known.status
        self.type = type or known.type
        self.transient = known.transient if transient is None else transient
        self.extra = extra or {}

    def envelope(self, trace_id: str) -> dict[str, Any]:
        """Give the JSON body."""
        error: dict[str, Any] = {"message": self.message, "type": self.type, "code": self.code}
        if self.subcode is not None:
            error["error_subcode"] = self.subcode
        if self.transient is not None:
            error["is_transient"] = self.transient
        return {"error": {**error, **self.extra, "fbtrace_id": trace_id}}

    @property
    def challenge(self) -> str:
        """The value of `WWW-Authenticate` that comes with errors."""
        text = self.message.encode("ascii", "replace").decode().replace('"', "'")
        return f'OAuth "Facebook Platform" "invalid_request" "{text}"'


def invalid(message: str, *, blame: str | None = None) -> GraphError:
    """Make the error for a wrong parameter, naming it where the API would."""
    extra = {"error_data": {"blame_field_specs": [[blame]]}} if blame else None
    return GraphError(100, f"(#100) {message}", extra=extra)


def missing(object_id: str, method: str = "get") -> GraphError:
    """Make the error for an object that does not exist or may not be seen: the API does not tell which."""
    return GraphError(
        100,
        f"Unsupported {method} request. Object with ID '{object_id}' does not exist, cannot be loaded due to missing "
        "permissions, or does not support this operation. Please read the Graph API documentation at "
        "https://developers.facebook.com/docs/graph-api",
        subcode=33,
        type="GraphMethodException",
    )
