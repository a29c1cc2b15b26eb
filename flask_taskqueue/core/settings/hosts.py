"""Hosts that are allowed as targets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(map(ip_network, text.split()))


_NAT64 = IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR = IPv6Network("2002::/16")
_UNICAST = IPv6Network("2000::/3")
"""All version 6 networks that are routed on the internet.

Networks that are assigned later are refused until they are added here.
"""

_METADATA = _networks(
    "169.254.0.0/16 100.100.100.200 168.63.129.16 192.0.0.0/24 fd00:ec2::/32 fd20:ce::/32"
)
"""The addresses at which clouds tell a machine its secrets: AWS, Google, Azure, Alibaba, Oracle."""

_LOCAL = _METADATA + _networks(
    "0.0.0.0/8 127.0.0.0/8 224.0.0.0/4 240.0.0.0/4 ::/96 64:ff9b:1::/48 2001::/32 fe80::/10 "
    "ff00::/8"
)

_NOT_PUBLIC = _LOCAL + _networks(
    "10.0.0.0/8 100.64.0.0/10 172.16.0.0/12 192.168.0.0/16 192.0.2.0/24 192.88.99.0/24 "
    "198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 "
    "2001::/23 2001:db8::/32 2002::/16 3fff::/20"
)


def parse_address(text: str) -> Address:
    """Return the address of a text, without its zone. Raises ValueError.

    A version 4 address that is written as version 6 becomes a version 4 address.
    """
    address = ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def is_public(address: Address) -> bool:
    """Return whether an address can belong to anyone on the internet.

    Such an address is neither private nor reserved, nor another way to an address that is.
    """
    return (address.version == 4 or address in _UNICAST) and not _within(address, _NOT_PUBLIC)


def is_local(address: Address) -> bool:
    """Return whether an address means this machine, its link or its cloud's metadata."""
    return _within(_translated(address), _LOCAL)


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _translated(address: Address) -> Address:
    """Return where a packet to an address that contains a version 4 address ends up."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _SIX_TO_FOUR:
        return IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
    return address


_ENTRY = re.compile(
    r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?))\.?(?::(?P<port>[0-9]{1,5}))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class AllowedHost:
    """A host that is allowed by its name or by addresses, on one port or on any."""

    name: str | None
    network: Network | None
    port: int | None

    @classmethod
    def parse(cls, text: str) -> AllowedHost:
        """Return the host that an entry of the list allows.

        An entry is ``example.com``, ``*.example.com`` (its subdomains), ``10.0.0.5`` or ``[::1]``,
        each with or without a port, or ``10.0.0.0/8``. Raises ValueError for anything else.
        """
        text = text.strip().lower()
        if "/" in text:
            return cls(None, ip_network(text), None)
        match = _ENTRY.fullmatch(f"[{text}]" if text.count(":") > 1 and "[" not in text else text)
        if match is None or not 0 < int(match["port"] or 1) < 65_536:
            raise ValueError(f"{text!r} is no host")
        port = None if match["port"] is None else int(match["port"])
        address = (
            literal(match["name"]) if match["address"] is None else parse_address(match["address"])
        )
        return (
            cls(match["name"], None, port)
            if address is None
            else cls(None, ip_network(address), port)
        )

    def names(self, host: str) -> bool:
        """Return whether the entry allows this name, as itself or as a subdomain."""
        if self.name is None:
            return False
        return host.endswith(self.name[1:]) if self.name.startswith("*.") else host == self.name

    def holds(self, address: Address) -> bool:
        """Return whether the entry allows this address."""
        return self.network is not None and address in self.network

    def is_at(self, port: int) -> bool:
        """Return whether the entry allows this port."""
        return self.port is None or self.port == port


def literal(host: str) -> Address | None:
    """Return the address that a host is; None if it is a name."""
    try:
        return parse_address(host)
    except ValueError:
        return None
