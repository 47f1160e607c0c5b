"""
Build every Azure Function from the feeds. Importing this opens nothing: `bootstrap` is imported at the first call.

Each trigger has a maker of its own, for a decorator in a bare loop would bind the last feed to all of them. Bodies are
taken as bytes: without the data type the extension decodes them as UTF-8, which destroys what is compressed.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import azure.functions as func

from pipeline.bus.messages import Received
from pipeline.chains.protocol import MICROS
from pipeline.feeds import load_feeds
from pipeline.feeds.base import Feed
from pipeline.redaction import redacted
from pipeline.settings import CONNECTION, Settings, load
from pipeline.subscribers import load_subscribers
from pipeline.subscribers.base import Subscriber
from pipeline.subscribers.receive import receive

if TYPE_CHECKING:
    from pipeline.bootstrap import Pipeline
    from pipeline.operations.web import Answer

log = logging.getLogger(__name__)

DEAD_LETTERS = "$DeadLetterQueue"


def build_blueprint(settings: Settings | None = None) -> func.Blueprint:
    """Give the blueprint with all functions of the enabled feeds; reads settings, opens nothing."""
    settings = settings or load()
    feeds = load_feeds(settings.feeds_package, enabled=settings.enabled_feeds, sources=settings.configured_sources)
    blueprint = func.Blueprint()  # type: ignore[no-untyped-call]  # the library leaves it untyped
    for feed in feeds.values():
        _add_scheduler(blueprint, feed)
        _add_miner(blueprint, feed, feed.queue, f"{_python_name(feed)}_miner")
        _add_work_dead_letters(blueprint, feed.queue, f"{_python_name(feed)}_dead_letters")
        if feed.parser_queue:
            _add_miner(blueprint, feed, feed.parser_queue, f"{_python_name(feed)}_parser")
            _add_work_dead_letters(blueprint, feed.parser_queue, f"{_python_name(feed)}_parser_dead_letters")
    for subscriber in load_subscribers(settings.subscribers_package).values():
        _add_subscriber(blueprint, subscriber)
        _add_data_dead_letters(blueprint, subscriber)
    _add_watchdog(blueprint)
    _add_relay(blueprint)
    _add_upkeep(blueprint)
    _add_status(blueprint)
    _add_health(blueprint)
    return blueprint


def _add_scheduler(blueprint: func.Blueprint, feed: Feed) -> None:
    @blueprint.function_name(f"{_python_name(feed)}_scheduler")
    @blueprint.timer_trigger(arg_name="timer", schedule=f"%{feed.schedule_setting}%", run_on_startup=False)
    @redacted
    async def run(timer: func.TimerRequest) -> None:
        pipeline = await _pipeline()
        if timer.past_due:
            log.warning("the tick of %s is past due", feed.name)
        schedule = pipeline.settings.schedules.get(feed.schedule_setting, feed.schedule)
        users = await pipeline.fan_out.scheduled(pipeline.plans[feed.name], schedule)
        log.info("queued %d users for %s", users, feed.name)


def _add_miner(blueprint: func.Blueprint, feed: Feed, queue: str, name: str) -> None:
    @blueprint.function_name(name)
    @blueprint.service_bus_queue_trigger(
        arg_name="message", queue_name=f"{queue}-%ENVIRONMENT%", connection=CONNECTION, data_type=func.DataType.BINARY
    )
    @redacted
    async def run(message: func.ServiceBusMessage) -> None:
        pipeline = await _pipeline()
        await pipeline.miner.handle(received(message, pipeline.settings.entity(queue)))


def _add_subscriber(blueprint: func.Blueprint, subscriber: Subscriber) -> None:
    @blueprint.function_name(_python_name(subscriber))
    @blueprint.service_bus_queue_trigger(
        arg_name="message",
        queue_name=f"{subscriber.queue}-%ENVIRONMENT%",
        connection=CONNECTION,
        data_type=func.DataType.BINARY,
    )
    @redacted
    async def run(message: func.ServiceBusMessage) -> None:
        pipeline = await _pipeline()
        await receive(subscriber, pipeline, received(message, pipeline.settings.entity(subscriber.queue)))


def _add_work_dead_letters(blueprint: func.Blueprint, queue: str, name: str) -> None:
    @blueprint.function_name(name)
    @blueprint.service_bus_queue_trigger(
        arg_name="message",
        queue_name=f"{queue}-%ENVIRONMENT%/{DEAD_LETTERS}",
        connection=CONNECTION,
        data_type=func.DataType.BINARY,
    )
    @redacted
    async def run(message: func.ServiceBusMessage) -> None:
        pipeline = await _pipeline()
        await pipeline.dead_letters.handle_work(received(message, pipeline.settings.entity(queue)))


def _add_data_dead_letters(blueprint: func.Blueprint, subscriber: Subscriber) -> None:
    @blueprint.function_name(f"{_python_name(subscriber)}_dead_letters")
    @blueprint.service_bus_queue_trigger(
        arg_name="message",
        queue_name=f"{subscriber.queue}-%ENVIRONMENT%/{DEAD_LETTERS}",
        connection=CONNECTION,
        data_type=func.DataType.BINARY,
    )
    @redacted
    async def run(message: func.ServiceBusMessage) -> None:
        pipeline = await _pipeline()
        await pipeline.dead_letters.handle_data(received(message, pipeline.settings.entity(subscriber.queue)))


def _add_watchdog(blueprint: func.Blueprint) -> None:
    @blueprint.function_name("watchdog")
    @blueprint.timer_trigger(arg_name="timer", schedule="%WATCHDOG_SCHEDULE%", run_on_startup=False)
    @redacted
    async def run(timer: func.TimerRequest) -> None:
        await (await _pipeline()).watchdog.run()


def _add_relay(blueprint: func.Blueprint) -> None:
    @blueprint.function_name("relay")
    @blueprint.timer_trigger(arg_name="timer", schedule="%RELAY_SCHEDULE%", run_on_startup=False)
    @redacted
    async def run(timer: func.TimerRequest) -> None:
        await (await _pipeline()).relay()


def _add_upkeep(blueprint: func.Blueprint) -> None:
    @blueprint.function_name("upkeep")
    @blueprint.timer_trigger(arg_name="timer", schedule="%UPKEEP_SCHEDULE%", run_on_startup=False)
    @redacted
    async def run(timer: func.TimerRequest) -> None:
        await (await _pipeline()).upkeep()


def _add_status(blueprint: func.Blueprint) -> None:
    @blueprint.function_name("status")
    @blueprint.route(route="status", methods=["GET"], auth_level=func.AuthLevel.FUNCTION, trigger_arg_name="request")
    @redacted
    async def run(request: func.HttpRequest) -> func.HttpResponse:
        from pipeline.operations import web

        html = web.wants_html(request.params.get("format"), request.headers.get("accept"))
        return _response(await web.status_answer(_pipeline, html=html))


def _add_health(blueprint: func.Blueprint) -> None:
    @blueprint.function_name("health")
    @blueprint.route(route="health", methods=["GET"], auth_level=func.AuthLevel.FUNCTION, trigger_arg_name="request")
    @redacted
    async def run(request: func.HttpRequest) -> func.HttpResponse:
        from pipeline.operations import web

        return _response(await web.health_answer(_pipeline))


def _response(answer: Answer) -> func.HttpResponse:
    from pipeline.operations import web

    content_type, _, charset = answer.content_type.partition("; charset=")
    return func.HttpResponse(
        answer.body, status_code=answer.code, mimetype=content_type, charset=charset or "utf-8", headers=web.HEADERS
    )


def received(message: func.ServiceBusMessage, entity: str) -> Received:
    """Read what the trigger gives. The host sends times without a zone; they are UTC."""
    properties = {str(name): _plain(value) for name, value in (message.application_properties or {}).items()}
    return Received(
        entity=entity,
        message_id=message.message_id or "",
        body=message.get_body(),
        properties=properties,
        enqueued_at=_micros(message.enqueued_time_utc),
        delivery_count=message.delivery_count or 1,
    )


def _plain(value: Any) -> str | int:
    return value if isinstance(value, int) else str(value)


def _micros(moment: datetime | None) -> int:
    if moment is None:
        return 0
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return int(aware.timestamp() * MICROS)


def _python_name(declared: Feed | Subscriber) -> str:
    return declared.name.replace("-", "_")


async def _pipeline() -> Pipeline:
    from pipeline.bootstrap import the_pipeline

    return await the_pipeline()
