"""
Named points at every boundary to the outside (commit, send, cache, source), where tests crash, delay or fail us.

In production a failpoint is one `is None` check. `install` puts a hook in place for tests; `install_from_environment`
does it for a worker process of the local stack.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping

from pipeline.errors import ConfigurationError

_hook: Callable[[str], None] | None = None

VARIABLE = "PIPELINE_FAILPOINTS"


def failpoint(name: str) -> None:
    """Mark a boundary. Does nothing unless a hook is installed; the hook may raise, delay or kill."""
    if _hook is not None:
        _hook(name)


def install(hook: Callable[[str], None] | None) -> None:
    """Call `hook` with the name at every failpoint from now on; None removes it."""
    global _hook  # one process-wide switch, so that production pays a single check
    _hook = hook


def install_from_environment(environment: Mapping[str, str]) -> None:
    """
    Kill this process at failpoints named by `PIPELINE_FAILPOINTS`, e.g. `store.commit.after:3` (the third hit).

    Refused where the app runs in Azure.
    """
    wanted = environment.get(VARIABLE)
    if not wanted:
        return
    if environment.get("WEBSITE_SITE_NAME"):
        raise ConfigurationError(f"{VARIABLE} is for the local stack only; remove it from the app settings")
    name, _, nth = wanted.partition(":")
    left = int(nth or 1)

    def kill(hit: str) -> None:
        nonlocal left
        if hit == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    install(kill)
