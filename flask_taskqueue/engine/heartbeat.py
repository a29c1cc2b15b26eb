"""The heartbeat: renews the leases of what is in flight."""

from __future__ import annotations

import logging
import time

import sqlalchemy as sa

from ..core.errors import TaskQueueError
from ..store import Store
from .flights import Flights

logger = logging.getLogger("flask_taskqueue")


class Heartbeat:
    """For one dispatcher, from a thread of its own; `catch_up` is the drain's."""

    def __init__(self, store: Store, flights: Flights, lease: float) -> None:
        self._store = store
        self._flights = flights
        self._lease = lease
        self._renewed_at = time.monotonic()

    def beat(self) -> None:
        """Prolong the leases of what is in flight; what is no longer ours is told to its handler.

        So it is when the database does not answer for so long that the leases may have run out.
        """
        try:
            self._renew()
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
        held = self._flights.held()
        if not held:
            self._renewed_at = since
            return
        mine = self._store.transact(lambda connection: self._store.leases.renew(connection, held, self._lease))
        self._flights.lost({task_id for task_id, _ in held} - mine)
        self._flights.renewed(mine, since, self._lease)
        self._renewed_at = since
