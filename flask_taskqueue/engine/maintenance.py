"""Maintenance: forgets finished tasks and ends rows that nobody could take.

Finished tasks are forgotten when they have been kept long enough.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa

from ..core.errors import TaskQueueError
from ..core.settings.app import Settings
from ..process.logs import get_logger
from ..store import LockedError, Store, Tombstones, Wait, apart, refusal

_logger = get_logger()

_ROUNDS = 20


def carry_on(store: Store, tell: Callable[[str, int], object] = lambda *_: None) -> bool:
    """Do some of the unfinished bulk changes; return whether there were any.

    They are done in small transactions, and the rest is left for the next call. ``tell`` is called
    with the action and the number of tasks of each bulk change that has come to its end.
    """
    try:
        unfinished = store.read(store.bulk_changes.unfinished)
        for bulk in unfinished:
            _go_on(store, bulk, tell)
    except (TaskQueueError, sa.exc.DBAPIError) as error:
        _logger.warning("a bulk change could not go on: %s", error)
        return False
    return bool(unfinished)


def _go_on(store: Store, bulk: str, tell: Callable[[str, int], object]) -> None:
    """Do some of one bulk change.

    While something of a task that it must change is locked or refused, it waits and the others go
    on.
    """
    step = None
    try:
        with apart(lambda error: _note_refusal(f"bulk change {bulk}", error)):
            for _ in range(_ROUNDS):
                step = store.transact(
                    partial(store.bulk_changes.go_on, bulk_id=bulk), wait=Wait.BRIEFLY
                )
                if step is None or step.is_last:
                    break
    except LockedError as error:
        _logger.info("a bulk change waits: %s", error)
        return
    if step is not None and step.is_last:
        tell(step.action, step.changed)


def _note_refusal(what: str, error: Exception) -> None:
    _logger.error("%s is refused, and is tried again: %s", what, refusal(error) or error)


Step = Callable[[sa.Connection], int | None]
"""The work of one transaction, which returns how many rows it affected."""

_LONGEST = 15.0
"""The most seconds that one sweep forgets tasks; the rest is left for the next one."""
_BREATH = 0.002
"""The seconds between two transactions, so that others get to write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long finished tasks are kept, and how long their names stay taken.

    Both are in seconds (infinite: for ever); ``tombstones`` has the times for names, by configured
    queue (see `tombstones_of`).
    """

    succeeded: float
    dead: float
    tombstones: Tombstones

    @classmethod
    def of(cls, settings: Settings, *, keep: float | None = None) -> Retention:
        """Return the settings' retention, or ``keep`` seconds whatever became of the task."""
        tombstones: dict[str | None, float] = {
            name: queue.tombstone_ttl
            for name, queue in settings.queues.items()
            if queue.tombstone_ttl is not None
        }
        tombstones[None] = settings.webhook_ttl
        if keep is not None:
            return cls(succeeded=keep, dead=keep, tombstones=tombstones)
        return cls(
            succeeded=settings.keep_succeeded, dead=settings.keep_dead, tombstones=tombstones
        )


def sweep(store: Store, retention: Retention) -> int:
    """Mend the tables and forget finished tasks; return how many were forgotten.

    This is done in small transactions, so that nobody waits long for one. What is left over after
    some seconds is for the next sweep, and so is what is locked or refused.
    """
    total = 0
    limit = time.monotonic() + _LONGEST

    def transact(step: Step) -> int:
        try:
            with apart(partial(_note_refusal, "a step of the janitor")):
                return store.transact(step, wait=Wait.BRIEFLY) or 0
        except LockedError as error:
            _logger.info("the janitor leaves something for later: %s", error)
        return 0

    try:
        _mend(store, transact, limit)
        for pruned in prune(store, retention, transact):
            total += pruned
            if time.monotonic() > limit:
                break
            time.sleep(_BREATH)
    except (TaskQueueError, sa.exc.DBAPIError) as error:
        _logger.warning("the janitor could not work: %s", error)
    return total


def prune(
    store: Store, retention: Retention, transact: Callable[[Step], int | None] | None = None
) -> Iterator[int]:
    """Forget tasks that were kept long enough; yield how many each transaction forgot.

    Each transaction forgets some hundred tasks, until none is left. Batches are forgotten with the
    tasks that are kept longest. ``transact`` runs a step; the default is `Database.transact`.
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
        store.added_queues.prune,
    ):
        transact(forget)
    while pruned := transact(
        lambda connection: store.finished_tasks.prune(
            connection,
            keep_succeeded=retention.succeeded,
            keep_dead=retention.dead,
            tombstones=tombstones_of(store, retention, connection),
        )
    ):
        yield pruned


def tombstones_of(store: Store, retention: Retention, connection: sa.Connection) -> Tombstones:
    """Return for how many seconds names stay taken, by queue: those of added queues too."""
    added: dict[str | None, float] = {
        queue.name: queue.tombstone_ttl
        for queue in store.added_queues.all(connection)
        if queue.tombstone_ttl is not None
    }
    return {**added, **retention.tombstones}


def _mend(store: Store, transact: Callable[[Step], int], limit: float) -> None:
    malformed = transact(store.end_unreachable)
    if malformed:
        _logger.error(
            "%d stored tasks are malformed (no such queue or priority, or a due_at after all time) "
            "and dead",
            malformed,
        )
    _empty_deleted_queues(store, transact, limit)
    store.free_lapsed_places()
    store.free_unused_keys()
    while transact(store.forwarding.take_back) and time.monotonic() < limit:
        time.sleep(_BREATH)
    for mend in (store.locks.mend, store.counters.merge, store.counters.measures.merge):
        transact(mend)


def _empty_deleted_queues(store: Store, transact: Callable[[Step], int], limit: float) -> None:
    """Cancel what is left in deleted queues.

    Whoever deleted one may have died meanwhile, and a transaction that began before may have stored
    a task in it afterwards.
    """
    deleted = store.read(store.added_queues.unfinished)
    for queue in deleted:
        cancelled = 0
        while time.monotonic() < limit:
            some = transact(partial(store.cancel_of_deleted, queue=queue))
            if not some:
                break
            cancelled += some
            time.sleep(_BREATH)
        if cancelled:
            _logger.warning(
                "%d tasks of queue %s, which was deleted, were cancelled", cancelled, queue
            )
