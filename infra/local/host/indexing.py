"""Load an app, run nothing, and tell what is in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from infra.local.host.functions import bindings_of, is_trigger
from infra.local.host.pool import WorkerPool
from infra.local.host.settings import AppSettings


async def index(app: Path, environment: Mapping[str, str], console: TextIO) -> Sequence[dict[str, Any]]:
    """Load the app, run nothing, and describe its functions; raises LoadFailed."""
    settings = AppSettings.load(app, environment)
    pool = WorkerPool(app, settings.for_workers(), workers=1, function_timeout=None, console=console)
    try:
        described = await pool.start()
    finally:
        await pool.stop()
    return [_indexed(each) for each in described]


def _indexed(described: Mapping[str, Any]) -> dict[str, Any]:
    bindings = bindings_of(described)
    triggers = [binding for binding in bindings if is_trigger(binding)]
    return {
        "name": described["name"],
        "triggers": [binding["type"] for binding in triggers],
        "schedule": next((binding["schedule"] for binding in triggers if "schedule" in binding), None),
        "bindings": bindings,
        "retry": described["retry"],
    }
