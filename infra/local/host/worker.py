"""
One worker process: the app, Microsoft's worker code, and a channel to the host.

Started as a plain script (`python -P worker.py`), so that nothing of this
repository lies on `sys.path` and the app's own modules cannot be mistaken for
ours. For the same reason it imports the standard library and the runtime only.

The channel carries frames: four bytes of length, then a `marshal` list of
messages. `marshal` because both ends are the same interpreter, it knows plain
values only, and it costs a tenth of JSON. To the worker comes
`("invoke", id, function id, inputs, metadata, traceparent, tracestate, retry,
max retry)`; back go `("ready", functions)` or `("failed", message, trace)`
once, then `("done", id, ok, returned, outputs, error, trace)` for each.
A datum travels as `(kind, value)`.
"""

from __future__ import annotations

import asyncio
import logging
import marshal
import os
import re
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable
from datetime import datetime
from types import SimpleNamespace
from typing import Any

Plain = tuple[str | None, Any]

HEADER = struct.Struct(">I")
# Two full-size HTTP bodies fit; more is a bug, not a message.
_ZONELESS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?", re.ASCII)
FRAME_LIMIT_BYTES = 256 * 1024 * 1024


class Channel(asyncio.Protocol):
    """Frames of messages over a stream; what is sent within one turn of the loop shares a frame."""

    def __init__(self, received: Callable[[tuple[Any, ...]], None], lost: Callable[[], None]) -> None:
        self._received = received
        self._lost = lost
        self._buffer = bytearray()
        self._outgoing: list[tuple[Any, ...]] = []
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= HEADER.size:
            (size,) = HEADER.unpack_from(buffer, start)
            if size > FRAME_LIMIT_BYTES:
                self.close()
                return
            end = start + HEADER.size + size
            if len(buffer) < end:
                break
            for message in marshal.loads(buffer[start + HEADER.size : end]):  # noqa: S302 - both ends are ours
                self._received(message)
            start = end
        del buffer[:start]

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._lost()

    def send(self, message: tuple[Any, ...]) -> None:
        """Send soon; dropped when the other side is gone, which its loss handler deals with."""
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append(message)

    def _flush(self) -> None:
        messages, self._outgoing = self._outgoing, []
        if self._transport is None:
            return
        frame = marshal.dumps(messages)
        self._transport.write(HEADER.pack(len(frame)) + frame)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class _Message(SimpleNamespace):
    """Stands for any protobuf message: the runtime only sets and reads attributes."""


class _StatusResult(_Message):
    Failure, Success, Cancelled = 0, 1, 2


class _BindingInfo(_Message):
    undefined = 0
    inout, out = 2, 1


_MESSAGES = (
    "WorkerInitResponse WorkerMetadata FunctionMetadataResponse FunctionLoadResponse "
    "RpcFunctionMetadata RpcException RpcRetryOptions InvocationResponse ParameterBinding"
)


class AppFailed(Exception):
    """The app could not be indexed; `trace` is the traceback of its import."""

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


async def load(app: str) -> list[dict[str, Any]]:
    """
    Import the app in `app` and index it as production does.

    Raises AppFailed for whatever production answers with "0 functions found".
    """
    try:
        import azure_functions_runtime as runtime
    except ImportError as missing:
        raise AppFailed(
            f"{missing}: Microsoft's worker code is not installed here; `make install` does it"
        ) from missing
    if not os.path.exists(os.path.join(app, os.environ.get("PYTHON_SCRIPT_FILE_NAME") or "function_app.py")):
        raise AppFailed(f"no {os.environ.get('PYTHON_SCRIPT_FILE_NAME') or 'function_app.py'} in {app}")
    runtime.start_threadpool_executor()
    protos = SimpleNamespace(
        StatusResult=_StatusResult,
        BindingInfo=_BindingInfo,
        **{name: type(name, (_Message,), {}) for name in _MESSAGES.split()},
    )
    answer = await runtime.worker_init_request(
        SimpleNamespace(
            request=SimpleNamespace(
                worker_init_request=SimpleNamespace(capabilities={}, function_app_directory=app),
            ),
            properties={"host": "127.0.0.1", "protos": protos},
        )
    )
    if answer.result.status != _StatusResult.Success:
        raise AppFailed(answer.result.exception.message, answer.result.exception.stack_trace)
    if "HttpUri" in answer.capabilities:
        raise AppFailed("HTTP streaming (azurefunctions-extensions-http-fastapi) is not supported by the local host")
    metadata = await runtime.functions_metadata_request(None)
    functions = metadata.function_metadata_results or []
    if not functions:
        raise AppFailed("0 functions found: the app registers none")
    return [_described(function) for function in functions]


def _described(function: Any) -> dict[str, Any]:
    from azure_functions_runtime.handle_event import _functions

    info = _functions.get_function(function.function_id)
    assert info is not None
    retry = function.retry_options
    return {
        "name": function.name,
        "id": function.function_id,
        "bindings": list(function.raw_bindings),
        "sdk_types": bool(info.deferred_bindings_enabled or info.settlement_client_arg),
        "retry": retry
        and {
            "strategy": retry.retry_strategy,
            "max_retry_count": retry.max_retry_count,
            **{
                name: getattr(retry, name).total_seconds()
                for name in ("delay_interval", "minimum_interval", "maximum_interval")
                if hasattr(retry, name)
            },
        },
    }


def read_times_quickly() -> None:
    """
    Spare the 26 `strptime` calls that two times without a zone cost per message.

    The library tries twelve formats with a zone first, which takes three
    quarters of an invocation. The result is the same; whatever looks different
    goes the library's way.
    """
    from azure.functions.servicebus import ServiceBusMessageInConverter

    slowly = ServiceBusMessageInConverter._parse_datetime

    def read(text: str | None) -> datetime | None:
        if text and _ZONELESS.fullmatch(text):
            return datetime.fromisoformat(text)  # cut to microseconds, as the library does
        return slowly(text)

    setattr(ServiceBusMessageInConverter, "_parse_datetime", staticmethod(read))  # noqa: B010 - mypy takes no assignment to a method


