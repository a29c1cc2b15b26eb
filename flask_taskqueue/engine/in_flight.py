"""The deliveries in flight, whose leases the heartbeat renews."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress

import sqlalchemy as sa

from ..core.delivery.delivery import Delivery
from ..core.errors import TaskQueueError, TransientError
from ..core.settings.app import Settings
from ..core.states import Lease
from ..core.times import lease_clock
from ..process.interrupts import interrupt
from ..process.logs import get_logger
from ..store import Store, Wait
from .claimer import Running

_logger = get_logger()

STOP_PATIENCE = 2.0
"""The seconds after its deadline that a handler's thread has to stop before it is written off."""


_AGAIN = 0.01
"""The seconds until the next try to interrupt a handler that could not be interrupted."""


class InFlight:
    """The deliveries of one dispatcher from their claim until they are recorded or released.

    The drain adds and removes them; the heartbeat and the deadline watch read them from other
    threads.
    """

    def __init__(self) -> None:
        self._deliveries: dict[Lease, Delivery] = {}
        self._over: dict[Lease, Delivery] = {}
        self._left: list[Delivery] = []

    def __len__(self) -> int:
        return len(self._deliveries)

    def __iter__(self) -> Iterator[Delivery]:
        return iter(list(self._deliveries.values()))

    def begin(self, deliveries: Iterable[Delivery], since: float, lease: float) -> None:
        """Add deliveries leased for ``lease`` seconds from ``since``, on the clock of leases."""
        for delivery in deliveries:
            delivery.hold(since, lease)
            self._deliveries[delivery.lease] = delivery

    def end(self, delivery: Delivery) -> None:
        """Remove a recorded delivery, which keeps its places if its thread goes on."""
        if self._over.pop(delivery.lease, None) is None:
            del self._deliveries[delivery.lease]
        if delivery.goes_on:
            self._left.append(delivery)

    def put_off(self, delivery: Delivery) -> None:
        """Keep only the lease of a delivery that is over but cannot be recorded yet."""
        self._over[delivery.lease] = delivery
        self._deliveries.pop(delivery.lease, None)

    def holds_any(self, *, retired: bool) -> bool:
        """Return whether something is under way, or not recorded yet.

        A thread that was left behind counts only while the drain goes on to keep its places: it has
        been recorded, so whoever is to stop need not wait for it.
        """
        return bool(self._deliveries or self._over or (self._left and not retired))

    def held(self) -> list[Lease]:
        """Return all leases, also of what is put off or left behind."""
        return [delivery.lease for delivery in (*self, *self._behind())]

    def away(self) -> dict[str, float]:
        """Return by task id the seconds that handlers in other processes may still take."""
        now = time.monotonic()
        return {
            delivery.record.id: max(0.0, delivery.expires - now)
            for delivery in self
            if delivery.away and not delivery.over
        }

    def stopped(self) -> list[Delivery]:
        """Return the recorded deliveries whose threads were left behind and have ended since."""
        return [delivery for delivery in self._left if delivery.over]

    def forget(self, stopped: Iterable[Delivery]) -> None:
        """Drop deliveries whose threads have ended, so that they take no places any more."""
        for delivery in stopped:
            with suppress(ValueError):
                self._left.remove(delivery)

    def running(self, ended: Collection[str]) -> list[Running]:
        """Return the running deliveries for the claimer, without the tasks that have ``ended``."""
        now = time.monotonic()
        return [
            Running(delivery, now - delivery.started)
            for delivery in self
            if delivery.record.id not in ended
        ]

    def until_deadline(self) -> float:
        """Return the seconds until a deadline passes or a thread must be replaced.

        They are infinite when nothing is under way.
        """
        now = time.monotonic()
        return min((_next_look(delivery, now) for delivery in self), default=math.inf) - now

    def overdue(self) -> list[Delivery]:
        """Interrupt deliveries past their deadline; return those that still do not stop.

        These are abandoned from now on. A delivery that could not be interrupted where it was is
        tried again, even when it is abandoned.
        """
        now = time.monotonic()
        late = [delivery for delivery in self if now >= delivery.expires]
        for delivery in (*late, *self._behind()):
            interrupt(delivery)
        return [
            delivery
            for delivery in late
            if now >= delivery.expires + STOP_PATIENCE and delivery.abandon()
        ]

    def lost(self, leases: Collection[Lease]) -> None:
        """Tell handlers that the tasks of these leases are no longer theirs."""
        for delivery in self:
            if delivery.lease in leases:
                delivery.cancelled = True

    def renewed(self, leases: Collection[Lease], since: float, lease: float) -> None:
        """Note that leases were renewed by a statement sent at ``since`` (clock of leases)."""
        for delivery in self:
            if delivery.lease in leases:
                delivery.hold(since, lease)

    def fence(self) -> None:
        """Tell handlers whose leases may have run out, before anybody else can take their tasks."""
        now = lease_clock()
        for delivery in self:
            delivery.fence(now)

    def _behind(self) -> list[Delivery]:
        """Return deliveries that take no slot any more: put off, or with threads left behind."""
        return [*list(self._over.values()), *self._left]


