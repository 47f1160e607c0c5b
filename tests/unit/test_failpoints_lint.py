"""
Every boundary to the outside has a failpoint: the store's commit, the bus, the cache, the source, the lake.

A boundary without one is a place where nobody has ever killed us. The rule: the function that makes the call passes a
failpoint, or each of its callers in the module does.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "pipeline"
DEEPEST = 4

EXEMPT = {"storage/migrate.py", "storage/migrations"}
"""A deploy step, run by a person and once; alembic makes it whole or not at all."""

ALWAYS = {"commit", "send_messages", "upload_blob"}
"""Calls that cross a boundary wherever they stand."""

RECEIVERS = {"redis": {"client", "_client", "pipe"}, "aiohttp": {"session", "_session"}, "httpx": {"client", "_client"}}
"""In a module that imports the library: awaited calls of these names cross a boundary."""

NOT_CROSSING = {"aclose", "close"}

SENDERS = {"storage/flush.py", "schedulers/fan_out.py", "miners/copies.py", "bus/service_bus.py"}
"""Only `bus/` sends, called from three places: the outbox flush, the fan-out, the scheduled copy."""


class Module:
    """One file: its functions, who calls whom, and which of them pass a failpoint."""

    def __init__(self, source: str, *, network: bool = True) -> None:
        self.tree = ast.parse(source)
        self.libraries = {library for library in RECEIVERS if library in _imports(self.tree)} if network else set()
        self.functions: dict[str, ast.AST] = {}
        self.callers: dict[str, set[str]] = {}
        for name, function in _functions(self.tree):
            self.functions[name] = function
            for called in _calls(function):
                self.callers.setdefault(_last(called.func), set()).add(name)

    def unguarded(self) -> list[str]:
        """Give the boundary calls without a failpoint, as `function: call`."""
        found = []
        for name, function in self.functions.items():
            for call in _own_calls(function):
                if self._crosses(call) and not self._guarded(name, DEEPEST):
                    found.append(f"{name}: {ast.unparse(call.func)}")
        return found

    def _crosses(self, call: ast.Call) -> bool:
        name = _last(call.func)
        if name in NOT_CROSSING or not isinstance(call.func, ast.Attribute):
            return False
        receiver = _last(call.func.value)
        if name == "execute" and receiver != "pipe":
            return False
        if name == "commit" and getattr(call, "awaited", False):
            return False  # a method of ours: the store's own commit is not a coroutine
        return name in ALWAYS or (
            getattr(call, "awaited", False) and any(receiver in RECEIVERS[library] for library in self.libraries)
        )

    def _guarded(self, name: str, depth: int) -> bool:
        if any(_last(call.func) == "failpoint" for call in _calls(self.functions[name])):
            return True
        callers = self.callers.get(name.rpartition(".")[2], set()) - {name}
        return bool(depth and callers) and all(self._guarded(caller, depth - 1) for caller in callers)


def _imports(tree: ast.AST) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


def _functions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield prefix + node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{prefix}{node.name}.")


def _calls(function: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(function) if isinstance(node, ast.Call)]


def _own_calls(function: ast.AST) -> list[ast.Call]:
    """Give a function's calls, those that are awaited (or entered, or iterated) marked as such."""
    for node in ast.walk(function):
        waited = []
        if isinstance(node, ast.Await):
            waited = [node.value]
        elif isinstance(node, ast.AsyncWith):
            waited = [item.context_expr for item in node.items]
        elif isinstance(node, ast.AsyncFor):
            waited = [node.iter]
        for one in waited:
            if isinstance(one, ast.Call):
                one.awaited = True  # type: ignore[attr-defined]  # a mark of ours on the tree
    return _calls(function)


def _last(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _files() -> list[Path]:
    every = sorted(path for path in ROOT.rglob("*.py") if "__pycache__" not in path.parts)
    return [path for path in every if not any(str(path.relative_to(ROOT)).startswith(name) for name in EXEMPT)]


@pytest.mark.parametrize("path", _files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_boundary_has_a_failpoint(path: Path) -> None:
    """What no test can interrupt is what the first bad night interrupts."""
    assert Module(path.read_text(), network=path.relative_to(ROOT).parts[0] in ("sources", "storage")).unguarded() == []


def test_only_three_places_send() -> None:
    """A message that leaves from anywhere else may leave though its transaction rolled back."""
    senders = set()
    for path in _files():
        for call in _calls(ast.parse(path.read_text())):
            if _last(call.func) == "send" and isinstance(call.func, ast.Attribute):
                receiver = _last(call.func.value)
                if receiver.endswith("bus") or receiver == "sender":
                    senders.add(str(path.relative_to(ROOT)))
    assert senders <= SENDERS


@pytest.mark.parametrize(
    "source",
    [
        "def write(c):\n    c.commit()",
        "async def send(sender):\n    await sender.send_messages([])",
        "import aiohttp\nasync def get(session):\n    async with session.request('GET', 'u'):\n        pass",
        "from redis.asyncio import Redis\nasync def get(client):\n    return await client.mget([])",
        "def _a(c):\n    c.commit()\ndef b(c):\n    failpoint('x')\n    _a(c)\ndef d(c):\n    _a(c)",
    ],
)
def test_the_lint_sees_a_boundary_without_one(source: str) -> None:
    """A lint that finds nothing may be looking at nothing."""
    assert Module(source).unguarded()


@pytest.mark.parametrize(
    "source",
    [
        "def write(c):\n    failpoint('store.before')\n    c.commit()",
        "def _commit(c):\n    c.commit()\ndef write(c):\n    failpoint('x')\n    _commit(c)",
        "from redis.asyncio import Redis\nasync def close(client):\n    await client.aclose()",
    ],
)
def test_the_lint_accepts_a_boundary_with_one(source: str) -> None:
    """Or people would write failpoints to please it."""
    assert Module(source).unguarded() == []
