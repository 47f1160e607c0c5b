"""A third subscriber is one file and one command: its subscription, queue and function appear, and it gets all data."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import azure.functions as func
import pytest

from pipeline.bus.messages import Received
from pipeline.errors import ConfigurationError
from pipeline.functions import build_blueprint
from pipeline.settings import load
from pipeline.subscribers import load_subscribers
from pipeline.subscribers.receive import receive
from pipeline.topology import emulator_config, topology
from tests.unit.subscribers.making import accept, gone, post, sent

ROOT = Path(__file__).parents[3]

FILE = '''"""Counts what it reads, once per message."""

from pipeline.subscribers.base import Subscriber


async def handle(services, message):
    """Count the message's items in a table of its own."""
    from pipeline.storage import inbox

    def count(connection):
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS counted (items INTEGER)")
        if not inbox.take(connection, "counting", message.id):
            return False
        connection.exec_driver_sql("INSERT INTO counted VALUES (?)", (len(message.items),))
        return True

    return await services.database.write("counting", count)


SUBSCRIBER = Subscriber(name="counting", handle=handle, feeds=("posts", "comments"))
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of own subscribers with one file in it, outside the clone."""
    folder = tmp_path / "own_subscribers_of_test"
    folder.mkdir()
    (folder / "__init__.py").write_text('"""Own subscribers."""\n')
    (folder / "counting.py").write_text(FILE)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield folder.name
    for name in [name for name in sys.modules if name.startswith(folder.name)]:
        del sys.modules[name]


def test_one_file_and_one_command_bring_subscription_queue_and_function(tmp_path):
    """The way that the README promises, in a clone of its own."""
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "function_app.py", tmp_path)
    (tmp_path / "pipeline" / "subscribers" / "counting.py").write_text(FILE)

    subprocess.run([sys.executable, "-m", "pipeline.topology", "--write"], cwd=tmp_path, check=True, timeout=60)

    namespace = json.loads((tmp_path / "infra/servicebus/Config.json").read_text())["UserConfig"]["Namespaces"][0]
    parameters = json.loads((tmp_path / "infra/azure/topology.json").read_text())
    subscribed = {
        topic["Name"]: one["Properties"]["ForwardTo"]
        for topic in namespace["Topics"]
        for one in topic["Subscriptions"]
        if one["Name"] == "counting"
    }
    assert "counting-queue-local" in {queue["Name"] for queue in namespace["Queues"]}
    assert subscribed == {
        "posts-data-topic-local": "counting-queue-local",
        "comments-data-topic-local": "counting-queue-local",
    }
    assert "counting-queue" in parameters["queues"]
    assert "('counting', 'counting-queue-%ENVIRONMENT%')" in _functions(tmp_path)


def _functions(folder: Path) -> str:
    """Index the app in a fresh process, as the host does."""
    code = (
        "import function_app\n"
        "for one in function_app.app.get_functions():\n"
        "    print((one.get_function_name(), one.get_trigger().get_dict_repr().get('queueName')))\n"
    )
    arguments = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(arguments, cwd=folder, check=True, timeout=60, capture_output=True, text=True).stdout


def test_an_own_package_brings_the_same_without_touching_the_clone(package):
    """Who updates the clone from upstream keeps own subscribers outside of it."""
    settings = load({"SUBSCRIBERS_PACKAGE": package})
    app = func.FunctionApp()

    app.register_functions(build_blueprint(settings))
    wanted = topology({}, load_subscribers(package))

    names = {function.get_function_name() for function in app.get_functions()}
    assert {"counting", "analytics", "raw_storage"} <= names
    assert "counting-queue" in wanted.queues
    assert "counting-queue-local" in json.dumps(emulator_config(wanted))


async def test_it_takes_each_message_once(package, stage):
    """The inbox helper is all that a subscriber needs to be exact."""
    subscriber = load_subscribers(package)["counting"]
    messages = [sent([accept(post(1)), accept(post(2))], "a1"), sent([gone(post(1), 2)], "a2")]

    for message in [*messages, *messages]:
        await receive(subscriber, stage.pipeline, Received("q", message.message_id, message.body, message.properties))

    assert await stage.rows("SELECT items FROM counted") == [{"items": 2}, {"items": 1}]


def test_two_subscribers_of_one_name_are_refused(package, tmp_path):
    """Both would read from one queue, and each would get half."""
    (tmp_path / package / "again.py").write_text(FILE)

    with pytest.raises(ConfigurationError, match="declared twice"):
        load_subscribers(package)
