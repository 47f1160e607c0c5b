"""The error conditions a client may meet, by the name it meets them under."""

LOCK_LOST = "com.microsoft:message-lock-lost"
MESSAGE_NOT_FOUND = "com.microsoft:message-not-found"
SERVER_BUSY = "com.microsoft:server-busy"
ARGUMENT_ERROR = "com.microsoft:argument-error"
ARGUMENT_OUT_OF_RANGE = "com.microsoft:argument-out-of-range"
AUTH_FAILED = "com.microsoft:auth-failed"
NOT_FOUND = "amqp:not-found"
NOT_ALLOWED = "amqp:not-allowed"
NOT_IMPLEMENTED = "amqp:not-implemented"
UNAUTHORIZED = "amqp:unauthorized-access"
DECODE_ERROR = "amqp:decode-error"
FRAMING_ERROR = "amqp:connection:framing-error"
CONNECTION_FORCED = "amqp:connection:forced"
RESOURCE_LIMIT = "amqp:resource-limit-exceeded"
RESOURCE_DELETED = "amqp:resource-deleted"
SIZE_EXCEEDED = "amqp:link:message-size-exceeded"
DETACH_FORCED = "amqp:link:detach-forced"
TRANSFER_LIMIT = "amqp:link:transfer-limit-exceeded"
WINDOW_VIOLATION = "amqp:session:window-violation"
UNATTACHED_HANDLE = "amqp:session:unattached-handle"
HANDLE_IN_USE = "amqp:session:handle-in-use"
INTERNAL = "amqp:internal-error"

#: What a feature that is left out on purpose answers with.
USE_OFFICIAL = "this local emulator leaves it out; use the official Azure Service Bus emulator"


class AmqpError(Exception):
    """Something the client did that has a documented answer."""

    def __init__(self, condition: str, description: str) -> None:
        super().__init__(f"{condition}: {description}")
        self.condition = condition
        self.description = description
