"""Errors, named after what the caller should do. What is foreseeable is an outcome of a chain, not an error."""

from __future__ import annotations


class PipelineError(Exception):
    """Base of all errors raised on purpose by this package."""


class ConfigurationError(PipelineError):
    """Fix a setting: the text names every setting at fault, never a value that may be secret."""


class MigrateFirst(ConfigurationError):
    """The database is older than the code; the text names the command that fixes it."""


class BadMessage(PipelineError):
    """Quarantine the message: it can never be read. `reason` is a short code for the quarantine row."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class NewerMessage(PipelineError):
    """Put the message off: a newer deployment wrote it, and this one must not guess what it means."""

    def __init__(self, version: int, known: int) -> None:
        super().__init__(f"message version {version} is newer than {known}")
        self.version = version


class RetryLater(PipelineError):
    """Try the whole unit of work again later: a store or the bus is out of reach, nothing is known to be wrong."""


class StoreUnavailable(RetryLater):
    """The database is out of reach, overloaded or failing over. The outcome of an open commit is unknown."""


class BusUnavailable(RetryLater):
    """Service Bus is out of reach, throttling or full. What was to be sent is still in the outbox."""
