"""Forced tasks, which run whatever their queue, on each database."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue import BadTaskStateError
from flask_taskqueue.core.delivery.outcome import Outcome
from flask_taskqueue.core.names import lease_id
from flask_taskqueue.core.queues.rates import bucket_key
from flask_taskqueue.core.states import Record, State
from flask_taskqueue.core.tasks.request import PULL, TaskRequest
from flask_taskqueue.store import AttemptResult, Store
from flask_taskqueue.store.database.transaction import Wait
from tests.store.conftest import add, claim, get

RETRY = Outcome(State.SCHEDULED, "failure", 500, delay=0.0)


def force(store: Store, task: Record) -> None:
    """Ask for an attempt whatever the queue."""
    store.transact(lambda connection: store.tasks.run_now(connection, task.id, force=True))


def claim_forced(
    store: Store, limit: int = 5, queues: Collection[str] | None = None
) -> list[Record]:
    """Lease forced tasks, as a dispatcher does."""
    terms: dict[str, Any] = {"lease_id": lease_id(), "held_by": "me", "lease": 30.0}
    return store.transact(
        lambda connection: store.claims.claim_forced(connection, queues, limit, **terms)
    )


def is_any_forced(store: Store) -> bool:
    """What a look tells of forced tasks."""
    with store.reading() as connection:
        return store.claims.lanes(connection).forced


def end(store: Store, task: Record, outcome: Outcome) -> None:
    """Record how an attempt ended."""
    store.transact(
        lambda connection: store.recording.record(connection, [AttemptResult(task, outcome, 0.1)])
    )


def change_queue(store: Store, name: str = "mail", **values: Any) -> None:
    """Change a queue's row."""
    queue = store.database.tables.queue
    store.transact(
        lambda connection: connection.execute(
            sa.update(queue).where(queue.c.name == name).values(values)
        )
    )


@pytest.mark.parametrize(
    "closed",
    [{"paused_at": 1}, {"rate": 0.0}, {"rate": 0.001}, {"max_concurrent": 1}],
)
def test_a_forced_task_is_claimed_whatever_its_queue(store: Store, closed: dict[str, Any]) -> None:
    """And it alone: what is due beside it waits as before."""
    add(store, queue="mail")
    claim(store)
    other, wanted = add(store, queue="mail"), add(store, queue="mail", delay=10**9)
    bucket = {"lock_key": bucket_key("mail"), "tokens": -1e9, "filled_at": 0}
    empty = sa.insert(store.database.tables.lock).values(bucket)
    store.transact(lambda connection: connection.execute(empty))
    change_queue(store, **closed)
    assert claim(store, 5) == []
    force(store, wanted)
    assert is_any_forced(store)
    assert claim(store, 5) == []
    taken = claim_forced(store)
    assert [(record.id, record.attempts) for record in taken] == [(wanted.id, 1)]
    assert claim_forced(store) == []
    assert get(store, other.id).state == State.SCHEDULED


def test_the_mark_is_gone_once_the_attempt_has_ended(store: Store) -> None:
    """Whether it is tried again, has ended, or was claimed in the ordinary way; the next attempt
    waits for the queue.
    """
    failed, done = add(store, queue="mail"), add(store, queue="mail")
    change_queue(store, paused_at=1)
    force(store, failed)
    force(store, done)
    first, second = claim_forced(store)
    end(store, first, RETRY)
    end(store, second, Outcome(State.SUCCEEDED, "success", 204))
    assert not is_any_forced(store)
    assert (claim_forced(store), claim(store, 5)) == ([], [])
    assert get(store, failed.id).state == State.SCHEDULED
    change_queue(store, paused_at=None)
    force(store, get(store, failed.id))
    (again,) = claim(store, 5)
    end(store, again, RETRY)
    assert not is_any_forced(store)


def test_a_forced_task_that_is_given_back_is_still_forced(store: Store) -> None:
    """A dispatcher that stops, or gives back what it has not begun, has not attempted it."""
    task = add(store, queue="mail")
    change_queue(store, paused_at=1)
    force(store, task)
    (taken,) = claim_forced(store)
    store.transact(lambda connection: store.leases.release(connection, [taken.lease]))
    assert [record.id for record in claim_forced(store)] == [task.id]


