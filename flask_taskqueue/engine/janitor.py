"""The janitor: sweeps finished tasks away when they have been kept long enough."""

from __future__ import annotations

import logging

import sqlalchemy as sa

from ..core.errors import TaskQueueError
from ..store import Store

logger = logging.getLogger("flask_taskqueue")

_ROUNDS = 20


def sweep(store: Store, *, keep_succeeded: float, keep_dead: float) -> int:
    """Forget finished tasks in small transactions, so that nobody waits long for one; how many.

    What is left over after a bounded number of them is for the next sweep.
    """
    total = 0
    try:
        for _ in range(_ROUNDS):
            pruned = store.transact(lambda connection: store.history.prune(connection, keep_succeeded=keep_succeeded, keep_dead=keep_dead))
            total += pruned
            if not pruned:
                break
    except (TaskQueueError, sa.exc.DBAPIError) as error:
        logger.warning("finished tasks could not be pruned: %s", error)
    return total
