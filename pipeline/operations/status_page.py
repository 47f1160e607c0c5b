"""The status page: one HTML document from the status model, rendered on the server. Every value is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from html import escape

from pipeline.operations.alerts import RUN
from pipeline.operations.status import FeedStatus, QueueStatus, Status
from pipeline.operations.status_style import CSS
from pipeline.operations.words import plural, span

REFRESH_SECONDS = 15
ALMOST = 0.98
"""A bar is full only when nothing is missing, however little it is."""

STATES = ("done", "open", "parked", "halted")
STATE_WORDS = {"done": "finished", "open": "at work", "parked": "waiting", "halted": "stopped"}


class Html(str):
    """Text that is HTML already; everything else is escaped where it is put in."""

    __slots__ = ()


def render(status: Status) -> str:
    """Give the whole page."""
    parts = [
        _header(status),
        _verdict(status),
        _tiles(status),
        _section("Completeness", _completeness(status)),
        _section("Chains", _chains(status)),
        _section("Queues", _queues(status)),
        Html('<div class="two">'),
        _section("Waiting or stopped, by reason", _reasons(status)),
        _section("Last errors of unfinished chains", _errors(status)),
        _section("Quarantine", _quarantine(status)),
        _section("Throttles and brakes", _throttles(status)),
        _section("Users with most unfinished work", _busiest(status)),
        _section("Next runs", _next_runs(status)),
        Html("</div>"),
        _footer(status),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">'
        f"<title>{_h(status.environment)}: {_h(status.verdict)}</title><style>{CSS}</style></head>"
        f"<body><main>{''.join(parts)}</main></body></html>"
    )


def render_problem(title: str, text: str) -> str:
    """Give a page for a pipeline that cannot even say how it is."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{_h(title)}</title><style>{CSS}</style></head><body><main><header><h1>Pipeline</h1></header>"
        f'<div class="verdict bad">{_h(title)}<ul><li class="bad"><b>{_h(text)}</b></li></ul></div>'
        "</main></body></html>"
    )


# -------------------------------------------------------------------------------------------------------- sections


def _header(status: Status) -> Html:
    at = f"{status.at:%Y-%m-%d %H:%M:%S} UTC" if status.at else ""
    return _tag("header", _tag("h1", "Pipeline ", _tag("span", status.environment)), _tag("div", at, cls="at"))


def _verdict(status: Status) -> Html:
    alerts = [
        _tag("li", _tag("b", alert.what), _tag(_action(alert.action), alert.action), cls=alert.level.value)
        for alert in status.alerts
    ]
    return _tag("div", status.verdict, _tag("ul", *alerts) if alerts else "", cls=f"verdict {status.level.value}")


def _action(text: str) -> str:
    """What can be typed looks like it."""
    return "code" if text.startswith(RUN) else "span"


def _tiles(status: Status) -> Html:
    feeds = status.feeds
    pages, items = (
        _sum(feed.pages_per_hour for feed in feeds),
        _sum(feed.items_per_hour for feed in feeds),
    )
    tiles = [
        (f"{status.users_active:,}", "active users"),
        (f"{sum(feed.items for feed in feeds):,}", "items"),
        (_rate(items), "items per hour"),
        (_rate(pages), "pages per hour"),
        (f"{sum(feed.open + feed.parked for feed in feeds):,}", "chains under way"),
        (f"{sum(feed.gaps for feed in feeds):,}", "open gaps"),
        (f"{status.outbox_rows:,}", "unsent messages"),
    ]
    return _tag(
        "div", *(_tag("div", _tag("b", value), _tag("span", name), cls="tile") for value, name in tiles), cls="tiles"
    )


def _completeness(status: Status) -> Html:
    rows = [_completeness_row(feed, status.at) for feed in status.feeds]
    heads = (
        "feed",
        "complete scopes",
        "",
        "covered to (UTC)",
        "open gaps",
        "oldest gap",
        "items",
        "items/h",
        "last page",
    )
    return _table(heads, rows, numbers=(4, 6, 7), empty="No feed is enabled.")


