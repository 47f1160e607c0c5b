"""Function keys, for those who ask for them with --enforce-keys."""

from __future__ import annotations

import hmac
import json
import os
import secrets
from pathlib import Path

from aiohttp import web


class Keys:
    """The keys that --enforce-keys asks for: one for functions, one for everything."""

    def __init__(self, function: str, master: str) -> None:
        self.function = function
        self.master = master

    def allow(self, level: str, request: web.BaseRequest) -> bool:
        given = request.headers.get("x-functions-key") or request.query.get("code") or ""
        accepted = {"anonymous": None, "admin": [self.master]}.get(level, [self.function, self.master])
        return accepted is None or any(hmac.compare_digest(given.encode(), key.encode()) for key in accepted)


def keys_in(folder: Path) -> Keys:
    """Read the keys of an app, made at the first start and readable by their owner only."""
    path = folder / "keys.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = {"function": secrets.token_urlsafe(32), "master": secrets.token_urlsafe(32)}
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(made, file)
    stored = json.loads(path.read_text(encoding="utf-8"))
    return Keys(stored["function"], stored["master"])
