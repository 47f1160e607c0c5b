"""Users and their tokens, from the simulators into the pipeline: by a CSV file, as an operator would."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path

from infra.local.run.stack import Stack

Row = tuple[str, str, str]


async def import_all(stack: Stack) -> list[str]:
    """Store all users of both worlds with their present tokens; gives the Graph users' ids."""
    users = (await stack.graph.get("/__sim/world"))["users"]
    rows: list[Row] = [(user["id"], user["token"], "graph") for user in users]
    if stack.wanted.rest is not None:
        rows += [(user["id"], user["key"], "rest") for user in (await stack.rest.get("/__sim/world"))["users"]]
    await _import(stack, rows)
    return [str(user["id"]) for user in users]


async def renew(stack: Stack, user: str) -> None:
    """Have the API give a user a new token, and store it; the old one is dead."""
    answer = await stack.graph.send("POST", f"/__sim/users/{user}/token", {"action": "rotate"})
    await _import(stack, [(user, answer["token"], "graph")])


async def _import(stack: Stack, rows: Iterable[Row]) -> None:
    path = stack.places.folder / "users.csv"
    _write(path, rows)
    try:
        await stack.product.run("users", "import", str(path))
    finally:
        path.unlink(missing_ok=True)


def _write(path: Path, rows: Iterable[Row]) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("user_id", "token", "source"))
        writer.writerows(rows)
