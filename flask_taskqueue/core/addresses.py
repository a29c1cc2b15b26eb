"""Internet addresses: which are public, and to which no host name may lead by itself.

`ipaddress` answers another question: ``is_global`` is true of ``64:ff9b::7f00:1``, which is
127.0.0.1 behind a NAT64 gateway, and of all multicast, and what it says changes with Python's patch
releases. So these are tables of our own, after IANA's registries of special-purpose addresses.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def _networks(text: str) -> tuple[Network, ...]:
    return tuple(map(ip_network, text.split()))


_NAT64 = IPv6Network("64:ff9b::/96")
_SIX_TO_FOUR = IPv6Network("2002::/16")
_UNICAST = IPv6Network("2000::/3")
"""All of version 6 that is routed on the internet; what is given out later is refused until it is known."""

_METADATA = _networks("169.254.0.0/16 100.100.100.200 168.63.129.16 192.0.0.0/24 fd00:ec2::/32 fd20:ce::/32")
"""Where clouds tell a machine its secrets: AWS, Google, Azure, Alibaba, Oracle."""

_LOCAL = _METADATA + _networks("0.0.0.0/8 127.0.0.0/8 224.0.0.0/4 240.0.0.0/4 ::/96 64:ff9b:1::/48 2001::/32 fe80::/10 ff00::/8")

_NOT_PUBLIC = _LOCAL + _networks(
    "10.0.0.0/8 100.64.0.0/10 172.16.0.0/12 192.168.0.0/16 192.0.2.0/24 192.88.99.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 "
    "2001::/23 2001:db8::/32 2002::/16 3fff::/20"
)


def parse(text: str) -> Address:
    """The address of a text, without its zone; one of version 4 that is written as version 6 is what it is. Raises ValueError."""
    address = ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def is_public(address: Address) -> bool:
    """Whether an address is anybody's on the internet: not private, not reserved, not a way around either."""
    return (address.version == 4 or address in _UNICAST) and not _within(address, _NOT_PUBLIC)


def is_local(address: Address) -> bool:
    """Whether an address means this machine, its link or its cloud's metadata, rather than another host."""
    return _within(_translated(address), _LOCAL)


def _within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def _translated(address: Address) -> Address:
    """Where a packet ends up that is sent to an address which holds one of version 4."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _SIX_TO_FOUR:
        return IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
    return address
