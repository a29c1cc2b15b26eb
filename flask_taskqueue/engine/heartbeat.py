"""The heartbeat: renews the leases of what is in flight, and the places of what runs on without."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection

import sqlalchemy as sa

from ..core.config import Settings
from ..core.errors import TaskQueueError
from ..store import LockedError, Store, Wait
from .flights import Flights

logger = logging.getLogger("flask_taskqueue")


class Heartbeat:
    """For one dispatcher, from a thread of its own; `catch_up` is the drain's."""

    def __init__(self, store: Store, flights: Flights, lease: float, renewed: Callable[[], object] = lambda: None) -> None:
        """``renewed`` is called now, and whenever leases are prolonged."""
        self._store = store
        self._flights = flights
        self._lease = lease
        self._renewed = renewed
        self._note(time.monotonic())

    def beat(self) -> None:
        """Prolong the leases of what is in flight; what is no longer ours is told to its handler, and keeps its places until it ends.

        So it is when the database does not answer for so long that the leases may have run out. Places
        of processes that renew them no longer are let go.
        """
        try:
            self._renew()
            self._store.let_go()
        except (TaskQueueError, sa.exc.DBAPIError) as error:
            logger.warning("leases could not be renewed: %s", error)
            self._flights.fence()

    def catch_up(self) -> None:
        """Prolong the leases if that has not been done for half a lease: the database was away, or this process was paused.

        Otherwise the drain, which is ahead of the next beat, would take over what still runs here. Leases
        that have run out are ours as long as nobody has taken them. Raises what `Database.transact` raises.
        """
        if time.monotonic() - self._renewed_at > self._lease / 2:
            self._renew()

    def _renew(self) -> None:
        since = time.monotonic()
        stopped = self._flights.stopped()
        ended = {one.lease for one in stopped}
        held = sorted(set(self._flights.held()) - ended)
        if held:
            mine = renew(self._store, held, self._lease)
            self._flights.lost({task_id for task_id, _ in held} - mine)
            self._flights.renewed(mine, since, self._lease)
            ended |= {one for one in held if one[0] not in mine} - set(self._flights.held())  # recorded meanwhile
        self._note(since)
        if ended:
            self._let_go(ended)
            self._flights.forget(stopped)

    def _let_go(self, ended: Collection[tuple[str, str]]) -> None:
        """Free the places of handlers that have ended; what is locked meanwhile is free when nobody prolongs it."""
        try:
            self._store.transact(lambda connection: self._store.holds.end(connection, ended), wait=Wait.BRIEFLY)
        except LockedError as error:
            logger.info("places that handlers have left are free later: %s", error)

    def _note(self, since: float) -> None:
        self._renewed_at = since
        self._renewed()


def renew(store: Store, held: Collection[tuple[str, str]], lease: float, *, tries: int = 6) -> set[str]:
    """Prolong leases; the ids of the tasks that are still held.

    Nothing that somebody has locked keeps the others from being prolonged: what the database refuses together is prolonged one by one,
    or beside its task. Raises what `Database.transact` raises.
    """
    try:
        return store.transact(lambda connection: store.leases.renew(connection, held, lease), tries=tries, wait=Wait.BRIEFLY)
    except LockedError:
        return {task_id for one in held for task_id in _renew_alone(store, one, lease)}


def _renew_alone(store: Store, one: tuple[str, str], lease: float) -> set[str]:
    try:
        return store.transact(lambda connection: store.leases.renew(connection, [one], lease), wait=Wait.NOT)
    except LockedError:
        store.transact(lambda connection: store.leases.renewals.note(connection, [one], lease), wait=Wait.NOT)
        return {one[0]}


def renew_for(store: Store, settings: Settings, held_by: str) -> None:
    """Prolong the leases of another dispatcher that is known to live; raises what `Database.transact` raises.

    Not those of tasks that have passed their deadline by a whole lease: what cannot be interrupted is not kept for ever.
    """
    with store.reading() as connection:
        held = store.leases.held_by(connection, held_by)
    leases = [(one.id, one.lease_id or "") for one, age in held if age < settings.deadline_of(one.queue, one.deadline) + settings.lease]
    if leases:
        renew(store, leases, settings.lease, tries=1)
