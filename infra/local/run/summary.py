"""What is said at the end: against the truth, what it cost, where the data lies, and how to look at it."""

from __future__ import annotations

import os
from pathlib import Path

from infra.local.run.delivered import table
from infra.local.run.places import Places
from infra.local.run.session import Report

ERRORS, ERROR_CHARACTERS = 5, 200


def text(report: Report, places: Places) -> str:
    """Give the summary."""
    lines = [
        "",
        *_truth(report),
        *_errors(report, places),
        "",
        *_cost(report),
        "",
        *_where(report, places),
        "",
        *_look(report, places),
    ]
    return "\n".join(lines)


def _truth(report: Report) -> list[str]:
    verdict = report.verdict
    if verdict is None:
        return ["No verdict: the run did not come so far."]
    head = "The subscribers hold the truth." if report.matched else "NOT the truth: " + verdict.text()
    lines = [
        head,
        f"  {verdict.arrived:,} of {verdict.expected:,} items in their latest form"
        f"   lost {len(verdict.lost)}   twice {len(verdict.twice)}   outdated {len(verdict.different)}",
        f"  analytics tables and lake {'agree' if not report.tables_differ else f'differ in {report.tables_differ}'}"
        f"   in quarantine {_quarantined(report)} (the API spoils {verdict.malformed})"
        f"   dead letters {report.picture.dead_letters}",
        f"  {report.status.get('verdict', '')}",
    ]
    if report.unchecked:
        lines.append(f"  not compared, for the simulators do not tell their truth: {', '.join(report.unchecked)}")
    return lines


def _errors(report: Report, places: Places) -> list[str]:
    """Show the newest errors of the host when something is wrong: that is where whoever looks begins."""
    log = places.log("host")
    if report.matched or not log.exists():
        return []
    errors = [line for line in log.read_text(errors="replace").splitlines() if " ERROR " in line]
    return [
        f"  {len(errors)} errors in {_short(log)}",
        *(f"    {line[:ERROR_CHARACTERS]}" for line in errors[-ERRORS:]),
    ]


def _cost(report: Report) -> list[str]:
    picture, kinds = report.picture, report.operations.get("kinds", {})
    faults = sum(picture.faults.values())
    first = "-" if report.first_page_seconds is None else f"{report.first_page_seconds:.1f} s"
    saved = max(0, report.paging_anew - picture.calls)
    counted = ", ".join(f"{name} {count:,}" for name, count in sorted(kinds.items()))
    return [
        f"  {picture.seconds:.0f} s in all; ready after {report.ready_seconds:.1f} s, first page after {first}",
        f"  {picture.calls:,} API calls; paging everything anew at each order takes {report.paging_anew:,}"
        + (f": {saved:,} saved" if saved else ""),
        f"  {picture.throttled:,} throttled answers and {faults:,} faults survived; Redis: {report.cache}",
        f"  {report.operations.get('total', 0):,} bus operations ({counted})",
    ]


def _where(report: Report, places: Places) -> list[str]:
    tables = ", ".join(table(line.feed) for line in report.picture.feeds)
    return [
        "Where the data lies",
        f"  tables     {_short(places.database)}: {tables}",
        f"  marts      {', '.join(report.marts) or 'none'}",
        f"  lake       {_short(places.lake)}: {report.lake_files:,} files, {report.lake_bytes / 1e6:.1f} MB",
        f"  logs       {_short(places.folder / 'logs')}",
    ]


def _look(report: Report, places: Places) -> list[str]:
    python, database = ".venv/bin/python", _short(places.database)
    mart = "mart_posts_per_day" if "mart_posts_per_day" in report.marts else "data_posts"
    query = " ".join(("SELECT * FROM", mart, "LIMIT 10"))
    return [
        "Look at it",
        f"  {python} -m infra.local.run.query {database} '{query}'",
        f"  find {_short(places.lake)} -name '*.jsonl.gz' | head -1 | xargs gzip -dc | head -2",
        f"  (set -a; . {_short(places.settings)}; {python} -m pipeline status)",
    ]


def _quarantined(report: Report) -> int:
    return sum(int(row["rows"]) for row in report.status.get("quarantine", ()))


def _short(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return os.fspath(path)
