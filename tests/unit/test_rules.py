"""Rules that a reviewer would otherwise have to remember, read off the source."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline.feeds import load_feeds
from pipeline.settings import Settings

ROOT = Path(__file__).parents[2]
PRODUCT = [*sorted((ROOT / "pipeline").rglob("*.py")), ROOT / "function_app.py"]


class Found(NamedTuple):
    """A place that a rule looks at."""

    file: str
    line: int
    text: str


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _look(rule: Callable[[ast.AST], Iterator[ast.AST]], *, outside: set[str] = frozenset()) -> list[Found]:  # type: ignore[assignment]  # a set that nobody changes
    """Apply a rule to every file of the product but those named (a folder ends in a slash)."""
    found = []
    for path in PRODUCT:
        name = _name(path)
        if any(name == one or (one.endswith("/") and name.startswith(one)) for one in outside):
            continue
        found += [Found(name, node.lineno, ast.unparse(node)[:100]) for node in rule(ast.parse(path.read_text()))]  # type: ignore[attr-defined]  # statements and expressions have lines
    return found


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def _dotted(node: ast.AST) -> str:
    return ast.unparse(node) if isinstance(node, ast.Name | ast.Attribute) else ""


# ------------------------------------------------------------------------------------------------------- sending


def _bus_sends(tree: ast.AST) -> Iterator[ast.AST]:
    for call in _calls(tree):
        if not isinstance(call.func, ast.Attribute):
            continue
        method, receiver = call.func.attr, _dotted(call.func.value).rpartition(".")[2].lstrip("_")
        flushing = method == "send" and receiver in ("flusher", "self")
        if method in ("send", "send_messages", "schedule_messages") and not flushing:
            yield call


def test_only_the_bus_and_its_three_callers_send() -> None:
    """A message sent beside the outbox may leave though its transaction rolled back."""
    callers = {"pipeline/storage/flush.py", "pipeline/schedulers/fan_out.py", "pipeline/miners/copies.py"}

    assert _look(_bus_sends, outside={"pipeline/bus/", *callers}) == []
    assert {one.file for one in _look(_bus_sends, outside={"pipeline/bus/"})} == callers


# ----------------------------------------------------------------------------------------------------------- SQL

_SQL = re.compile(
    r"(?i)\b(select\s|insert\s+into|update\s+\w+\s+set|delete\s+from|alter\s+table"
    r"|create\s+(or\s|view|table)|from\s+\w+\s+where)"
)

_OUTSIDE = re.compile(
    r"(?i)\b(user_id|user|scope|cursor|token|raw|value|args|request)\b(?!s)"
    r"|\b(item|row|message|key|chain|received|candidate|line)\."
)
"""Names that values from outside have here; our own columns, tables and dialects have others."""


def _built_sql(tree: ast.AST) -> Iterator[ast.JoinedStr]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            said = "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
            if _SQL.search(said) and said.strip() and said.isascii():
                yield node


def _sql_of_outside_values(tree: ast.AST) -> Iterator[ast.AST]:
    for node in _built_sql(tree):
        for part in node.values:
            if isinstance(part, ast.FormattedValue) and _OUTSIDE.search(ast.unparse(part.value)):
                yield node


def _other_built_sql(tree: ast.AST) -> Iterator[ast.AST]:
    for call in _calls(tree):
        if _dotted(call.func).rpartition(".")[2] in ("text", "exec_driver_sql") and call.args:
            for node in ast.walk(call.args[0]):
                formatted = isinstance(node, ast.Call) and _dotted(node.func).endswith(".format")
                if formatted or (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod)):
                    yield call


def test_no_sql_is_built_of_values_from_outside() -> None:
    """A user's id in a statement's text is the oldest hole there is; values go in parameters."""
    assert _look(_sql_of_outside_values) == []
    assert _look(_other_built_sql) == []


def test_sql_text_is_built_in_the_storage_layer_only() -> None:
    """One place to review."""
    assert _look(_built_sql, outside={"pipeline/storage/"}) == []


# --------------------------------------------------------------------------------------------------- compression


def _raw_decompression(tree: ast.AST) -> Iterator[ast.AST]:
    for call in _calls(tree):
        name = _dotted(call.func)
        if name.rpartition(".")[2] in ("decompress", "decompressobj", "GzipFile") or name in (
            "gzip.open",
            "zlib.decompress",
        ):
            yield call


def test_nothing_is_decompressed_without_a_bound() -> None:
    """A kilobyte can claim a gigabyte. `compression` bounds bodies, the HTTP client the stream of an answer."""
    assert _look(_raw_decompression, outside={"pipeline/compression.py", "pipeline/sources/http.py"}) == []


# -------------------------------------------------------------------------------------------------------- sleeps

SLEEPS = {
    "pipeline/sources/calls.py": "tenacity's pause between quick retries, at most a second",
    "pipeline/storage/database.py": "between runs of one unit, at most 0.3 s, in the SQL pool's thread",
    "pipeline/operations/dead_letters.py": "before giving a dead letter back: the trigger redelivers at once",
}


def _sleeps(tree: ast.AST) -> Iterator[ast.AST]:
    return (
        call for call in _calls(tree) if _dotted(call.func) in ("asyncio.sleep", "time.sleep", "sleep", "self._sleep")
    )


def test_no_handler_sleeps() -> None:
    """A sleep holds a message's lock and one of sixteen slots; who must wait is parked."""
    assert {one.file for one in _look(_sleeps)} <= SLEEPS.keys()


