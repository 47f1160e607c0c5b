"""What the host says when it starts, and when it cannot."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.host.running import ROOT, RunningHost, refused, running, write_app

MIXED = """
@app.timer_trigger(arg_name="timer", schedule="%SCHEDULE%")
async def nightly(timer: func.TimerRequest) -> None: ...

@app.service_bus_queue_trigger(arg_name="message", queue_name="%QUEUE%", connection="BUS")
async def miner(message: func.ServiceBusMessage) -> None: ...

@app.route(route="hello", methods=["GET"])
async def hello(req: func.HttpRequest):
    return "hi"

@app.blob_trigger(arg_name="blob", path="box/{name}", connection="STORE")
async def reader(blob: func.InputStream) -> None: ...
"""


def lines_of(host: RunningHost) -> dict[str, str]:
    return {line.split()[0]: line for line in host.lines if line.startswith("  ")}


def test_the_report_names_each_function_and_what_starts_it(tmp_path):
    """Ten seconds of reading must tell what runs, when, and what does not and why."""
    app = write_app(tmp_path / "app", MIXED, values={"SCHEDULE": "0 0 3 * * *", "AzureWebJobs.hello.Disabled": "1"})
    with running(app) as host:
        lines = lines_of(host)

        assert "timer" in lines["nightly"]
        assert "0 0 3 * * *  next run in" in lines["nightly"]
        assert "disabled" in lines["hello"]
        assert "by AzureWebJobs.hello.Disabled" in lines["hello"]


def test_a_missing_setting_stops_that_function_only_and_is_named(tmp_path):
    """Function, binding and setting: all that is needed to mend it."""
    app = write_app(tmp_path / "app", MIXED, values={"SCHEDULE": "0 0 3 * * *"})
    with running(app) as host:
        assert "STOPPED" in lines_of(host)["miner"]
        host.until_said("miner: binding message (serviceBusTrigger): setting BUS is missing")
        assert host.call("/api/hello").body == b"hi"
        errors = {each["name"]: each.get("error") for each in host.call("/admin/functions").json()}
        assert "setting BUS is missing" in errors["miner"]


def test_a_missing_reference_stops_that_function(tmp_path):
    """%NAME% in a schedule or a queue's name is a setting too."""
    app = write_app(tmp_path / "app", MIXED, values={"BUS": "Endpoint=sb://localhost"})
    with running(app) as host:
        host.until_said("nightly: binding timer (timerTrigger): setting SCHEDULE is missing")
        host.until_said("miner: binding message (serviceBusTrigger): setting QUEUE is missing")


def test_an_unknown_binding_is_refused_by_name(tmp_path):
    """Better told at start than wondered about later."""
    app = write_app(tmp_path / "app", MIXED, values={"SCHEDULE": "0 0 3 * * *"})
    with running(app) as host:
        host.until_said("reader: binding blob (blobTrigger): this trigger is not supported by the local host")


def test_a_schedule_that_azure_refuses_stops_its_function(tmp_path):
    """The rest of the app still runs, as it would in Azure."""
    app = write_app(tmp_path / "app", MIXED, values={"SCHEDULE": "every night"})
    with running(app) as host:
        host.until_said("nightly: binding timer (timerTrigger): schedule: 'every night' has 2 fields")


def test_only_the_named_functions_run(tmp_path):
    """One terminal per part of an app."""
    app = write_app(tmp_path / "app", MIXED, values={"SCHEDULE": "0 0 3 * * *"})
    with running(app, "--functions", "nightly") as host:
        assert "not among --functions" in lines_of(host)["hello"]
        assert host.call("/api/hello").status == 404


