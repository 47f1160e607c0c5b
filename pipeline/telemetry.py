"""
Metrics and spans through the OpenTelemetry API. Exporters are somebody else's business: without one, this costs little.

`METRICS` is the table of all metrics; an instrument that is not in it does not exist.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

from opentelemetry import metrics, trace

from pipeline.redaction import redact

MetricName = Literal[
    "pipeline.ticks",
    "pipeline.messages",
    "pipeline.pages",
    "pipeline.items",
    "pipeline.api.calls",
    "pipeline.api.duration",
    "pipeline.page.duration",
    "pipeline.commit.duration",
    "pipeline.outcomes",
    "pipeline.parked",
    "pipeline.halted",
    "pipeline.stale",
    "pipeline.lost",
    "pipeline.rerings",
    "pipeline.outbox.sent",
    "pipeline.outbox.rows",
    "pipeline.quarantined",
    "pipeline.replayed",
    "pipeline.dedupe.lookups",
    "pipeline.dedupe.bypassed",
    "pipeline.freshness",
    "pipeline.subscriber.items",
]


class Metric(NamedTuple):
    """One row of the table."""

    name: MetricName
    kind: Literal["counter", "histogram"]
    unit: str
    attributes: tuple[str, ...]
    meaning: str


METRICS: tuple[Metric, ...] = (
    Metric("pipeline.ticks", "counter", "{user}", ("feed",), "users that a scheduler's tick fanned out to"),
    Metric("pipeline.messages", "counter", "{message}", ("queue", "outcome"), "messages settled by a handler"),
    Metric("pipeline.pages", "counter", "{page}", ("feed", "lane"), "pages committed"),
    Metric(
        "pipeline.items",
        "counter",
        "{item}",
        ("feed", "outcome"),
        "items received, by new, changed, duplicate or quarantined",
    ),
    Metric("pipeline.api.calls", "counter", "{call}", ("source", "outcome"), "calls to a source's API"),
    Metric("pipeline.api.duration", "histogram", "s", ("source",), "time of one fetch, quick retries included"),
    Metric("pipeline.page.duration", "histogram", "s", ("feed",), "time from look to commit of one page"),
    Metric("pipeline.commit.duration", "histogram", "s", ("feed",), "time of a page's transaction"),
    Metric("pipeline.outcomes", "counter", "{message}", ("feed", "outcome"), "how work on a doorbell ended"),
    Metric("pipeline.parked", "counter", "{chain}", ("feed", "reason"), "chains parked"),
    Metric("pipeline.halted", "counter", "{chain}", ("feed", "reason"), "chains halted: look at each"),
    Metric("pipeline.stale", "counter", "{message}", ("feed",), "doorbells that were not live any more"),
    Metric("pipeline.lost", "counter", "{message}", ("feed",), "compare-and-sets lost to a twin"),
    Metric("pipeline.rerings", "counter", "{message}", ("feed",), "doorbells rung again by the watchdog"),
    Metric("pipeline.outbox.sent", "counter", "{message}", ("by",), "outbox rows sent, by handler or relay"),
    Metric("pipeline.outbox.rows", "histogram", "{row}", (), "unsent outbox rows when the relay looked"),
    Metric("pipeline.quarantined", "counter", "{row}", ("feed", "reason"), "new rows in quarantine"),
    Metric("pipeline.replayed", "counter", "{row}", ("feed", "outcome"), "rows of quarantine that a person replayed"),
    Metric("pipeline.dedupe.lookups", "counter", "{item}", ("hit",), "ids asked of the cache"),
    Metric("pipeline.dedupe.bypassed", "counter", "{page}", (), "pages worked without the cache because it failed"),
    Metric("pipeline.freshness", "histogram", "s", ("feed",), "age of a page's newest new item at its commit"),
    Metric("pipeline.subscriber.items", "counter", "{item}", ("subscriber", "outcome"), "items a subscriber took"),
)

_meter = metrics.get_meter("pipeline")
_tracer = trace.get_tracer("pipeline")
_instruments: dict[str, Any] = {
    metric.name: (
        _meter.create_counter(metric.name, metric.unit, metric.meaning)
        if metric.kind == "counter"
        else _meter.create_histogram(metric.name, metric.unit, metric.meaning)
    )
    for metric in METRICS
}


def count(name: MetricName, amount: float = 1, **attributes: str) -> None:
    """Add to a counter."""
    if amount:
        _instruments[name].add(amount, attributes)


def record(name: MetricName, value: float, **attributes: str) -> None:
    """Record one value of a histogram."""
    _instruments[name].record(value, attributes)


@contextmanager
def span(name: str, attributes: Mapping[str, str | int] | None = None) -> Iterator[None]:
    """Run a block in a span; our attributes begin with `pipeline.`, for exporters drop the standard ones."""
    shown = {
        f"pipeline.{key}": redact(value) if isinstance(value, str) else value
        for key, value in (attributes or {}).items()
    }
    with _tracer.start_as_current_span(
        name, attributes=shown, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield
        except Exception as error:
            _note(current, error)
            raise


def _note(current: trace.Span, error: Exception) -> None:
    """Do what a span does by itself with an exception, without secrets in its text."""
    if not current.is_recording():
        return
    kind, message = type(error).__qualname__, redact(str(error))
    stack = redact("".join(traceback.format_exception(error)))
    told = {"exception.type": kind, "exception.message": message, "exception.stacktrace": stack}
    current.add_event("exception", told)
    current.set_status(trace.Status(trace.StatusCode.ERROR, f"{kind}: {message}"))


def quiet_libraries() -> None:
    """Keep libraries from logging URLs and frames: httpx logs every URL at INFO."""
    for name in ("httpx", "httpcore", "azure", "uamqp", "aiohttp", "urllib3"):
        logging.getLogger(name).setLevel(logging.WARNING)
