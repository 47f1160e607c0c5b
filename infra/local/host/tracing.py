"""W3C trace context, as the host's own activity passes it on: same trace, new span."""

from __future__ import annotations

import re
from collections.abc import Mapping
from random import getrandbits

_TRACE_PARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


def continued(parent: object) -> str:
    """Return a traceparent that continues `parent`, or begins a trace when it is none."""
    match = _TRACE_PARENT.fullmatch(parent) if isinstance(parent, str) else None
    if match is None:
        return f"00-{getrandbits(128) | 1:032x}-{getrandbits(64) | 1:016x}-01"
    return f"00-{match.group(1)}-{getrandbits(64) | 1:016x}-{match.group(3)}"


def of_message(properties: Mapping[str, object]) -> tuple[str, str]:
    """Return traceparent and tracestate for a single message, from either spelling of its sender's."""
    state = properties.get("tracestate")
    parent = properties.get("traceparent") or properties.get("Diagnostic-Id")
    return continued(parent), state if isinstance(state, str) else ""
