"""Retention: what is forgotten when, and how."""

from __future__ import annotations

import math
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue import ConfigurationError
from flask_taskqueue.testing import TaskQueueTester
from tests.apps import bench
from tests.databases import TestDatabase

MANY = 3_000


def test_each_state_is_kept_for_its_time(database: TestDatabase) -> None:
    """Succeeded and deleted tasks for one, dead ones for another; attempts go with their tasks,
    counters stay.
    """
    with (
        bench(database.url, TASKQUEUE_KEEP_SUCCEEDED="1h", TASKQUEUE_KEEP_DEAD="3h") as one,
        TaskQueueTester(one.app) as taskqueue,
    ):
        runtime = one.runtime
        one.tasks.worker("/w", retry={"task_retry_limit": 0})(lambda status: ("", int(status)))
        for status in (200, 500):
            one.tasks.add("/w", {"status": status})
        one.tasks.add("/w", {"status": 200}).delete()
        waiting = one.tasks.add("/w", {"status": 200}, countdown="10d")
        taskqueue.run_due()
        taskqueue.advance("50m")
        assert runtime.sweep() == 0
        taskqueue.advance("20m")
        assert runtime.sweep() == 2
        assert {task.state for task in taskqueue.tasks()} == {"dead", "scheduled"}
        taskqueue.advance("3h")
        assert runtime.sweep() == 1
        assert [task.id for task in taskqueue.tasks()] == [waiting.id]
        with runtime.store.reading() as connection:
            assert (
                connection.scalar(
                    sa.select(sa.func.count()).select_from(runtime.store.database.tables.attempt)
                )
                == 0
            )
            assert runtime.store.metrics.all(connection)[0].enqueued == 4
        assert one.tasks.queue("default").statistics().succeeded == 0


def test_tasks_can_be_kept_for_ever(sqlite_database: TestDatabase) -> None:
    """Infinite means never, unless somebody asks to forget them."""
    forever = {f"TASKQUEUE_KEEP_{what}": math.inf for what in ("SUCCEEDED", "DEAD")}
    with bench(sqlite_database.url, **forever) as one, TaskQueueTester(one.app) as taskqueue:
        one.tasks.worker("/w")(lambda: None)
        one.tasks.add("/w")
        taskqueue.run_due()
        taskqueue.advance("3650d")
        runtime = one.runtime
        assert runtime.sweep() == 0
        assert list(runtime.prune(keep=86_400)) == [1]


@pytest.mark.parametrize(("keep", "kept"), [(3, [5, 6, 7]), (math.inf, [1, 2, 3, 4, 5, 6, 7])])
def test_only_the_last_attempts_of_a_task_are_kept(
    database: TestDatabase, keep: float, kept: list[int]
) -> None:
    """As many as the settings say; the task's own count goes on."""
    with (
        bench(database.url, TASKQUEUE_KEEP_ATTEMPTS=keep) as one,
        TaskQueueTester(one.app) as taskqueue,
    ):
        one.tasks.worker("/w")(lambda: ("", 503))
        task, other = one.tasks.add("/w"), one.tasks.add("/w")
        for _ in range(7):
            taskqueue.run(task)
        taskqueue.run(other)
        assert [number for number, _, _ in one.attempts(task)] == kept
        assert [number for number, _, _ in one.attempts(other)] == [1]
        assert taskqueue.get(task).attempts == 7


@pytest.mark.parametrize("value", [0, -1, 1.5, "many", True])
def test_a_number_of_attempts_that_cannot_be_kept_is_refused(
    sqlite_database: TestDatabase, value: Any
) -> None:
    """When the application is set up."""
    with (
        pytest.raises(ConfigurationError, match="TASKQUEUE_KEEP_ATTEMPTS"),
        bench(sqlite_database.url, TASKQUEUE_KEEP_ATTEMPTS=value),
    ):
        pass


@pytest.mark.slow
def test_much_is_forgotten_in_small_transactions(database: TestDatabase) -> None:
    """None of them long; all of it in one sweep if there is the time, and the counters do not
    fall.
    """
    with bench(database.url) as one:
        runtime = one.runtime
        store, task = runtime.store, runtime.store.database.tables.task
        one.tasks.worker("/w")(lambda: None)
        one.tasks.add_many(["/w"] * MANY)
        store.transact(
            lambda connection: connection.execute(
                sa.update(task).values(
                    state="succeeded",
                    due_at=None,
                    finished_at=task.c.created_at - 86_500 * 1_000_000,
                )
            )
        )
        store.transact(lambda connection: store.counters.add(connection, _succeeded(MANY), ""))
        before = one.tasks.queue("default").statistics()
        deleted: list[int] = []
        sa.event.listen(
            store.database.engine,
            "after_cursor_execute",
            lambda _c, cursor, text, *_: (
                deleted.append(cursor.rowcount)
                if text.startswith("DELETE FROM taskqueue_task ")
                else None
            ),
        )
        assert runtime.sweep() == MANY
        assert deleted == [500] * 6
        assert (before.succeeded, one.tasks.queue("default").statistics().succeeded) == (MANY, 0)
        with store.reading() as connection:
            assert store.metrics.all(connection)[0].enqueued == MANY


def _succeeded(number: int) -> dict[str, dict[str, int]]:
    nothing = dict.fromkeys(("attempts", "failures", "dead", "cancelled"), 0)
    return {"default": {**nothing, "succeeded": number, "ended_succeeded": number}}