def _completeness_row(feed: FeedStatus, now: datetime | None) -> Sequence[object]:
    share = feed.complete / feed.scopes if feed.scopes else 0.0
    if feed.complete < feed.scopes:
        share = min(share, ALMOST)
    of = f"{feed.complete:,} of {feed.scopes:,}{'+' if feed.more_scopes else ''}" if feed.scopes else "nothing yet"
    kind = feed.kind if not feed.parent else f"{feed.kind}, of {feed.parent}"
    gap = _tag("span", span(feed.oldest_gap_seconds), cls="warn-text nb") if feed.oldest_gap_seconds else ""
    return (
        Html(_tag("b", feed.feed) + _tag("div", kind, cls="soft")),
        _tag("span", of, cls="nb"),
        _bar([(share, "done")]) if feed.scopes else "",
        _covered(feed),
        f"{feed.gaps:,}" if feed.gaps else _tag("span", "0", cls="soft"),
        gap,
        f"{feed.items:,}",
        _rate(feed.items_per_hour),
        _ago(feed.last_page_at, now),
    )


def _covered(feed: FeedStatus) -> Html:
    if feed.covered_to is None:
        return _tag("span", "-" if not feed.scopes else "history under way", cls="soft nb")
    return _tag("span", f"{feed.covered_to:%Y-%m-%d %H:%M:%S}", cls="nb")


def _chains(status: Status) -> Html:
    rows = []
    for feed in status.feeds:
        counts = [(getattr(feed, state), state) for state in STATES]
        total = sum(count for count, _ in counts)
        bar = _bar([(count / total, state) for count, state in counts if count]) if total else ""
        cells = [_count(count, "bad-text" if state == "halted" else "") for count, state in counts]
        rows.append(
            (_tag("b", feed.feed), bar, *cells, f"{feed.pages:,}", _rate(feed.pages_per_hour), f"{feed.calls:,}")
        )
    legend = _tag(
        "div",
        *(_tag("span", _tag("i", cls=state), STATE_WORDS[state]) for state in STATES),
        cls="legend",
    )
    heads = ("feed", "", *(STATE_WORDS[state] for state in STATES), "pages", "pages/h", "API calls")
    table = _table(heads, rows, numbers=(2, 3, 4, 5, 6, 7, 8), empty="No feed is enabled.")
    return Html(table + legend)


def _queues(status: Status) -> Html:
    rows = [_queue_row(queue) for queue in status.queues]
    outbox = f"Outbox: {plural(status.outbox_rows, 'unsent row')}, {status.outbox_bytes / 1024:,.0f} KiB"
    if status.outbox_oldest_seconds is not None:
        outbox += f", the oldest for {span(status.outbox_oldest_seconds)}"
    unknown = "" if status.queues_known else " The bus tells no depths here, or did not answer in time."
    heads = ("queue", "waiting", "per minute", "scheduled", "dead letters", "last wait")
    table = _table(heads, rows, numbers=(1, 2, 3, 4, 5), empty="No queue is known.")
    return Html(table + _tag("div", outbox + "." + unknown, cls="legend"))


def _queue_row(queue: QueueStatus) -> Sequence[object]:
    dead = queue.dead_letters
    return (
        queue.queue,
        _known(queue.active),
        _velocity(queue.per_minute),
        _known(queue.scheduled),
        _tag("span", f"{dead:,}", cls="bad-text") if dead else _known(dead),
        span(queue.wait_seconds) if queue.wait_seconds is not None else _soft("unknown"),
    )


def _reasons(status: Status) -> Html:
    rows = [
        (
            one.feed,
            _tag("span", STATE_WORDS[one.state], cls="bad-text" if one.state == "halted" else ""),
            one.reason or "-",
            f"{one.chains:,}",
            _until(one.next_at, status.at),
        )
        for one in status.waiting
    ]
    heads = ("feed", "state", "reason", "chains", "first due")
    return _table(heads, rows, numbers=(3,), empty="Nothing waits.")


def _errors(status: Status) -> Html:
    rows = [(one.feed, one.error, f"{one.chains:,}", _ago(one.last_at, status.at)) for one in status.errors]
    return _table(("feed", "answer", "chains", "last"), rows, numbers=(2,), empty="No errors.")


def _quarantine(status: Status) -> Html:
    rows = [
        (one.feed or _soft("unreadable"), one.reason, one.kind, f"{one.rows:,}", _ago(one.oldest_at, status.at))
        for one in status.quarantine
    ]
    return _table(("feed", "reason", "kind", "rows", "oldest"), rows, numbers=(3,), empty="Nothing is in quarantine.")