# -------------------------------------------------------------------------------------------------------- tokens


def _tokens_in_urls(tree: ast.AST) -> Iterator[ast.AST]:
    forbidden = re.compile(r"(?i)access_token\s*=|[?&](token|key)=")
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr) and forbidden.search(ast.unparse(node)):
            yield node
        if isinstance(node, ast.Dict):
            names = [key.value for key in node.keys if isinstance(key, ast.Constant)]
            if {"access_token", "token"} & {name for name in names if isinstance(name, str)}:
                yield node


def test_no_token_stands_in_a_url_or_its_parameters() -> None:
    """Proxies, access logs and spans keep URLs; a token goes into a header. (appsecret_proof is a keyed hash.)"""
    leases = "pipeline/storage/leases.py"  # its `token` is the fencing number

    assert _look(_tokens_in_urls, outside={leases}) == []


# --------------------------------------------------------------------------------------------------- environment


def _environment(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _dotted(node) in ("os.environ", "os.getenv", "os.environb"):
            yield node


def test_only_settings_and_the_roots_read_the_environment() -> None:
    """A setting that is read elsewhere is in no table, has no check and cannot be given in a test."""
    roots = {"pipeline/settings.py", "pipeline/failpoints.py", "pipeline/bootstrap.py", "pipeline/commands/base.py"}

    assert _look(_environment, outside=roots) == []


# --------------------------------------------------------------------------------------------- names in one place

FEEDS = load_feeds()


def _docstrings(tree: ast.AST) -> set[int]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            found.add(id(node.value))
    return found


def _feed_names(tree: ast.AST) -> Iterator[ast.AST]:
    named = re.compile(rf"^({'|'.join(map(re.escape, FEEDS))})(-(mining|data|parser)-.*)?$")
    told = _docstrings(tree)
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) and id(node) not in told else None
        if isinstance(text, str) and named.match(text):
            yield node


def test_a_feed_is_named_in_its_own_file_only() -> None:
    """A feed is one file; marts are reports over the feeds that they name."""
    assert _look(_feed_names, outside={"pipeline/feeds/", "pipeline/storage/marts/"}) == []


GRAPH = {
    "pipeline/settings.py": "its settings",
    "pipeline/bootstrap.py": "its settings, handed to the source",
    "pipeline/sources/__init__.py": "the list of sources",
    "pipeline/topology.py": "its settings at a desk",
    "pipeline/commands/users.py": "the source that a token is for, unless told otherwise",
    "pipeline/operations/users.py": "likewise",
    "pipeline/operations/why.py": "the environment's one user",
    "pipeline/operations/doctor.py": "the environment's one token",
    "pipeline/sources/http.py": "the product's own name in User-Agent",
    "pipeline/sources/addresses.py": "an example in an error",
    "pipeline/processors/data_messages.py": "a field of the series' message",
    "pipeline/contracts.py": "a field of the series' message",
}
"""Where Graph is named outside its source and feeds, each with the reason."""


