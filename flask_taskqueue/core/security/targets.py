"""Targets: the hosts that deliveries may go to besides the app itself.

They are checked twice: a URL by its host, when a task is added and when it is attempted; and each
address that the host leads to, when the connection is made.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from ..errors import ConfigurationError, InvalidUrlError
from ..settings.app import Settings
from ..settings.hosts import Address, AllowedHost, is_local, is_public, literal, parse_address
from ..urls import check_absolute, normal

_NUMBER = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Targets:
    """Where an app's deliveries may go.

    ``internal``: only to itself. ``allowlist``: to hosts that are allowed. ``public``: to these,
    and on some ports to any host all of whose addresses are public.

    A host that is allowed by name may lead to private addresses. It may lead to this machine, its
    link or its cloud's metadata only if the list also has that address, or the name is
    ``localhost``.
    """

    policy: str
    allowed: tuple[AllowedHost, ...] = ()
    ports: Collection[int] = ()

    @classmethod
    def of(cls, settings: Settings) -> Targets:
        """Return the targets that are configured.

        Raises `ConfigurationError` for a list that the policy does not use.
        """
        allowed = (
            *settings.allowed_hosts,
            *(
                _host_of(f"the target of queue {queue.name!r}", queue.target)
                for queue in settings.queues.values()
                if queue.target
            ),
            *(
                _host_of(f"TASKQUEUE_SERVICES[{name!r}]", url)
                for name, url in settings.services.items()
                if url is not None
            ),
        )
        policy = settings.targets or ("allowlist" if allowed else "internal")
        if policy == "internal" and allowed:
            raise ConfigurationError(
                "TASKQUEUE_TARGETS is 'internal', but there are TASKQUEUE_ALLOWED_HOSTS, "
                "TASKQUEUE_SERVICES or targets of queues: "
                "take them away, or leave TASKQUEUE_TARGETS out"
            )
        return cls(policy, allowed, settings.target_ports)

    def check(self, url: str) -> str:
        """Return an absolute URL in its `normal` form.

        Raises `InvalidUrlError` unless its host is allowed, as far as the URL tells.
        """
        self._check_host(*check_absolute(url))
        return normal(url)

    def _check_host(self, host: str, port: int) -> None:
        address = literal(host)
        if self._lists(host, port, address):
            return
        if self.policy != "public":
            raise InvalidUrlError(
                f"host {host!r} is not allowed: add it to TASKQUEUE_ALLOWED_HOSTS"
            )
        if port not in self.ports:
            raise InvalidUrlError(
                f"port {port} is not allowed: add it to TASKQUEUE_TARGET_PORTS, or the host "
                "to TASKQUEUE_ALLOWED_HOSTS"
            )
        if (address is None and _NUMBER.fullmatch(host)) or (
            address is not None and not is_public(address)
        ):
            raise InvalidUrlError(
                f"host {host!r} is no public address: add it to TASKQUEUE_ALLOWED_HOSTS if "
                "it is meant"
            )

    def objection(self, host: str, port: int, found: str) -> str | None:
        """Return why not to connect to an address that a host leads to; None if it is allowed."""
        host = host.lower().rstrip(".")
        try:
            address = parse_address(found)
        except ValueError:
            return f"{host} leads to {found!r}, which is no address"
        if self._lists(host, port, literal(host)):
            allowed = (
                not is_local(address)
                or self._lists("", port, address)
                or _is_localhost(host, address)
            )
        else:
            allowed = self.policy == "public" and port in self.ports and is_public(address)
        return None if allowed else f"{host} leads to {found}, which is not allowed as a target"

    def _lists(self, host: str, port: int, address: Address | None) -> bool:
        return any(
            entry.is_at(port) and (entry.names(host) if address is None else entry.holds(address))
            for entry in self.allowed
        )


def _host_of(what: str, url: str) -> AllowedHost:
    """Return the host of a configured base URL."""
    try:
        return AllowedHost.parse(urlsplit(url).netloc)
    except ValueError as error:
        raise ConfigurationError(
            f"{what} is {url!r}, which has no host that can be read"
        ) from error


def _is_localhost(host: str, address: Address) -> bool:
    """Return whether a name that always means this machine (RFC 6761, 6.3) leads to it."""
    return (host == "localhost" or host.endswith(".localhost")) and address.is_loopback
