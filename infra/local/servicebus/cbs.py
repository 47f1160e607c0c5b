"""`$cbs`: the node that takes security tokens."""

from typing import TYPE_CHECKING, Any

from infra.local.servicebus.codec import Int
from infra.local.servicebus.requests import write_reply

if TYPE_CHECKING:
    from infra.local.servicebus.auth import Grants


def put_token(grants: "Grants", properties: list[Any], application: dict[str, Any], body: Any) -> bytes:
    """Answer one request; the names of the status properties have dashes here, unlike in `$management`."""
    operation = application.get("operation")
    if operation == "put-token":
        refusal = grants.put_token(body)
        status = 202 if refusal is None else 401
        text = "Accepted" if refusal is None else f"InvalidSignature: {refusal}"
    else:
        status, text = 400, f"unknown operation {operation!r}"
    return write_reply(properties[0], properties[4], {"status-code": Int(status), "status-description": text}, None)
