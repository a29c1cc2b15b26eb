"""Flights: the deliveries that are under way in this process."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterable, Iterator

from ..core.delivery import Delivery
from ..interrupts import interrupt
from .taking import Running

STOP_PATIENCE = 2.0
"""Seconds after its deadline that a handler's thread has to stop before it is written off."""


_SURE = 0.8
"""The part of a lease after which one that was not renewed is no longer relied upon."""


class Flights:
    """Begun and ended by the drain; looked at by the heartbeat and the watch in threads of theirs."""

    def __init__(self) -> None:
        self._deliveries: dict[str, Delivery] = {}

    def __len__(self) -> int:
        return len(self._deliveries)

    def __iter__(self) -> Iterator[Delivery]:
        return iter(list(self._deliveries.values()))

    def __contains__(self, delivery: Delivery) -> bool:
        return self._deliveries.get(delivery.record.id) is delivery

    def begin(self, deliveries: Iterable[Delivery], since: float, lease: float) -> None:
        """These are under way, leased for so many seconds; that was asked for at ``since``, on the monotonic clock."""
        for one in deliveries:
            one.held_until = since + _SURE * lease
            self._deliveries[one.record.id] = one

    def end(self, delivery: Delivery) -> None:
        """This one is recorded."""
        del self._deliveries[delivery.record.id]

    def held(self) -> list[tuple[str, str]]:
        """Their leases, as (task id, lease id)."""
        return [one.lease for one in self]

    def running(self, ended: Collection[str]) -> list[Running]:
        """What matters of them to whoever takes more; without the tasks that have ended."""
        now = time.monotonic()
        return [Running(now - one.started, one.suspect) for one in self if one.record.id not in ended]

    def until_deadline(self) -> float:
        """Seconds until the next deadline strikes, or a thread is to be written off; without end when nothing is under way."""
        now = time.monotonic()
        return min((one.expires + (STOP_PATIENCE if now >= one.expires else 0.0) for one in self), default=math.inf) - now

    def overdue(self) -> list[Delivery]:
        """Interrupt what has reached its deadline; those that have not stopped since, from now on abandoned."""
        now = time.monotonic()
        late = [one for one in self if now >= one.expires]
        for one in late:
            interrupt(one)
        return [one for one in late if now >= one.expires + STOP_PATIENCE and one.abandon()]

    def lost(self, task_ids: Collection[str]) -> None:
        """Tell handlers that these tasks are no longer theirs."""
        for one in self:
            if one.record.id in task_ids:
                one.cancelled = True

    def renewed(self, task_ids: Collection[str], since: float, lease: float) -> None:
        """The leases of these tasks were prolonged; that was asked for at ``since``, on the monotonic clock."""
        for one in self:
            if one.record.id in task_ids:
                one.held_until = since + _SURE * lease
                if one.doubted and not one.heeded:
                    one.doubted = one.cancelled = False

    def fence(self) -> None:
        """Tell handlers that their leases may have run out, before anybody else can take their tasks."""
        now = time.monotonic()
        for one in self:
            if now > one.held_until and not one.cancelled:
                one.doubted = one.cancelled = True
