"""Fixtures of the host's contract."""

import pytest

from tests.contract.host.broker import Broker


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    running = Broker(tmp_path_factory.mktemp("broker"))
    yield running
    running.close()
