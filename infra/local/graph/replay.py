"""Lets happen again what a journal tells, when a simulator starts on the state of an earlier one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from infra.local.graph.control import REFUSALS
from infra.local.graph.http_server import Request
from infra.local.graph.journal import BadState, Event

if TYPE_CHECKING:
    from infra.local.graph.app import GraphApp


def repeat(app: GraphApp, event: Event) -> None:
    """Make one change again. What was refused in part is refused in part again. Raises BadState."""
    try:
        _repeat(app, event)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise BadState(f"the state file tells of {event['do']!r} in a way that cannot be: {error!r}") from error


def _repeat(app: GraphApp, event: Event) -> None:
    match event["do"]:
        case "control":
            app.control.handle(Request(event["method"], event["target"], {}, orjson.dumps(event["body"])))
        case "reveal":
            app.world.reveal()
        case "step":
            _step(app, event)
        case "exchange":
            app.tokens.add_long_lived(event["user"])
        case "report":
            item = app.world.items[event["item"]]
            app.reports.add(item, event["params"], mode=event["mode"], extra_polls=event["extra_polls"])
        case "report_done":
            if run := app.reports.find(event["run"]):
                app.reports.complete(run, event["polls"])
        case "served_malformed":
            app.served_malformed.update(event["items"])
        case unknown:
            raise BadState(f"the state file tells of {unknown!r}, which this simulator does not know")


def _step(app: GraphApp, event: Event) -> None:
    item = app.world.find(event["cursor_item"]) if event["cursor_item"] else None
    try:
        app.script.make_step(event["number"], item)
    except REFUSALS:
        return  # as it was the first time