def test_forced_tasks_that_end_otherwise_are_not_claimed(store: Store) -> None:
    """Deleted, expired, or of a queue that dispatchers do not take from."""
    deleted, expired = add(store, queue="mail"), add(store, queue="mail", expires_in=10**9)
    change_queue(store, paused_at=1)
    force(store, deleted)
    force(store, expired)
    store.transact(lambda connection: store.tasks.delete(connection, deleted.id))
    task = store.database.tables.task
    store.transact(
        lambda connection: connection.execute(
            sa.update(task).where(task.c.id == expired.id).values(expires_at=1)
        )
    )
    assert claim_forced(store) == []
    assert get(store, expired.id).last_reason == "expired"
    pulled = add(store, queue="mail")
    force(store, pulled)
    change_queue(store, mode="pull")
    with pytest.raises(BadTaskStateError, match="a worker leases it"):
        force(store, add(store, queue="mail", request=TaskRequest(PULL, "/", {}, b"")))
    for closed in ({"mode": "pull"}, {"mode": None, "deleted_at": 1}):
        change_queue(store, **closed)
        assert claim_forced(store) == []
    change_queue(store, deleted_at=None)
    assert [record.id for record in claim_forced(store)] == [pulled.id]


def test_a_forced_task_waits_for_its_key(store: Store) -> None:
    """It stays forced meanwhile."""
    holder = add(store, lock_key="c:k", lock_limit=1)
    claim(store)
    wanted = add(store, queue="mail", lock_key="c:k", lock_limit=1)
    change_queue(store, paused_at=1)
    force(store, wanted)
    assert claim_forced(store) == []
    assert get(store, wanted.id).due_at is None
    end(store, get(store, holder.id), Outcome(State.SUCCEEDED, "success", 204))
    assert [record.id for record in claim_forced(store)] == [wanted.id]


def test_only_forced_tasks_of_the_chosen_queues_are_claimed(store: Store) -> None:
    """For a dispatcher that takes from some queues only."""
    one, two = add(store), add(store, queue="mail")
    force(store, one)
    force(store, two)
    assert [each.id for each in claim_forced(store, queues=["mail"])] == [two.id]
    assert [each.id for each in claim_forced(store, queues=["default"])] == [one.id]


def test_forced_tasks_are_found_among_many(store: Store) -> None:
    """The index of marks leads to them, and the limit is kept."""
    change_queue(store, paused_at=1)
    many = [add(store, queue="mail") for _ in range(30)]
    for task in many[10:15]:
        force(store, task)
    assert [record.id for record in claim_forced(store, 3)] == [task.id for task in many[10:13]]
    assert len(claim_forced(store, 30)) == 2


def test_a_forced_task_that_somebody_has_locked_is_left_for_later(store: Store) -> None:
    """Others are claimed, where a database can skip it."""
    if store.database.dialect.locks_by_writing:
        pytest.skip("one writer: nothing comes between")
    one, two = add(store, queue="mail"), add(store, queue="mail")
    change_queue(store, paused_at=1)
    force(store, one)
    force(store, two)
    task = store.database.tables.task
    with store.database.engine.connect() as connection, connection.begin():
        connection.execute(sa.select(task.c.id).where(task.c.id == one.id).with_for_update())
        assert [each.id for each in claim_forced(store)] == [two.id]
    assert [each.id for each in claim_forced(store)] == [one.id]


def test_two_that_claim_at_once_take_it_once(store: Store) -> None:
    """Of two claims in a row only the first finds it, whatever was seen before."""
    task = add(store)
    force(store, task)
    with store.reading() as connection:
        lanes = store.claims.lanes(connection)
    assert lanes.forced
    assert len(claim_forced(store)) == 1
    terms: dict[str, Any] = {"lease_id": lease_id(), "held_by": "other", "lease": 30.0}
    assert not store.transact(
        lambda connection: store.claims.claim(connection, lanes.due()[0], 5, **terms),
        wait=Wait.BRIEFLY,
    )
