"""Worker processes: several, killed, too slow, orphaned."""

import os
import signal

from tests.contract.host.running import RunningHost, running, until, write_app

APP = """
@app.route(route="pid")
async def pid(req: func.HttpRequest):
    await asyncio.sleep(0.05)
    return str(os.getpid())

@app.route(route="hang")
async def hang(req: func.HttpRequest):
    note(hang=os.getpid())
    time.sleep(3600)

@app.route(route="chatty")
async def chatty(req: func.HttpRequest):
    print("printed by the app")
    logging.warning("logged by the app")
    return "said"
"""


OPEN_TELEMETRY = """
from opentelemetry import trace

def current():
    return format(trace.get_current_span().get_span_context().trace_id, "032x")

@app.route(route="async")
async def in_async(req: func.HttpRequest):
    await asyncio.sleep(0.05)
    return current()

@app.route(route="sync")
def in_sync(req: func.HttpRequest):
    return current()
"""


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_invocations_are_spread_over_the_workers(tmp_path):
    """FUNCTIONS_WORKER_PROCESS_COUNT is how Python uses more than one core."""
    from concurrent.futures import ThreadPoolExecutor

    app = write_app(tmp_path / "app", APP, values={"FUNCTIONS_WORKER_PROCESS_COUNT": "2"})
    with running(app) as host, ThreadPoolExecutor(8) as threads:
        until(lambda: len(host.status()["workers"]) == 2, host)

        pids = {answer.body for answer in threads.map(lambda _: host.call("/api/pid"), range(16))}

        assert len(pids) == 2


def test_what_an_app_prints_is_passed_on_under_the_label_of_its_worker(tmp_path):
    """Print and logging are how apps are debugged."""
    app = write_app(tmp_path / "app", APP)
    with running(app) as host:
        host.call("/api/chatty")

        until(lambda: "[worker 0] printed by the app" in host.lines, host)
        until(lambda: any(line.startswith("[worker 0] WARNING") and "logged by" in line for line in host.lines), host)


def test_the_trace_is_current_in_async_functions_and_in_no_other(tmp_path):
    """Production's worker loses it on the way to a thread; a nicer host would hide that."""
    from concurrent.futures import ThreadPoolExecutor

    app = write_app(tmp_path / "app", OPEN_TELEMETRY, values={"PYTHON_ENABLE_OPENTELEMETRY": "true"})
    traces = [f"{number:032x}" for number in range(1, 9)]
    with running(app) as host, ThreadPoolExecutor(8) as threads:

        def call(trace: str) -> str:
            return host.call("/api/async", traceparent=f"00-{trace}-b7ad6b7169203331-01").body.decode()

        assert list(threads.map(call, traces)) == traces
        parent = f"00-{traces[0]}-b7ad6b7169203331-01"
        assert host.call("/api/sync", traceparent=parent).body.decode() == "0" * 32


def test_a_killed_worker_is_replaced(tmp_path):
    """A segfault in one library must not end the session at the desk."""
    app = write_app(tmp_path / "app", APP)
    with running(app) as host:
        before = host.call("/api/pid").body

        host.kill_workers()
        until(lambda: host.status()["restarts"] == 1 and host.status()["workers"] != [], host)

        assert host.call("/api/pid").body not in (before, b"")
        host.until_said("worker 0 ended (SIGKILL)")


def test_a_worker_that_had_worked_is_replaced_at_once_however_often_it_dies(tmp_path):
    """Chains wait for it; only a worker that dies before it could work is started more and more seldom."""
    app = write_app(tmp_path / "app", APP)
    with running(app) as host:
        for _ in range(4):
            _replaced(host)

        host.until_said("a new one starts in 0.2 s", times=4)
        assert host.text.count("a new one starts in ") == 4


def test_a_function_over_its_time_restarts_its_worker(tmp_path):
    """That is what functionTimeout does to Python in Azure: the whole worker goes."""
    app = write_app(tmp_path / "app", APP, host_json={"functionTimeout": "00:00:01"})
    with running(app) as host:
        answer = host.call("/api/hang")

        assert answer.status == 500
        host.until_said("functionTimeout of 1 s is over")
        assert host.call("/api/pid").status == 200


def test_workers_end_when_their_host_is_killed(tmp_path):
    """Even one that blocks its event loop: an orphan would hold its connections for ever."""
    app = write_app(tmp_path / "app", APP, values={"FUNCTIONS_WORKER_PROCESS_COUNT": "2"})
    with running(app) as host:
        until(lambda: len(host.status()["workers"]) == 2, host)
        pids = host.status()["workers"]
        import threading

        caller = threading.Thread(target=lambda: _ignored(host), daemon=True)
        caller.start()
        host.until_noted(1)

        host.process.send_signal(signal.SIGKILL)

        host.ended()
        until(lambda: not any(alive(pid) for pid in pids))


def _replaced(host: RunningHost) -> None:
    """Let the worker work, kill it and wait for its successor."""
    deaths = host.status()["restarts"] + 1
    host.call("/api/pid")
    host.kill_workers()
    until(lambda: host.status()["restarts"] == deaths and host.status()["workers"] != [], host)


def _ignored(host: RunningHost) -> None:
    try:
        host.call("/api/hang")
    except OSError:
        return