class Worker:
    """Runs invocations, each in its own task: the runtime attaches trace context and never detaches it."""

    def __init__(self) -> None:
        self._datum_type: Any = None
        self._native: Any = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.channel: Channel | None = None

    def attach(self) -> None:
        """Take hold of the runtime, once it is known to be installed."""
        from azure_functions_runtime.bindings.datumdef import Datum
        from azure_functions_runtime.native_invocation import invocation_request_native

        self._datum_type = Datum
        self._native = invocation_request_native

    def received(self, message: tuple[Any, ...]) -> None:
        task = asyncio.get_running_loop().create_task(self._invoke(*message[1:]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _invoke(
        self,
        invocation_id: str,
        function_id: str,
        inputs: list[tuple[str, Plain]],
        metadata: dict[str, Plain],
        trace_parent: str,
        trace_state: str,
        retry: int,
        max_retry: int,
    ) -> None:
        try:
            ok, returned, outputs, error, trace = await self._native(
                invocation_id,
                function_id,
                [(name, self._datum(plain)) for name, plain in inputs],
                {name: self._datum(plain) for name, plain in metadata.items()},
                trace_parent,
                trace_state,
                retry,
                max_retry,
            )
            answer = (
                ok,
                returned and _plain(returned),
                [(name, _plain(datum)) for name, datum in outputs],
                error,
                trace,
            )
        except (Exception, SystemExit) as broken:  # noqa: BLE001 - a worker answers every invocation
            answer = (False, None, [], repr(broken), traceback.format_exc())
        assert self.channel is not None
        self.channel.send(("done", invocation_id, *answer))

    def _datum(self, plain: Plain) -> Any:
        kind, value = plain
        if kind is None:
            return None
        if kind.startswith("collection_"):
            return self._datum_type(SimpleNamespace(**{kind.removeprefix("collection_"): value}), kind)
        if kind == "http":
            return self._datum_type(self._http(value), kind)
        return self._datum_type(value, kind)

    def _http(self, request: dict[str, Any]) -> dict[str, Any]:
        text = {name: self._datum_type(request[name], "string") for name in ("method", "url")}
        maps = {
            name: {key: self._datum_type(value, "string") for key, value in request[name].items()}
            for name in ("headers", "query", "params")
        }
        return {**text, **maps, "body": self._datum_type(request["body"], "bytes")}


def _plain(datum: Any) -> Plain | None:
    if datum is None:
        return None
    if datum.type == "http":
        value = datum.value
        return (
            "http",
            {
                "status": int(value["status_code"].value),
                "headers": {name: header.value for name, header in value["headers"].items()},
                "cookies": [
                    morsel.OutputString() for cookie in value.get("cookies") or () for morsel in cookie.values()
                ],
                "body": bytes(value["body"].value or b""),
            },
        )
    return (datum.type, datum.value)


class _InvocationNames(logging.Filter):
    """Marks each record with the invocation it belongs to."""

    def filter(self, record: logging.LogRecord) -> bool:
        from azure_functions_runtime import invocation_id_cv

        invocation = invocation_id_cv.get()
        record.__dict__["invocation"] = f" {invocation[:8]}" if invocation else ""
        return True


def _log_to_the_host() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_InvocationNames())
    handler.setFormatter(logging.Formatter("%(levelname)s%(invocation)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    debug = os.environ.get("PYTHON_ENABLE_DEBUG_LOGGING", "").lower() in ("1", "true")
    root.setLevel(logging.DEBUG if debug else logging.INFO)
    # Wire chatter of the SDKs at INFO would bury the app's own lines.
    for noisy in ("azure.core", "azure.identity", "azure.servicebus", "azure.storage"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # The runtime repeats what the host prints: each index as JSON, each failure with its trace.
    logging.getLogger("azure.functions").setLevel(logging.CRITICAL)


def _exit_with_the_host() -> None:
    """
    Die when the host dies, even inside a function that blocks the event loop.

    The host holds the other end of our standard input and never writes to it.
    """
    lifeline = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)

    def watch() -> None:
        while os.read(lifeline, 1):
            pass
        os._exit(0)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()


async def serve(app: str, channel_fd: int) -> None:
    """Load the app, tell the host, run invocations until the host closes the channel."""
    loop = asyncio.get_running_loop()
    closed = asyncio.Event()
    worker = Worker()
    link = socket.socket(fileno=channel_fd)
    _, channel = await loop.create_connection(lambda: Channel(worker.received, closed.set), sock=link)
    worker.channel = channel
    try:
        functions = await load(app)
        read_times_quickly()
        worker.attach()
    except AppFailed as failed:
        channel.send(("failed", str(failed), failed.trace))
    except Exception as failed:  # noqa: BLE001 - the host prints it and gives up
        channel.send(("failed", repr(failed), traceback.format_exc()))
    else:
        channel.send(("ready", functions))
    await closed.wait()


def main() -> None:
    app, channel_fd = os.path.abspath(sys.argv[1]), int(sys.argv[2])
    _exit_with_the_host()
    _log_to_the_host()
    packages = os.path.join(app, ".python_packages", "lib", "site-packages")
    sys.path[:0] = [app, *([packages] if os.path.isdir(packages) else [])]
    sys.argv = ["worker"]
    os.chdir(app)
    asyncio.run(serve(app, channel_fd))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    # Threads of sync functions may still run; the host has stopped caring.
    os._exit(0)