def _throttles(status: Status) -> Html:
    rows: list[Sequence[object]] = [
        ("call budget", one.budget, _until(one.until, status.at)) for one in status.throttles
    ]
    rows += [("brake", f"{'all feeds' if one.feed == '*' else one.feed}: {one.reason}", "") for one in status.brakes]
    return _table(("what", "which", "until"), rows, empty="No budget is used up, no brake is on.")


def _busiest(status: Status) -> Html:
    rows = [(one.user, f"{one.chains:,}", _count(one.halted, "bad-text")) for one in status.busiest]
    return _table(("user", "unfinished chains", "stopped"), rows, numbers=(1, 2), empty="Nobody has unfinished work.")


def _next_runs(status: Status) -> Html:
    rows: list[Sequence[object]] = [
        (feed.feed, _tag("code", feed.schedule), _until(feed.next_run, status.at), _last_run(feed, status.at))
        for feed in status.feeds
    ]
    rows += [(one.timer, _tag("code", one.schedule), _until(one.next_run, status.at), "") for one in status.timers]
    return _table(("timer", "schedule (UTC)", "next", "last"), rows, empty="Nothing is scheduled.")


def _last_run(feed: FeedStatus, now: datetime | None) -> Html:
    if feed.last_run is None:
        return _soft("never")
    users = "fanning out" if feed.last_run_users is None else plural(feed.last_run_users, "user")
    return Html(_ago(feed.last_run, now) + _tag("div", users, cls="soft"))


def _footer(status: Status) -> Html:
    over = status.rates_over_seconds
    rates = f"Rates over the last {span(over)}." if over else "Rates appear once two samples stand a while apart."
    disabled = f" {plural(status.users_disabled, 'user')} disabled." if status.users_disabled else ""
    return _tag("footer", f"{rates}{disabled} Schema {status.revision}. The page renews itself. Data: ?format=json")


# ---------------------------------------------------------------------------------------------------------- pieces


def _h(value: object) -> str:
    return value if isinstance(value, Html) else escape(str(value))


def _tag(name: str, *content: object, cls: str = "") -> Html:
    attribute = f' class="{escape(cls)}"' if cls else ""
    return Html(f"<{name}{attribute}>{''.join(_h(part) for part in content)}</{name}>")


def _section(title: str, content: Html) -> Html:
    return _tag("section", _tag("h2", title), content)


def _table(
    heads: Sequence[str], rows: Sequence[Sequence[object]], *, numbers: Sequence[int] = (), empty: str = ""
) -> Html:
    if not rows:
        return _tag("p", empty, cls="empty")
    head = _tag("tr", *(_tag("th", text, cls="n" if i in numbers else "") for i, text in enumerate(heads)))
    body = [
        _tag("tr", *(_tag("td", cell, cls="n" if i in numbers else "") for i, cell in enumerate(row))) for row in rows
    ]
    return _tag("table", _tag("thead", head), _tag("tbody", *body))


def _bar(shares: Sequence[tuple[float, str]]) -> Html:
    parts = "".join(f'<i class="{escape(name)}" style="width:{share * 100:.2f}%"></i>' for share, name in shares)
    return Html(f'<div class="bar">{parts}</div>')


def _soft(text: str) -> Html:
    return _tag("span", text, cls="soft")


def _count(count: int, cls: str = "") -> Html:
    return _tag("span", f"{count:,}", cls=cls if count else "soft")


def _known(count: int | None) -> object:
    return _soft("unknown") if count is None else f"{count:,}"


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _rate(value: float | None) -> object:
    return _soft("-") if value is None else f"{value:,.0f}"


def _velocity(value: float | None) -> Html:
    if value is None:
        return _soft("-")
    if abs(value) < 1:
        return _soft("steady")
    arrow, cls = ("▲", "warn-text") if value > 0 else ("▼", "good-text")
    return _tag("span", f"{arrow} {abs(value):,.0f}", cls=cls)


def _ago(when: datetime | None, now: datetime | None) -> Html:
    if when is None or now is None:
        return _soft("-")
    seconds = (now - when).total_seconds()
    return _tag("span", "now" if seconds < 1 else f"{span(seconds)} ago", cls="nb")


def _until(when: datetime | None, now: datetime | None) -> Html:
    if when is None or now is None:
        return _soft("-")
    seconds = (when - now).total_seconds()
    return _tag("span", "now" if seconds < 1 else f"in {span(seconds)}", cls="nb")
