"""
Named points at every boundary to the outside (commit, send, cache, source), where tests crash, delay or fail us.

In production a failpoint is one `is None` check. `install` puts a hook in place for tests; `install_from_environment`
does it for a worker process of the local stack.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path

from pipeline.errors import ConfigurationError, StoreUnavailable

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

    `@FILE` names a file of orders instead, which may come and go while the process runs (see `Orders`). Refused where
    the app runs in Azure.
    """
    wanted = environment.get(VARIABLE)
    if not wanted:
        return
    if environment.get("WEBSITE_SITE_NAME"):
        raise ConfigurationError(f"{VARIABLE} is for the local stack only; remove it from the app settings")
    if wanted.startswith("@"):
        install(Orders(Path(wanted[1:])).at)
        return
    name, _, nth = wanted.partition(":")
    left = int(nth or 1)

    def kill(hit: str) -> None:
        nonlocal left
        if hit == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    install(kill)


class Orders:
    """
    Obeys a file that holds one order, such as `KILL store.page.after bus.send.before`: the first process to pass one of
    these failpoints takes the order (renames the file to `{file}.done.{pid}.{order}.{name}`) and carries it out. It is
    the order that the process had read: who changes the file at that very moment finds another one done than it gave.

    Orders are KILL, TERM and STOP, the signals that the process sends itself, and FAIL: the store is out of reach. The
    names of all failpoints that were passed are appended to `{file}.seen`.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen: set[str] = set()

    def at(self, name: str) -> None:
        """Do what is ordered for this failpoint, if anything."""
        if name not in self._seen:
            self._seen.add(name)
            with Path(f"{self._file}.seen").open("a") as seen:
                seen.write(f"{name}\n")
        try:
            order, *names = self._file.read_text().split()
            if name not in names:
                return
            self._file.rename(f"{self._file}.done.{os.getpid()}.{order}.{name}")
        except FileNotFoundError:
            return  # there is no order, or another process was faster
        if order == "FAIL":
            raise StoreUnavailable(f"failpoint {name}")
        os.kill(os.getpid(), signal.Signals[f"SIG{order}"])
