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
    """For one dispatcher, from a thread of its own."""

    def __init__(self, store: Store, flights: Flights, lease: float) -> None:
        self._store = store
        self._flights = flights
        self._lease = lease

    def beat(self) -> None:
        """Prolong the leases of what is in flight; what is no longer ours is told to its handler.

        So it is when the database does not answer for so long that the leases may have run out.
        """
        held = self._flights.held()
        if not held:
            return
        since = time.monotonic()
        try:
            mine = self._store.transact(lambda connection: self._store.leases.renew(connection, held, self._lease))
        except (TaskQueueError, sa.exc.DBAPIError) as error:
            logger.warning("leases could not be renewed: %s", error)
            self._flights.fence()
            return
        self._flights.lost({task_id for task_id, _ in held} - mine)
        self._flights.renewed(mine, since, self._lease)