def _next_look(delivery: Delivery, now: float) -> float:
    """Return when, on the monotonic clock, to look at a delivery because of its deadline."""
    if now < delivery.expires:
        return delivery.expires
    strike = delivery.strike
    struck = delivery.interrupted and (strike is None or not strike.pending)
    if delivery.thread_id is None or struck or delivery.over:
        return delivery.expires + STOP_PATIENCE
    return min(now + _AGAIN, delivery.expires + STOP_PATIENCE)


class Heartbeat:
    """The heartbeat of one dispatcher, which renews leases from a thread of its own.

    Only `catch_up` is called by the drain.
    """

    def __init__(
        self,
        store: Store,
        in_flight: InFlight,
        lease: float,
        renewed: Callable[[], object] = lambda: None,
        late: Callable[[], object] = lambda: None,
    ) -> None:
        """Call ``renewed`` now and whenever leases are renewed.

        ``late`` is called if more than half a lease has passed between two renewals.
        """
        self._store = store
        self._in_flight = in_flight
        self._lease = lease
        self._renewed = renewed
        self._late = late
        self.renewed_at: float = lease_clock()
        """When leases were last renewed, or could have been, on the clock of leases."""
        self._note(self.renewed_at)

    def beat(self) -> None:
        """Renew the leases of what is in flight, and tell handlers that have lost theirs.

        A task that is no longer ours keeps its places until its handler ends. Handlers are also
        told when the database does not answer for so long that the leases may have run out. Places
        of processes that no longer renew them are freed.
        """
        try:
            self._renew()
            self._store.free_lapsed_places()
        except (TaskQueueError, sa.exc.DBAPIError) as error:
            _logger.warning("leases could not be renewed: %s", error)
        self._in_flight.fence()

    def catch_up(self) -> None:
        """Renew the leases if that has not been done for half a lease.

        This happens when the database was away or this process was paused. Without it the drain,
        which runs before the next beat, would take over tasks that still run here. Leases that have
        run out are ours as long as nobody has taken them. Raises what `Database.transact` raises.
        """
        if lease_clock() - self.renewed_at > self._lease / 2:
            self._renew()

    def _renew(self) -> None:
        since = lease_clock()
        stopped = self._in_flight.stopped()
        ended = {delivery.lease for delivery in stopped}
        held = sorted(set(self._in_flight.held()) - ended)
        if held:
            mine, lost = self._store.renew(held, self._lease)
            self._in_flight.lost(lost)
            self._in_flight.renewed(mine, since, self._lease)
            ended |= lost - set(self._in_flight.held())  # recorded meanwhile
        elif not self._could_renew():
            return
        self._note(since)
        if ended:
            self._store.free_left_places(ended)
            self._in_flight.forget(stopped)

    def _could_renew(self) -> bool:
        """Return whether the database lets anybody renew, where nothing is to be renewed here."""
        try:
            self._store.transact(self._store.schedules.now, tries=1, wait=Wait.BRIEFLY)
        except TransientError:
            return False
        finally:
            self._renewed()  # this process lives, whatever the database says
        return True

    def _note(self, since: float) -> None:
        if since - self.renewed_at > self._lease / 2:
            self._late()
        self.renewed_at = since
        self._renewed()


def renew_for(store: Store, settings: Settings, held_by: str) -> None:
    """Renew the leases of another dispatcher that is known to live.

    Tasks that have passed their deadline by a whole lease are left out, because what cannot be
    interrupted is not kept for ever. Raises what `Database.transact` raises.
    """
    with store.reading() as connection:
        held = store.leases.held_by(connection, held_by)
        queues = {
            name: store.added_queues.now(connection, name)
            for name in sorted({record.queue for record, _ in held})
        }
    leases = [
        record.lease
        for record, age in held
        if age < settings.deadline_of(queues[record.queue], record.deadline) + settings.lease
    ]
    if leases:
        store.renew(leases, settings.lease, tries=1)
