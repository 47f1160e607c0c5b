"""Where a run keeps its things, and what must not leak into it or out of it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from infra.local.run import places
from infra.local.run.cache import find_cache
from infra.local.run.places import ADDRESS, Places, free_ports, standard_ports
from infra.local.run.session import NotOurs, empty


def test_settings_of_the_shell_do_not_reach_the_local_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A shell set up for production must not have its bus or database mined by a demonstration."""
    monkeypatch.setenv("MINER_AZURE_SERVICE_BUS__fullyQualifiedNamespace", "production.servicebus.windows.net")
    monkeypatch.setenv("DATABASE_URL", "mssql://production")
    monkeypatch.setenv("GRAPH_ACCESS_TOKEN", "secret")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy")

    environment = Places(tmp_path, free_ports()).app_environment({"TOKEN_KEY": "k"})

    assert not any("production" in value or value == "secret" for value in environment.values())
    assert environment["HTTPS_PROXY"] == "http://proxy"
    assert environment["TOKEN_KEY"] == "k"


def test_a_standard_port_that_is_taken_is_replaced_by_a_free_one(monkeypatch: pytest.MonkeyPatch):
    """Many desks have a Redis already."""
    with socket.create_server((ADDRESS, 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(places, "STANDARD_PORTS", free_ports()._replace(redis=port))

        found = standard_ports()

    assert found.redis not in (0, port)
    assert len(set(found)) == len(found)


def test_a_given_redis_is_used_and_none_is_started(tmp_path: Path):
    """Whoever names one wants that one."""
    cache = find_cache(Places(tmp_path, free_ports()), {"REDIS_URL": "redis://elsewhere:6379/1"})

    assert (cache.url, cache.command) == ("redis://elsewhere:6379/1", ())


def test_a_folder_is_emptied_only_if_a_run_made_it(tmp_path: Path):
    """It is removed with all that is in it."""
    ours = empty(tmp_path / "ours")
    (ours / "pipeline.db").touch()
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "letter.txt").touch()

    assert not (empty(ours) / "pipeline.db").exists()
    with pytest.raises(NotOurs, match="--folder"):
        empty(theirs)
    assert (theirs / "letter.txt").exists()