def test_a_name_that_does_not_exist_is_an_error(tmp_path):
    """A typing error would else run nothing, quietly."""
    app = write_app(tmp_path / "app", MIXED, values={"SCHEDULE": "0 0 3 * * *"})
    with refused(app, "--functions", "nigthly") as host:
        assert host.process.returncode == 1
        assert "--functions names nigthly, which the app does not have" in host.text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import no_such_module", "No module named 'no_such_module'"),
        ("def broken(:", "SyntaxError"),
        ("raise RuntimeError('at import')", "at import"),
        ("", "0 functions found"),
        ("other = func.FunctionApp()\n" + MIXED, "More than one"),
        (
            "@app.timer_trigger(arg_name='timer', schedule='* * * * * *')\ndef a(wrong: func.TimerRequest): ...",
            "the following parameters are declared in Python but not in the function definition",
        ),
        (
            "@app.service_bus_queue_trigger(arg_name='m', queue_name='q', connection='B')\ndef a(m: dict): ...",
            "Python type annotation dict",
        ),
    ],
)
def test_an_app_that_azure_would_not_load_ends_the_host(tmp_path, source, expected):
    """In Azure all of these are '0 functions found'; here the reason is printed and the exit code tells."""
    app = write_app(tmp_path / "app", source)
    with refused(app) as host:
        assert host.process.returncode == 1
        assert expected in host.text


def test_an_import_error_prints_its_traceback(tmp_path):
    """The line at fault is what one needs."""
    app = write_app(tmp_path / "app", "import no_such_module")
    with refused(app) as host:
        assert 'function_app.py", line' in host.text
        assert host.lines[-1].startswith("host: ModuleNotFoundError")


def test_an_app_of_which_nothing_can_run_is_an_error(tmp_path):
    """A host that waits for nothing looks like one that works."""
    app = write_app(tmp_path / "app", "@app.queue_trigger(arg_name='m', queue_name='q', connection='S')\ndef a(m): ...")
    with refused(app) as host:
        assert host.process.returncode == 1
        assert "no function can run" in host.text
        assert "a: binding m (queueTrigger): this trigger is not supported" in host.text


def test_a_taken_port_is_told_without_a_traceback(tmp_path):
    """The commonest way for a second start to fail."""
    app = write_app(tmp_path / "app", "@app.route(route='x')\nasync def x(req: func.HttpRequest):\n    return 'x'")
    with running(app) as first, refused(app, "--port", first.address.rpartition(":")[2]) as second:
        assert second.process.returncode == 2
        assert "Traceback" not in second.text


def test_a_folder_without_an_app_is_an_error(tmp_path):
    """Started in the wrong place."""
    with refused(tmp_path) as host:
        assert host.process.returncode == 1
        assert "no function_app.py" in host.text


def test_a_broken_host_json_is_named(tmp_path):
    """Not a traceback of ours."""
    app = write_app(tmp_path / "app", MIXED)
    (app / "host.json").write_text("{")
    with refused(app) as host:
        assert host.process.returncode == 2
        assert "host.json" in host.lines[-1]
        assert "Traceback" not in host.text


def index_of(app: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "infra.local.host", "--app", str(app), "--index"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_the_index_is_printed_as_json(tmp_path):
    """A test can unpack what is to be deployed and read what Azure would find in it, without any setting."""
    app = write_app(tmp_path / "app", "print('noise of the app')\n" + MIXED)
    found = index_of(app)

    functions = {each["name"]: each for each in json.loads(found.stdout)}
    assert functions["nightly"]["schedule"] == "%SCHEDULE%"
    assert functions["miner"]["triggers"] == ["serviceBusTrigger"]
    assert set(functions) == {"nightly", "miner", "hello", "reader"}


def test_an_index_that_fails_tells_by_its_exit_code(tmp_path):
    """So that a test of the package needs nothing else."""
    found = index_of(write_app(tmp_path / "app", "import no_such_module"))

    assert found.returncode == 1
    assert "no_such_module" in found.stderr


def test_the_app_does_not_see_the_repository(tmp_path):
    """An import that works only because the host lies next to the app would fail in Azure."""
    found = index_of(write_app(tmp_path / "app", "import infra"))

    assert found.returncode == 1
    assert "No module named 'infra'" in found.stderr


def test_packages_of_the_app_are_found_where_a_build_puts_them(tmp_path):
    """The remote build installs into .python_packages of the app."""
    app = write_app(tmp_path / "app", "import built_for_azure\n" + MIXED)
    packages = app / ".python_packages" / "lib" / "site-packages"
    packages.mkdir(parents=True)
    (packages / "built_for_azure.py").touch()

    assert index_of(app).returncode == 0
