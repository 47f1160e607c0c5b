"""Ad insights: rows computed from ad and day, read at once or through an asynchronous report run."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Any
from urllib.parse import urlencode

from infra.local.graph import nodes
from infra.local.graph.errors import GraphError, invalid
from infra.local.graph.fields import parse
from infra.local.graph.journal import Note
from infra.local.graph.reader import CURSOR_PARAMS, Context, limit_of
from infra.local.graph.rules import Rule
from infra.local.graph.seeded import mix
from infra.local.graph.world import Body, Item, World

FIRST_RUN = 120_000_000_000
MOST_MONTHS = 37
MATURING_DAYS = 28  # the attribution window: until then numbers still grow
MAX_LIMIT = 1000
STUCK_PERCENT = 12
LEVELS = ("account", "campaign", "adset", "ad")
SUMS = ("impressions", "clicks", "inline_link_clicks", "unique_clicks", "reach")
DEFAULT_FIELDS = ("account_id", "campaign_id", "impressions", "spend")
KNOWN_FIELDS = frozenset(
    "account_id account_name account_currency campaign_id campaign_name adset_id adset_name ad_id ad_name date_start "
    "date_stop impressions clicks inline_link_clicks unique_clicks reach spend ctr cpc cpm frequency actions objective "
    "action_values conversions conversion_values cost_per_action_type cost_per_unique_click cpp inline_post_engagement "
    "outbound_clicks purchase_roas unique_actions unique_ctr updated_time created_time video_play_actions "
    "website_ctr buying_type optimization_goal social_spend quality_ranking engagement_rate_ranking unique_link_"
    "clicks_ctr inline_link_click_ctr cost_per_inline_link_click cost_per_unique_inline_link_click full_view_reach "
    "full_view_impressions unique_inline_link_clicks attribution_setting video_30_sec_watched_actions".split()
)
PRESETS = {
    "today": (0, 0), "yesterday": (1, 1), "last_3d": (3, 1), "last_7d": (7, 1), "last_14d": (14, 1),
    "last_28d": (28, 1), "last_30d": (30, 1), "last_90d": (90, 1),
}  # fmt: skip


@dataclass(slots=True)
class Run:
    """One report run; it gets on by being asked, so that no test has to wait."""

    id: str
    account: Item
    params: dict[str, str]
    started: int
    mode: str = ""
    extra_polls: int = 0
    polls: int = 0
    completed: int | None = None


class Reports:
    """The insights of one world."""

    def __init__(self, world: World, note: Note, *, polls: int = 2) -> None:
        self._world = world
        self._note = note
        self._polls = polls
        self._runs: dict[str, Run] = {}
        self._last = FIRST_RUN

    def clear(self) -> None:
        """Forget every run."""
        self._runs.clear()

    def find(self, run_id: str) -> Run | None:
        """Find a report run."""
        return self._runs.get(run_id)

    def create(self, item: Item, params: Mapping[str, str], rules: list[Rule]) -> Body:
        """Start a run; a wrong parameter is refused here, as the API does."""
        kept = {name: value for name, value in params.items() if name not in CURSOR_PARAMS}
        self._rows(item, kept, probe=True)
        mode, extra_polls = "", 0
        for rule in rules:
            if rule.kind.startswith("job_"):
                mode, extra_polls = rule.kind, int(rule.options.get("polls", 2))
        self._note("report", item=item.id, params=kept, mode=mode, extra_polls=extra_polls)
        return {"report_run_id": self.add(item, kept, mode=mode, extra_polls=extra_polls).id}

    def add(self, item: Item, params: dict[str, str], *, mode: str, extra_polls: int) -> Run:
        """Start a run that was not refused."""
        self._last += 1
        run = Run(str(self._last), item, params, int(self._world.clock.now()), mode, extra_polls)
        self._runs[run.id] = run
        return run

    def complete(self, run: Run, polls: int) -> None:
        """Let a run be done at this poll."""
        run.polls, run.completed = polls, int(self._world.clock.now())

    def read(
        self, run: Run, edge: str, context: Context, params: Mapping[str, str], rules: list[Rule], path: str
    ) -> Body:
        """Answer for a run: its status, or a page of its result."""
        if edge == "insights":
            if any(rule.kind == "result_error" for rule in rules) or run.completed is None:
                raise GraphError(2601, subcode=1815107)
            rows = self._rows(run.account, {**run.params, **({"fields": f} if (f := params.get("fields")) else {})})
            return _page(rows, context, params, path)
        if edge:
            raise GraphError(2500, f"Unknown path components: /{edge}")
        run.polls += 1
        if run.mode == "job_not_ready" and run.polls == 1:
            raise _not_there(run.id)
        body = self._status(run)
        if not params.get("fields"):
            return body
        wanted = [field.name for field in parse(params["fields"])]
        if unknown := [name for name in wanted if name not in nodes.KNOWN_FIELDS["run"]]:
            raise GraphError(100, f"(#100) Tried accessing nonexisting field ({unknown[0]}) on node type (AdReportRun)")
        return {name: body[name] for name in ("id", *wanted) if name in body}

    def now(self, item: Item, context: Context, params: Mapping[str, str], path: str) -> Body:
        """Answer insights at once."""
        return _page(self._rows(item, params), context, params, path)

    def truth(self, account: Item, since: date, until: date) -> Iterator[Body]:
        """Give every (ad, day) row of an account with all its fields, whatever was asked for."""
        yield from self._daily(account, account, since, until)

    def _status(self, run: Run) -> Body:
        step, needed = run.polls - (run.mode == "job_not_ready"), max(1, self._polls)
        percent = min(100, 100 * step // needed)
        status = "Job Completed" if step >= needed else "Job Running" if step > 1 or needed == 1 else "Job Started"
        extra: Body = {}
        if run.mode == "job_stuck":
            status, percent = "Job Running", min(percent, STUCK_PERCENT)
        elif run.mode == "job_fail" and step >= needed:
            status, percent = "Job Failed", min(percent, 60)
            extra = {"error_code": 2, "error_message": "The report run failed.", "error_subcode": 1487534,
                     "error_user_title": "Failed", "error_user_msg": "Please try again."}  # fmt: skip
        elif run.mode == "job_100_running" and needed <= step < needed + run.extra_polls:
            status, percent = "Job Running", 100
        if status == "Job Completed" and run.completed is None:
            self._note("report_done", run=run.id, polls=run.polls)
            self.complete(run, run.polls)
        body: Body = {
            "id": run.id,
            "account_id": _account_of(self._world, run.account).removeprefix("act_"),
            "time_ref": run.started,
            "async_status": status,
            "async_percent_completion": percent,
            "is_running": status in {"Job Not Started", "Job Started", "Job Running"},
            **extra,
        }
        return body | ({"time_completed": run.completed} if run.completed is not None else {})

    def _rows(self, item: Item, params: Mapping[str, str], *, probe: bool = False) -> list[Body]:
        since, until = self._range(params)
        level = params.get("level") or item.kind
        if level not in LEVELS:
            raise invalid(f"level must be one of the following values: {', '.join(LEVELS)}", blame="level")
        increment = params.get("time_increment", "all_days")
        if increment not in {"all_days", "monthly"} and not (increment.isdigit() and 1 <= int(increment) <= 90):
            raise invalid("time_increment must be all_days, monthly or 1 to 90", blame="time_increment")
        wanted = _wanted(params)
        if probe:
            return []
        account = self._world.items[_account_of(self._world, item)]
        rows = list(self._daily(account, item, since, until))
        merged = rows if (level, increment) == ("ad", "1") else _merged(rows, level, increment, since, until)
        return [_shown(row, wanted) for row in merged]

    def _range(self, params: Mapping[str, str]) -> tuple[date, date]:
        today = datetime.fromtimestamp(self._world.clock.now(), UTC).date()
        if params.get("time_range"):
            try:
                wanted = json.loads(params["time_range"])
                since, until = date.fromisoformat(wanted["since"]), date.fromisoformat(wanted["until"])
            except (ValueError, KeyError, TypeError):
                raise invalid("param time_range must be {'since':'YYYY-MM-DD','until':'YYYY-MM-DD'}",
                              blame="time_range") from None  # fmt: skip
        else:
            preset = params.get("date_preset", "last_30d")
            if preset == "maximum":
                return today - timedelta(days=MOST_MONTHS * 30), today
            if preset not in PRESETS:
                raise invalid(f"date_preset must be one of {', '.join(PRESETS)}, maximum", blame="date_preset")
            back, end = PRESETS[preset]
            since, until = today - timedelta(days=back), today - timedelta(days=end)
        if since > until:
            raise invalid("param time_range: since must not be after until", blame="time_range")
        if (today.year - since.year) * 12 + today.month - since.month > MOST_MONTHS:
            raise GraphError(3018)
        return since, until

    def _daily(self, account: Item, item: Item, since: date, until: date) -> Iterator[Body]:
        given = self._world.insight_rows.get(account.id)
        if given is not None:
            kept = (row for row in given if since.isoformat() <= str(row["date_start"]) <= until.isoformat())
            yield from (row for row in kept if item.kind == "account" or row.get(f"{item.kind}_id") == item.id)
            return
        today = datetime.fromtimestamp(self._world.clock.now(), UTC).date()
        ads = [ad for ad in self._world.edge(account, "ads").everything() if not self._world.is_pending(ad)]
        bodies = [(ad, self._world.body(ad)) for ad in sorted(ads, key=lambda ad: ad.key)]
        if item.kind != "account":
            bodies = [(ad, body) for ad, body in bodies if item.id in {ad.id, body.get(f"{item.kind}_id")}]
        for day in (since + timedelta(days=offset) for offset in range((min(until, today) - since).days + 1)):
            start = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
            for ad, body in bodies:
                ended = ad.deleted_at is not None and start > ad.deleted_at
                if start + 86_400 > ad.created and not ended and (row := self._row(ad, body, day, today)):
                    yield row

    def _row(self, ad: Item, body: Body, day: date, today: date) -> Body | None:
        bits = mix(self._world.seed, ad.number * 1_000_000 + day.toordinal())
        edited = self._world.insight_edits.get(f"{ad.id}:{day.isoformat()}")
        if bits % 5 == 0 and edited is None:
            return None
        grown = MATURING_DAYS + min(MATURING_DAYS, (today - day).days)
        impressions = (200 + bits % 5_000) * grown // (2 * MATURING_DAYS)
        clicks = impressions * (1 + (bits >> 20) % 6) // 100
        cents = clicks * (7 + (bits >> 30) % 60)
        row: Body = {
            "account_id": ad.parent.removeprefix("act_"),
            "campaign_id": str(body.get("campaign_id", "")),
            "adset_id": str(body.get("adset_id", "")),
            "ad_id": ad.id,
            "ad_name": str(body.get("name", "")),
            "date_start": day.isoformat(),
            "date_stop": day.isoformat(),
            "impressions": impressions,
            "clicks": clicks,
            "inline_link_clicks": clicks * 2 // 3,
            "unique_clicks": clicks * 9 // 10,
            "reach": impressions * 4 // 5,
            "cents": cents,
        }
        return {**_text(row), **(edited or {})}


def _merged(rows: list[Body], level: str, increment: str, since: date, until: date) -> list[Body]:
    """Sum daily ad rows by level and by span of days."""
    names = ("account_id", "campaign_id", "adset_id", "ad_id", "ad_name")
    kept = names[: {"account": 1, "campaign": 2, "adset": 3, "ad": 5}[level]]

    def span(row: Body) -> tuple[str, str]:
        day = date.fromisoformat(row["date_start"])
        if increment == "all_days":
            return since.isoformat(), until.isoformat()
        if increment == "monthly":
            first = day.replace(day=1)
            last = (first + timedelta(days=31)).replace(day=1) - timedelta(days=1)
            return max(first, since).isoformat(), min(last, until).isoformat()
        first = since + timedelta(days=(day - since).days // int(increment) * int(increment))
        return first.isoformat(), min(until, first + timedelta(days=int(increment) - 1)).isoformat()

    def group(row: Body) -> tuple[tuple[str, str], tuple[str, ...]]:
        return span(row), tuple(str(row.get(name, "")) for name in kept)

    merged = []
    for (days, ids), members in groupby(sorted(rows, key=group), key=group):
        chosen = list(members)
        total: Body = dict(zip(kept, ids, strict=True))
        total |= {"date_start": days[0], "date_stop": days[1]}
        total |= {name: sum(int(row.get(name, 0)) for row in chosen) for name in SUMS}
        total["cents"] = sum(round(100 * float(row.get("spend", 0))) for row in chosen)
        merged.append(_text(total))
    return merged


def _text(row: Body) -> Body:
    """Write numbers as the API does: as text, zero left out."""
    cents, clicks, impressions = row.pop("cents"), row["clicks"], row["impressions"]
    if clicks:
        row["ctr"] = f"{100 * clicks / impressions:.6f}"
        row["cpc"] = f"{cents / 100 / clicks:.6f}"
    if impressions:
        row["cpm"] = f"{cents * 10 / impressions:.6f}"
    if row["inline_link_clicks"]:
        row["actions"] = [{"action_type": "link_click", "value": str(row["inline_link_clicks"])}]
    row["spend"] = f"{cents / 100:.2f}"
    for name in SUMS:
        if row[name]:
            row[name] = str(row[name])
        else:
            del row[name]
    return row


def _shown(row: Body, wanted: tuple[str, ...]) -> Body:
    return {name: row[name] for name in (*wanted, "date_start", "date_stop") if name in row}


def _wanted(params: Mapping[str, str]) -> tuple[str, ...]:
    if not params.get("fields"):
        return DEFAULT_FIELDS
    names = tuple(field.name for field in parse(params["fields"]))
    for name in names:
        if name not in KNOWN_FIELDS:
            raise invalid(f"{name} is not valid for fields param. please check the documentation", blame="fields")
    return names


def _page(rows: list[Body], context: Context, params: Mapping[str, str], path: str) -> Body:
    limit = limit_of(params, MAX_LIMIT)
    start = 0
    if params.get("after"):
        start = _index(params["after"], len(rows)) + 1
    elif params.get("before"):
        start = max(0, _index(params["before"], len(rows)) - limit)
    data: list[Any] = rows[start : start + limit]
    body: Body = {"data": data}
    if data:
        last = start + len(data) - 1
        body["paging"] = {"cursors": {"before": _cursor(start), "after": _cursor(last)}}
        query = {name: value for name, value in params.items() if name not in CURSOR_PARAMS}
        query = {"access_token": context.token, **query, "limit": str(limit)}
        if start:
            body["paging"]["previous"] = f"{context.base}/{path}?{urlencode({**query, 'before': _cursor(start)})}"
        if last + 1 < len(rows):
            body["paging"]["next"] = f"{context.base}/{path}?{urlencode({**query, 'after': _cursor(last)})}"
    return body


def _cursor(index: int) -> str:
    return base64.b64encode(str(index).encode()).decode().rstrip("=") + "ZD"


def _index(cursor: str, rows: int) -> int:
    text = cursor.removesuffix("ZD")
    try:
        index = int(base64.b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError):
        raise GraphError(2642) from None
    if not 0 <= index < rows:
        raise GraphError(2642)
    return index


def _account_of(world: World, item: Item) -> str:
    return item.id if item.kind == "account" else item.parent


def _not_there(run_id: str) -> GraphError:
    return GraphError(
        100,
        f"Unsupported get request. Object with ID '{run_id}' does not exist, cannot be loaded due to missing "
        "permissions, or does not support this operation",
        subcode=33,
        type="GraphMethodException",
    )
