"""The janitor: forgets finished tasks when they have been kept long enough, and ends rows that nobody could take."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import sqlalchemy as sa

from ..core.errors import TaskQueueError
from ..store import Store

logger = logging.getLogger("flask_taskqueue")

_ROUNDS = 20


def sweep(store: Store, *, keep_succeeded: float, keep_dead: float, tombstones: Mapping[str, float]) -> int:
    """Mend, and forget finished tasks, in small transactions so that nobody waits long for one; how many were forgotten.

    What is left over after a bounded number of them is for the next sweep.
    """
    total = 0
    try:
        malformed = store.transact(store.end_unreachable)
        if malformed:
            logger.error("%d stored tasks are malformed (no such queue, or a priority that is none) and dead", malformed)
        store.transact(store.locks.mend)
        store.transact(store.tally.merge)
        store.transact(store.tally.meter.merge)
        store.transact(store.schedules.prune)
        store.transact(store.dispatchers.prune)
        store.transact(store.audit.prune)
        store.transact(lambda connection: store.batches.prune(connection, max(keep_succeeded, keep_dead)))
        for _ in range(_ROUNDS):
            pruned = store.transact(
                lambda connection: store.history.prune(
                    connection, keep_succeeded=keep_succeeded, keep_dead=keep_dead, tombstones=tombstones
                )
            )
            total += pruned
            if not pruned:
                break
    except (TaskQueueError, sa.exc.DBAPIError) as error:
        logger.warning("the janitor could not work: %s", error)
    return total
