"""Runs of schedules on each database: those that go on, those that failed, those of a release
that had no such schedule.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from flask_taskqueue.core.names import task_id
from flask_taskqueue.core.states import State
from flask_taskqueue.core.times import to_datetime
from flask_taskqueue.store import Store
from tests.store.conftest import claim, get
from tests.store.test_schedules import START, cron, definition, end, fired, row

HOUR = timedelta(hours=1)


def fail(store: Store, reason: str | None = "failure") -> None:
    """Have every task that has not ended wait for its retry."""
    task = store.database.tables.task
    live = task.c.finished_at.is_(None)
    changes = {"last_reason": reason, "attempts": 1, "due_at": task.c.due_at + 10**12}
    store.transact(
        lambda connection: connection.execute(sa.update(task).where(live).values(changes))
    )


def states(store: Store) -> list[State]:
    """What has become of the tasks, in their order."""
    task = store.database.tables.task
    with store.reading() as connection:
        return [
            State(scalar)
            for scalar in connection.scalars(sa.select(task.c.state).order_by(task.c.id))
        ]


def test_a_run_by_hand_is_one_that_has_not_ended(store: Store) -> None:
    """Whether it is the last or another."""
    one = cron(store, definition("hourly", "0 * * * *"))
    one.tick(START)
    first, second = task_id(), task_id()
    store.transact(lambda connection: store.schedules.run_now(connection, "hourly", first))
    one.tick(START + HOUR)
    assert states(store) == [State.SCHEDULED]
    store.transact(lambda connection: store.schedules.run_now(connection, "hourly", second))
    store.transact(lambda connection: store.tasks.delete(connection, second))
    one.tick(START + 2 * HOUR)
    assert states(store) == [State.SCHEDULED, State.CANCELLED]
    store.transact(lambda connection: store.tasks.delete(connection, first))
    one.tick(START + 3 * HOUR)
    assert states(store) == [State.CANCELLED, State.CANCELLED, State.SCHEDULED]


def test_a_dead_run_that_is_requeued_has_not_ended(store: Store) -> None:
    """Though others have run since."""
    one = cron(store, definition("hourly", "0 * * * *"))
    one.declare(START)
    one.tick(START + HOUR)
    first = row(store, "hourly").last_task_id
    end(store, START + HOUR, state=State.DEAD.value)
    one.tick(START + 2 * HOUR)
    end(store, START + 2 * HOUR)
    store.transact(lambda connection: store.tasks.requeue(connection, first))
    one.tick(START + 3 * HOUR)
    assert states(store) == [State.SCHEDULED, State.SUCCEEDED]


@pytest.mark.parametrize("text", ["0 * * * *", "every 1 hours"])
def test_a_run_that_failed_is_replaced_at_the_next_fire_time(
    store: Store, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """However long its retry waits; the log tells."""
    one = cron(store, definition("hourly", text))
    one.declare(START)
    one.tick(START + HOUR)
    failed = row(store, "hourly").last_task_id
    fail(store)
    one.tick(START + 2 * HOUR)
    assert states(store) == [State.CANCELLED, State.SCHEDULED]
    assert get(store, failed).last_reason == "replaced"
    assert f"schedule hourly: task {failed} failed 1 times and is replaced" in caplog.text
    one.tick(START + 3 * HOUR)
    assert states(store) == [State.CANCELLED, State.SCHEDULED]


def test_a_run_that_failed_is_not_replaced_while_it_is_attempted(store: Store) -> None:
    """Nor with misfire="all", where no fire time is left out."""
    one = cron(
        store, definition("hourly", "0 * * * *"), definition("each", "0 * * * *", misfire="all")
    )
    one.declare(START)
    one.tick(START + HOUR)
    fail(store, reason=None)
    task = store.database.tables.task
    due = sa.update(task).values(due_at=1, last_reason="failure")
    store.transact(lambda connection: connection.execute(due.where(task.c.schedule == "hourly")))
    assert len(claim(store)) == 1
    fail(store)
    one.tick(START + 2 * HOUR)
    assert sorted(states(store)) == [State.LEASED, State.SCHEDULED]


def test_what_the_code_did_not_declare_for_a_while_missed_nothing(store: Store) -> None:
    """Where dispatchers ran meanwhile that did not declare it; with misfire="all" it is caught
    up on.
    """
    schedules = definition("hourly", "0 * * * *"), definition("each", "0 * * * *", misfire="all")
    cron(store, *schedules).declare(START)
    without = cron(store)
    without.tick(START + HOUR + timedelta(seconds=30))
    assert to_datetime(row(store, "hourly").next_at) == START + HOUR
    without.tick(START + 5.5 * HOUR)
    again = cron(store, *schedules)
    again.tick(START + 5.6 * HOUR)
    assert (fired(store, "hourly"), fired(store, "each")) == ([], [START + HOUR])
    again.tick(START + 6 * HOUR)
    assert fired(store, "hourly") == [START + 6 * HOUR]
