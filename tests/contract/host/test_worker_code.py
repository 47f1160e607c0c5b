"""What the host relies on in Microsoft's code, so that an update tells here first."""

import subprocess
import sys

import pytest
from azure.functions.servicebus import ServiceBusMessageInConverter

from tests.contract.host.running import ROOT

TIMES = [
    "2026-01-02T03:04:05",
    "2026-01-02T03:04:05.1",
    "2026-01-02T03:04:05.123456",
    "9999-12-31T23:59:59.9999999",
    "0001-01-01T00:00:00",
    "2026-01-02T03:04:05Z",
    "2026-01-02T03:04:05.123+00:00",
    "01/02/2026 03:04:05Z",
    "",
]


def quickly(text: list[str]) -> str:
    """Return what a worker reads, in a process of its own: the change is one of the class."""
    script = (
        "import sys; from infra.local.host.worker import read_times_quickly; read_times_quickly();"
        "from azure.functions.servicebus import ServiceBusMessageInConverter as converter;"
        "print([repr(converter._parse_datetime(text)) for text in sys.argv[1:]])"
    )
    command = [sys.executable, "-c", script, *text]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def test_times_are_read_as_the_library_reads_them():
    """The worker reads zoneless times by a shorter way; the result must be the same object for object."""
    expected = [repr(ServiceBusMessageInConverter._parse_datetime(text)) for text in TIMES]

    assert quickly(TIMES) == repr(expected)


@pytest.mark.parametrize(
    "name", ["worker_init_request", "functions_metadata_request", "start_threadpool_executor", "invocation_id_cv"]
)
def test_the_runtime_has_its_entry_points(name):
    """The package promises no stable interface; its version is pinned for this."""
    runtime = pytest.importorskip("azure_functions_runtime")

    assert hasattr(runtime, name)


def test_the_native_invocation_has_the_arguments_the_worker_passes():
    """It is not in the runtime's __all__."""
    import inspect

    native = pytest.importorskip("azure_functions_runtime.native_invocation")

    names = list(inspect.signature(native.invocation_request_native).parameters)
    assert names[:4] == ["invocation_id", "function_id", "inputs", "trigger_metadata"]
    assert names[4:8] == ["trace_parent", "trace_state", "retry_count", "max_retry_count"]