def _graph(tree: ast.AST) -> Iterator[ast.AST]:
    told = _docstrings(tree)
    for node in ast.walk(tree):
        said = ""
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            said = node.value
        elif isinstance(node, ast.Name | ast.Attribute):
            said = _dotted(node)
        if re.search(r"(?i)(?<!para)graph(?!ic)|facebook", said):
            yield node


def test_nothing_but_its_source_and_feeds_names_graph() -> None:
    """Another API is another source; whatever else knew Graph would have to change with it."""
    graph_files = {_name(path) for path in (ROOT / "pipeline" / "sources").glob("graph*.py")}
    elsewhere = {one.file for one in _look(_graph, outside={*graph_files, "pipeline/feeds/"})}

    assert elsewhere <= GRAPH.keys(), sorted(elsewhere - GRAPH.keys())


def _azure_functions(tree: ast.AST) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(alias.name.startswith("azure.functions") for alias in node.names):
            yield node
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("azure.functions"):
            yield node


def test_only_the_functions_know_the_functions_host() -> None:
    """Everything below is run by tests and commands without a host."""
    assert _look(_azure_functions, outside={"function_app.py", "pipeline/functions.py"}) == []


# ------------------------------------------------------------------------------------------------- time of a page

SQL_SECONDS, SEND_SECONDS = 10, 5
"""What a page's transaction and its sends may take at worst; the API's part is a setting."""


def test_a_page_at_worst_stays_under_the_lock() -> None:
    """A page that outlives its lock is fetched twice."""
    from pipeline.storage import database

    settings = Settings()

    assert settings.api_total_seconds + SQL_SECONDS + SEND_SECONDS < settings.lock_seconds
    assert settings.api_read_seconds <= settings.api_total_seconds
    assert settings.message_time_budget_seconds < settings.lock_seconds
    assert database.POOL_WAIT_SECONDS <= SQL_SECONDS


def test_the_last_page_of_a_message_ends_before_its_lock() -> None:
    """No page is begun after the time budget; the one begun just before it must end in time, too."""
    settings = Settings()
    worst = settings.message_time_budget_seconds + settings.api_total_seconds + SQL_SECONDS + SEND_SECONDS

    assert worst <= settings.lock_seconds


# -------------------------------------------------------------------------------------------------- rules see


@pytest.mark.parametrize(
    ("rule", "source"),
    [
        (_bus_sends, "self._bus.send('q', [])"),
        (_bus_sends, "sender.send_messages(x)"),
        (_sql_of_outside_values, "f'SELECT a FROM b WHERE c = {user_id}'"),
        (_sql_of_outside_values, "f'DELETE FROM b WHERE c = {key.user_id}'"),
        (_other_built_sql, "sa.text('SELECT %s' % name)"),
        (_other_built_sql, "c.exec_driver_sql('SELECT {}'.format(name))"),
        (_raw_decompression, "zlib.decompress(body)"),
        (_raw_decompression, "gzip.open(path)"),
        (_sleeps, "await_ = asyncio.sleep(1)"),
        (_tokens_in_urls, "f'{url}?access_token={token}'"),
        (_tokens_in_urls, "params = {'access_token': token}"),
        (_environment, "os.environ['X']"),
        (_feed_names, "queue = 'posts-mining-queue'"),
        (_graph, "url = 'https://graph.facebook.com'"),
        (_azure_functions, "import azure.functions as func"),
    ],
)
def test_each_rule_sees_what_it_forbids(rule: Callable[[ast.AST], Iterator[ast.AST]], source: str) -> None:
    """A rule that finds nothing may be looking at nothing."""
    assert list(rule(ast.parse(source)))
