"""Places of keys, queues and batches, which whatever runs keeps until it is over, on each
database.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue.core.delivery.outcome import Outcome
from flask_taskqueue.core.names import task_id
from flask_taskqueue.core.states import Record, State
from flask_taskqueue.core.tasks.packed import pack
from flask_taskqueue.core.tasks.request import TaskRequest
from flask_taskqueue.core.tasks.spec import NewTask
from flask_taskqueue.store import AttemptResult, Filter, Store
from tests.store.conftest import add, claim, get, take_over

LATE = Outcome(State.SUCCEEDED, "success", 204)
AGAIN = Outcome(State.SCHEDULED, "timeout", None, "no reply", delay=0.0)

KEYS: dict[str, dict[str, Any]] = {
    "a serial key": {"lock_key": "s:a"},
    "a concurrency key": {"lock_key": "c:a", "lock_limit": 1},
    "a queue": {"queue": "mail"},
}
"""What two tasks can share so that one runs at a time, the queue mail being limited."""


def delete(store: Store, one: Record) -> None:
    """As Task.delete."""
    assert store.transact(lambda connection: store.tasks.delete(connection, one.id))


def purge(store: Store, one: Record) -> None:
    """As Queue.purge."""
    done = store.transact(
        lambda connection: store.tasks.delete_some(
            connection, Filter(queue=one.queue, ids=[one.id])
        )
    )
    assert done == 1


def give_back(store: Store, one: Record) -> None:
    """As a dispatcher that stops while a handler runs on."""
    assert (
        store.transact(
            lambda connection: store.leases.release(connection, [lease(one)], begun=True)
        )
        == 1
    )


def leave_behind(store: Store, one: Record) -> None:
    """As a deadline at which a thread does not stop."""
    record(store, one, AGAIN, goes_on=True)


def lose(store: Store, one: Record) -> None:
    """As a lease that ran out while the process was paused: its next holder has ended, and the
    heartbeat goes on.
    """
    expire(store, store.database.tables.task, due_at=1)
    taken = take_over(store)
    assert taken is not None
    beat(store, one)
    record(store, taken, LATE)


ENDS = [delete, purge, give_back, leave_behind, lose]


def lease(one: Record) -> tuple[str, str]:
    """What its attempt is known by."""
    return one.lease


def record(store: Store, one: Record, outcome: Outcome = LATE, *, goes_on: bool = False) -> None:
    """Record the end of an attempt."""
    store.transact(
        lambda connection: store.recording.record(
            connection, [AttemptResult(one, outcome, 0.1, goes_on=goes_on)]
        )
    )


def beat(store: Store, one: Record, seconds: float = 30.0) -> None:
    """Renew what a process holds."""
    store.transact(lambda connection: store.leases.renew(connection, [lease(one)], seconds))


def expire(store: Store, table: sa.Table, **values: Any) -> None:
    """Change every row."""
    store.transact(lambda connection: connection.execute(sa.update(table).values(**values)))


def holds(store: Store) -> int:
    """How many places are held."""
    with store.reading() as connection:
        return (
            connection.scalar(sa.select(sa.func.count()).select_from(store.database.tables.hold))
            or 0
        )


def lapse(store: Store) -> int:
    """How many places had run out, whose waiting tasks are let go."""
    before = holds(store)
    store.free_lapsed_places()
    return before - holds(store)


def two(store: Store, **fields: Any) -> tuple[Record, Record]:
    """Two tasks that may not run at a time; the first runs."""
    store.transact(
        lambda connection: store.queues.configure(connection, "mail", {"max_concurrent": 1})
    )
    first, second = add(store, **fields), add(store, **fields)
    (running,) = claim(store, 5)
    assert running.id == first.id
    return running, second


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("fields", KEYS.values(), ids=KEYS)
def test_what_still_runs_keeps_its_place(
    store: Store, fields: dict[str, Any], end: Callable[[Store, Record], None]
) -> None:
    """However its lease ended, nothing begins in its place until its handler is over; then
    something does at once.
    """
    running, _ = two(store, **fields)
    end(store, running)
    assert claim(store, 5) == []
    beat(store, running)
    assert claim(store, 5) == []
    if end in (give_back, leave_behind, lose):
        store.transact(lambda connection: store.holds.end(connection, [lease(running)]))
    else:
        record(store, running)
    assert holds(store) == 0
    assert len(claim(store, 5)) == 1


@pytest.mark.parametrize("end", [delete, purge, give_back, leave_behind])
def test_a_lease_that_was_renewed_beside_its_task_keeps_its_place(
    store: Store, end: Callable[[Store, Record], None]
) -> None:
    """Though the row of the task says that it has run out: until its handler is over."""
    running, _ = two(store, lock_key="s:a")
    expire(store, store.database.tables.task, unique_key=store.database.tables.task.c.id)
    beat(store, running)
    expire(store, store.database.tables.task, due_at=1)
    end(store, running)
    assert claim(store, 5) == []


@pytest.mark.parametrize("fields", KEYS.values(), ids=KEYS)
def test_a_place_outlives_its_process_by_a_lease_at_most(
    store: Store, fields: dict[str, Any]
) -> None:
    """Nobody renews it, so it runs out; any dispatcher lets go what waits for it, without the
    janitor.
    """
    running, second = two(store, **fields)
    delete(store, running)
    expire(store, store.database.tables.hold, held_until=1)
    assert lapse(store) == 1
    assert [record.id for record in claim(store, 5)] == [second.id]
    assert lapse(store) == 0


@pytest.mark.parametrize("end", ["expire", "release_killed"])
def test_whoever_ends_the_leases_of_a_dead_process_frees_its_places(store: Store, end: str) -> None:
    """A supervisor knows that nothing of it runs any more."""
    running, second = two(store, lock_key="s:a")
    delete(store, running)
    store.transact(lambda connection: getattr(store.leases, end)(connection, "me"))
    assert [record.id for record in claim(store, 5)] == [second.id]


def test_what_had_not_begun_keeps_no_place(store: Store) -> None:
    """It was deleted while it waited for a thread, and is given back."""
    running, second = two(store, lock_key="s:a")
    delete(store, running)
    assert claim(store, 5) == []
    assert (
        store.transact(lambda connection: store.leases.release(connection, [lease(running)])) == 0
    )
    assert [record.id for record in claim(store, 5)] == [second.id]


def test_a_lease_that_has_run_out_keeps_no_place(store: Store) -> None:
    """Its process is dead: whoever looks next lets go what waits for the key."""
    running, second = two(store, lock_key="s:a")
    expire(
        store,
        store.database.tables.task,
        due_at=sa.case((store.database.tables.task.c.state == "leased", 1)),
    )
    delete(store, running)
    store.free_lapsed_places()
    assert holds(store) == 0
    assert [record.id for record in claim(store, 5)] == [second.id]


@pytest.mark.parametrize("fields", KEYS.values(), ids=KEYS)
def test_a_place_lasts_as_long_as_its_lease_was_renewed(
    store: Store, fields: dict[str, Any]
) -> None:
    """By a process that did not see yet that the task was deleted."""
    running, second = two(store, **fields)
    delete(store, running)
    expire(store, store.database.tables.hold, held_until=1)
    store.transact(
        lambda connection: store.leases.renewals.note(connection, [lease(running)], 30.0)
    )
    assert lapse(store) == 0
    assert claim(store, 5) == []
    expire(store, store.database.tables.renewal, until=1)
    assert lapse(store) == 1
    assert [record.id for record in claim(store, 5)] == [second.id]


def test_a_deleted_task_that_runs_is_ended_once(store: Store) -> None:
    """It is cancelled at once, stays so, and can be forgotten; its place is kept even then."""
    running, second = two(store, lock_key="s:a")
    delete(store, running)
    assert get(store, running.id).state == State.CANCELLED
    assert store.transact(lambda connection: store.tasks.delete(connection, running.id)) is False
    pruned = store.transact(
        lambda connection: store.finished_tasks.prune(
            connection, keep_succeeded=-1.0, keep_dead=0.0, tombstones={}
        )
    )
    assert pruned == 1
    store.transact(store.locks.mend)
    assert claim(store, 5) == []
    record(store, running)
    assert [record.id for record in claim(store, 5)] == [second.id]


def test_a_batch_waits_for_what_still_runs(store: Store) -> None:
    """Its callback begins beside none of its tasks; it counts the deleted one once."""
    callback = NewTask(id=task_id(), request=TaskRequest("POST", "/w", {}, b""), name="finish")
    batch_id = task_id()
    store.transact(
        lambda connection: store.batches.create(connection, batch_id, 1, pack([callback]), None)
    )
    add(store, batch_id=batch_id)
    (running,) = claim(store, 5)
    delete(store, running)
    assert claim(store, 5) == []
    for _ in range(2):
        record(store, running)
    with store.reading() as connection:
        row = store.batches.get(connection, batch_id)
    assert (row.cancelled, row.finished_at is None) == (1, False)
    assert [record.name for record in claim(store, 5)] == ["finish"]


def test_a_task_is_replaced_only_by_name_while_it_runs(store: Store) -> None:
    """on_conflict="replace" takes the unique key from one that runs; its place stays with it."""
    fields: dict[str, Any] = {"lock_key": "s:a", "unique_key": "u"}
    first = add(store, **fields)
    (running,) = claim(store, 5)
    second = add(store, **fields, on_conflict="replace")
    assert (running.id, get(store, first.id).state) == (first.id, State.LEASED)
    assert claim(store, 5) == []
    record(store, running)
    assert [record.id for record in claim(store, 5)] == [second.id]
