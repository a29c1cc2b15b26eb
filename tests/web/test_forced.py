"""``run_now(force=True)`` through an application, on each database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flask_taskqueue import BadTaskStateError, State
from flask_taskqueue.core.diagnosis.waiting import causes
from tests.apps import Bench, bench
from tests.databases import TestDatabase

HELD = {"countdown": 3600}


@pytest.fixture
def shop(database: TestDatabase) -> Iterator[Bench]:
    """An application whose queue closed is paused, and whose queue shut has the rate 0."""
    queues = {"closed": {}, "shut": {"rate": "0"}}
    with bench(database.url, TASKQUEUE_QUEUES=queues) as one:
        one.tasks.worker("/w")(lambda: None)

        @one.tasks.worker("/fails")
        def fails() -> tuple[str, int]:
            return "no", 500

        one.tasks.queue("closed").pause(by="ana")
        yield one


@pytest.mark.parametrize("queue", ["closed", "shut"])
def test_a_running_dispatcher_takes_a_forced_task_from_a_queue_that_lets_nothing_start(
    shop: Bench, queue: str
) -> None:
    """At once, for it is woken; the task beside it waits on."""
    other = shop.tasks.add("/w", queue=queue)
    task = shop.tasks.add("/w", queue=queue, **HELD)
    shop.runtime.start()
    task.run_now(force=True)
    assert task.wait(60).state == State.SUCCEEDED
    assert shop.tasks.get(other.id).state == State.SCHEDULED


def test_every_forced_task_is_attempted_once(shop: Bench) -> None:
    """A drain takes all of them, also when there are more than slots; one that fails waits for
    the queue again.
    """
    tasks = [shop.tasks.add("/w", queue="closed") for _ in range(12)]
    failing = shop.tasks.add("/fails", queue="closed", retry={"min_backoff_seconds": 0})
    for task in (*tasks, failing):
        task.run_now(force=True)
    assert shop.tasks.drain() == 13
    assert {shop.tasks.get(task.id).state for task in tasks} == {State.SUCCEEDED}
    found = shop.tasks.get(failing.id)
    assert (found.state, found.attempts) == (State.SCHEDULED, 1)
    assert "paused" in shop.tasks.why(failing).also


def test_why_says_that_a_task_is_forced(shop: Bench) -> None:
    """Instead of what holds up the others of its queue."""
    task, other = (shop.tasks.add("/w", queue="closed") for _ in range(2))
    task.run_now(force=True)
    assert "paused" in shop.tasks.why(other).also
    forced = shop.tasks.why(task)
    assert (forced.code, forced.also) == ("no_dispatcher", ())
    with shop.store.reading() as connection:
        facts = shop.store.task_facts.facts(connection, shop.store.tasks.get(connection, task.id))
    (*_, turn) = causes(facts)
    assert "to run it whatever the state of its queue" in turn.sentence


def test_only_a_scheduled_task_is_forced(shop: Bench) -> None:
    """One that has ended, or waits for its key, is refused as by a plain run_now()."""
    done = shop.run(shop.tasks.add("/w"))
    with pytest.raises(BadTaskStateError, match="succeeded"):
        done.run_now(force=True)


def test_forcing_is_part_of_the_sessions_transaction(shop: Bench) -> None:
    """Nothing of it is left when that is rolled back."""
    task = shop.tasks.add("/w", queue="closed", **HELD)
    shop.db.session.add(shop.Counter(id=2, count=0))
    task.run_now(force=True)
    shop.db.session.rollback()
    assert shop.tasks.drain() == 0
    shop.db.session.add(shop.Counter(id=2, count=0))
    task.run_now(force=True)
    shop.db.session.commit()
    assert shop.run(task).state == State.SUCCEEDED


def test_a_plain_run_now_does_not_pass_a_closed_queue(shop: Bench) -> None:
    """The other direction."""
    task = shop.tasks.add("/w", queue="closed", **HELD)
    task.run_now()
    assert shop.tasks.drain() == 0
    assert "paused" in shop.tasks.why(task).also


def test_forced_by_command(shop: Bench) -> None:
    """With the ids of the tasks, not by a filter."""
    task = shop.tasks.add("/w", queue="closed", **HELD)
    runner = shop.app.test_cli_runner()
    refused = runner.invoke(args=["taskqueue", "run-now", "--all", "--force", "--yes"])
    assert refused.exit_code == 2
    assert "--force is for tasks that are given by their ids" in refused.output
    done = runner.invoke(args=["taskqueue", "run-now", task.id, "--force"])
    assert done.exit_code == 0, done.output
    assert shop.run(task).state == State.SUCCEEDED
