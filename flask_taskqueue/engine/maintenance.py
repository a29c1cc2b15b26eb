"""The janitor: forgets finished tasks when they have been kept long enough, and ends rows that
nobody could take.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa

from ..core.errors import TaskQueueError
from ..core.settings.app import Settings
from ..store import LockedError, Store, Wait

logger = logging.getLogger("flask_taskqueue")

_ROUNDS = 20


def carry_on(store: Store, tell: Callable[[str, int], object] = lambda *_: None) -> bool:
    """Do some of what is unfinished, in small transactions; whether there was anything. The rest is
    for the next call.

    ``tell`` is called with the action and the number of tasks of each bulk change that has come to
    its end.
    """
    try:
        with store.reading() as connection:
            unfinished = store.bulk_changes.unfinished(connection)
        for bulk in unfinished:
            _go_on(store, bulk, tell)
    except (TaskQueueError, sa.exc.DBAPIError) as error:
        logger.warning("a bulk change could not go on: %s", error)
        return False
    return bool(unfinished)


def _go_on(store: Store, bulk: str, tell: Callable[[str, int], object]) -> None:
    """Do some of one change; while an application's transaction has locked a task that it is to
    change, it waits and others go on.
    """
    try:
        for _ in range(_ROUNDS):
            step = store.transact(
                partial(store.bulk_changes.go_on, bulk_id=bulk), wait=Wait.BRIEFLY
            )
            if step is None or step.is_last:
                break
    except LockedError as error:
        logger.info("a bulk change waits: %s", error)
        return
    if step is not None and step.is_last:
        tell(step.action, step.changed)


Step = Callable[[sa.Connection], int | None]
"""What one transaction does, and to how many rows."""

_LONGEST = 15.0
"""Seconds that one sweep forgets tasks at most; the rest is for the next one."""
_BREATH = 0.002
"""Seconds between two transactions, so that others come to write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long finished tasks are kept, in seconds (infinite: for ever), and by queue how long
    their names stay taken.
    """

    succeeded: float
    dead: float
    tombstones: Mapping[str, float]

    @classmethod
    def of(cls, settings: Settings, *, keep: float | None = None) -> Retention:
        """What the settings say; or ``keep`` seconds, whatever became of the task."""
        tombstones = {
            name: queue.tombstone_ttl
            for name, queue in settings.queues.items()
            if queue.tombstone_ttl is not None
        }
        if keep is not None:
            return cls(succeeded=keep, dead=keep, tombstones=tombstones)
        return cls(
            succeeded=settings.keep_succeeded, dead=settings.keep_dead, tombstones=tombstones
        )


def sweep(store: Store, retention: Retention) -> int:
    """Mend, and forget finished tasks, in small transactions so that nobody waits long for one; how
    many were forgotten.

    What is left over after some seconds is for the next sweep, and so is what an application's
    transaction has locked.
    """
    total = 0
    limit = time.monotonic() + _LONGEST

    def transact(step: Step) -> int:
        try:
            return store.transact(step, wait=Wait.BRIEFLY) or 0
        except LockedError as error:
            logger.info("the janitor leaves something for later: %s", error)
            return 0

    try:
        _mend(store, transact)
        for pruned in prune(store, retention, transact):
            total += pruned
            if time.monotonic() > limit:
                break
            time.sleep(_BREATH)
    except (TaskQueueError, sa.exc.DBAPIError) as error:
        logger.warning("the janitor could not work: %s", error)
    return total


def prune(
    store: Store, retention: Retention, transact: Callable[[Step], int | None] | None = None
) -> Iterator[int]:
    """Forget what has been kept long enough, some hundred tasks in each transaction; how many each
    forgot, until none is left.

    Batches are forgotten with the tasks that are kept longest. ``transact`` runs a step,
    `Database.transact` unless it is given.
    """
    transact = transact or store.transact
    for forget in (
        lambda connection: store.batches.prune(
            connection, max(retention.succeeded, retention.dead)
        ),
        store.schedules.prune,
        store.dispatchers.prune,
        store.audit.prune,
        store.bulk_changes.prune,
        store.counters.rollups.prune,
        store.leases.renewals.prune,
        store.slowdowns.prune,
    ):
        transact(forget)
    while pruned := transact(
        lambda connection: store.finished_tasks.prune(
            connection,
            keep_succeeded=retention.succeeded,
            keep_dead=retention.dead,
            tombstones=retention.tombstones,
        )
    ):
        yield pruned


def _mend(store: Store, transact: Callable[[Step], int]) -> None:
    malformed = transact(store.end_unreachable)
    if malformed:
        logger.error(
            "%d stored tasks are malformed (no such queue, or a priority that is none) and dead",
            malformed,
        )
    store.free_lapsed_places()
    for mend in (store.locks.mend, store.counters.merge, store.counters.measures.merge):
        transact(mend)
