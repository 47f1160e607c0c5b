"""Which hosts a source may call: the one that its settings name, over https, and nothing inside our own network."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from pipeline.errors import ConfigurationError

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOOPBACK_NAMES = {"localhost", "localhost."}


def check_base_url(base_url: str, *, setting: str, private: bool = False) -> bool:
    """
    Tell whether a base URL is on this machine (plain http is fine there).

    Raises `ConfigurationError`, naming the setting, for anything else than https to a public host; `private` allows
    https to a private network, never to link-local addresses, where clouds hand out credentials.
    """
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if parts.username or parts.password or parts.query or parts.fragment or not host:
        raise ConfigurationError(f"{setting} must be scheme, host, port and path only, e.g. https://graph.facebook.com")
    if is_loopback(host):
        if parts.scheme not in ("http", "https"):
            raise ConfigurationError(f"{setting} must begin with http:// or https://")
        return True
    if parts.scheme != "https":
        raise ConfigurationError(f"{setting} must begin with https:// unless it names this machine (127.0.0.1)")
    address = _address(host)
    if address is not None and not may_connect(address, private=private):
        raise ConfigurationError(f"{setting} names a private, link-local or reserved address")
    return False


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by name or address."""
    address = _address(host)
    return host.lower() in _LOOPBACK_NAMES if address is None else address.is_loopback


def may_connect(address: ipaddress.IPv4Address | ipaddress.IPv6Address, *, private: bool = False) -> bool:
    """Whether an address is one that a source of the outside world may have."""
    address = _embedded(address)
    if address.is_link_local or address.is_loopback or address.is_multicast or address.is_unspecified:
        return False
    if address == ipaddress.ip_address("168.63.129.16"):  # Azure's wire server: public by number, internal by nature
        return False
    return address.is_global or (private and address.is_private and not address.is_reserved)


def _embedded(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """An IPv4 address that hides in an IPv6 one decides, not its wrapping."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address.sixtofour or (address.teredo or (address,))[-1] or address
    return address


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
