"""Where a source may call: a setting or a hostile name must not lead into our own network."""

from __future__ import annotations

import ipaddress

import pytest

from pipeline.errors import ConfigurationError
from pipeline.sources import build_source
from pipeline.sources.addresses import check_base_url, may_connect
from pipeline.sources.base import SourceOptions
from tests.fakes import MemoryBudget


@pytest.mark.parametrize(
    ("url", "loopback"),
    [
        ("https://graph.facebook.com", False),
        ("https://graph.facebook.com:8443/base", False),
        ("https://8.8.8.8", False),
        ("http://127.0.0.1:8080", True),
        ("http://localhost:8080", True),
        ("http://[::1]:8080", True),
        ("https://127.0.0.1", True),
    ],
)
def test_https_and_this_machine_are_fine(url, loopback):
    """The simulator runs on plain http here."""
    assert check_base_url(url, setting="X") is loopback


@pytest.mark.parametrize(
    "url",
    [
        "http://graph.facebook.com",
        "http://localhost.evil.example",
        "http://127.0.0.1.evil.example",
        "ftp://127.0.0.1",
        "file:///etc/passwd",
        "graph.facebook.com",
        "",
        "https://",
        "https://user:secret@graph.facebook.com",
        "https://graph.facebook.com/?access_token=x",
        "https://graph.facebook.com/#x",
        "https://169.254.169.254",
        "https://[fe80::1]",
        "https://[::ffff:169.254.169.254]",
        "https://10.0.0.1",
        "https://192.168.1.1",
        "https://[fd00::1]",
        "https://0.0.0.0",
        "https://224.0.0.1",
        "https://168.63.129.16",
    ],
)
def test_everything_else_is_refused_by_naming_the_setting(url):
    """A token sent in the clear, or to the metadata service, is a token lost."""
    with pytest.raises(ConfigurationError, match="GRAPH_BASE_URL") as caught:
        build_source("graph", SourceOptions(base_url=url), MemoryBudget())

    assert "secret" not in str(caught.value)


def test_a_private_network_can_be_allowed_but_never_the_link_local_one():
    """An own API behind a private endpoint is an ordinary case; the metadata service never is."""
    assert check_base_url("https://10.0.0.1", setting="X", private=True) is False
    with pytest.raises(ConfigurationError):
        check_base_url("https://169.254.169.254", setting="X", private=True)


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1", True),
        ("127.0.0.1", False),
        ("100.64.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("2002:a00:1::", False),
        ("::", False),
        ("64:ff9b::7f00:1", False),
    ],
)
def test_an_address_hidden_in_another_is_found(address, allowed):
    """IPv6 has several ways to write an IPv4 address."""
    assert may_connect(ipaddress.ip_address(address)) is allowed


def test_an_unknown_source_names_the_known_ones():
    """A typing slip in a feed should explain itself."""
    with pytest.raises(ConfigurationError, match="graph, rest"):
        build_source("grpah", SourceOptions(base_url="https://x.example"), MemoryBudget())
