"""Hosts that are allowed as targets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_network

from . import addresses
from .addresses import Address, Network

_ENTRY = re.compile(
    r"(?:\[(?P<address>[0-9a-f:.]+)\]|(?P<name>(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?))\.?(?::(?P<port>[0-9]{1,5}))?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class AllowedHost:
    """A host that is allowed: by its name, or by addresses; on one port, or on any."""

    name: str | None
    network: Network | None
    port: int | None

    @classmethod
    def parse(cls, text: str) -> AllowedHost:
        """``example.com``, ``*.example.com`` (its subdomains), ``10.0.0.5``, ``[::1]``, each with or without a port; ``10.0.0.0/8``.

        Raises ValueError for anything else.
        """
        text = text.strip().lower()
        if "/" in text:
            return cls(None, ip_network(text), None)
        match = _ENTRY.fullmatch(f"[{text}]" if text.count(":") > 1 and "[" not in text else text)
        if match is None or not 0 < int(match["port"] or 1) < 65_536:
            raise ValueError(f"{text!r} is no host")
        port = None if match["port"] is None else int(match["port"])
        address = literal(match["name"]) if match["address"] is None else addresses.parse(match["address"])
        return cls(match["name"], None, port) if address is None else cls(None, ip_network(address), port)

    def names(self, host: str) -> bool:
        """Whether it is this host, or one it is a subdomain of."""
        if self.name is None:
            return False
        return host.endswith(self.name[1:]) if self.name.startswith("*.") else host == self.name

    def holds(self, address: Address) -> bool:
        """Whether it is this address, or has it among its own."""
        return self.network is not None and address in self.network

    def is_at(self, port: int) -> bool:
        """Whether it is allowed at a port."""
        return self.port is None or self.port == port


def literal(host: str) -> Address | None:
    """The address that a host is, if it is not a name."""
    try:
        return addresses.parse(host)
    except ValueError:
        return None
