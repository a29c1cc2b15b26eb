"""Hosts that do not answer, which together get half of the slots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ..core.queues.slowdowns import SilentHost, slowdown_target
from ..core.record import Record
from ..store import AttemptResult

_MOST = 1000
"""The most hosts that are remembered."""


class SilentHosts:
    """The hosts whose latest attempt in this process got no answer.

    Only the drain uses this object.
    """

    def __init__(self, slots: int) -> None:
        self._half = max(1, slots // 2)
        self._hosts: set[str] = set()
        self._turns = 0

    def __bool__(self) -> bool:
        return bool(self._hosts)

    def note(self, results: Iterable[AttemptResult]) -> None:
        """Remember hosts that do not answer; forget those that do."""
        for result in results:
            record = result.record
            if record.target is None and record.url.startswith("/"):
                continue
            host = slowdown_target(record.queue, record.url, record.target)
            if result.outcome.reason != "timeout":
                self._hosts.discard(host)
            elif len(self._hosts) < _MOST:
                self._hosts.add(host)

    def shares(self, running: Iterable[Record]) -> dict[str, SilentHost]:
        """Return how many tasks of each silent host may be claimed beside the ``running`` ones.

        All silent hosts together have half of the slots, and other hosts the rest.
        """
        if not self._hosts:
            return {}
        busy = Counter(
            slowdown_target(record.queue, record.url, record.target) for record in running
        )
        room = max(0, self._half - sum(busy[host] for host in self._hosts))
        self._turns += 1
        hosts = sorted(self._hosts)
        first = self._turns % len(hosts)
        shares = {}
        for left, host in zip(range(len(hosts), 0, -1), hosts[first:] + hosts[:first], strict=True):
            share = -(-room // left)  # rounded up: the first hosts get what is left over
            shares[host] = SilentHost(share, self._half)
            room -= share
        return shares
