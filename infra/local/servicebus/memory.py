"""
Give memory back to the system after a deep queue was drained.

The C library keeps freed blocks for itself when something small lives behind them; on
Linux it can be asked to let go. Elsewhere this does nothing.
"""

import asyncio
import ctypes
import sys
from collections.abc import Callable
from typing import Final

#: Asking costs milliseconds: only after so much has gone, and looked at only so often.
WORTHWHILE_BYTES: Final = 16 * 1024 * 1024
EVERY_SECONDS: Final = 2.0


async def give_back(used_bytes: Callable[[], int]) -> None:
    """Watch what is in use until cancelled, and trim after each large fall."""
    trim = _trimmer()
    peak = 0
    while trim is not None:
        await asyncio.sleep(EVERY_SECONDS)
        used = used_bytes()
        if peak - used >= WORTHWHILE_BYTES:
            trim()
            peak = used
        peak = max(peak, used)


def _trimmer() -> Callable[[], object] | None:
    if sys.platform != "linux":
        return None
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return None if trim is None else lambda: trim(0)
