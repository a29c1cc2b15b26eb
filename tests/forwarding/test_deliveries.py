"""What becomes of a task whose queue has Cloud Tasks as its engine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue import (
    BadTaskStateError,
    PermanentFailure,
    Retry,
    RetryOptions,
    TaskSpec,
    current_task,
)
from flask_taskqueue.store.adding.schedule_runs import last_run
from tests.apps import Bench
from tests.cloud import Cloud


@pytest.mark.slow
def test_a_task_is_handed_over_delivered_and_ended_with_its_handlers_transaction(
    app: Bench, cloud: Cloud
) -> None:
    """From add() to the end; what goes to Cloud Tasks is where to call and when, not the body."""
    task = app.tasks.add("/count", {"by": 3})
    assert app.tasks.drain() == 0

    assert app.tasks.get(task.id).state == "forwarded"
    (sent,) = cloud.tasks.values()
    assert sent["httpRequest"]["url"].endswith("/app/count")
    assert "body" not in sent["httpRequest"]
    assert cloud.deliver().status_code == 200
    assert app.tasks.get(task.id).state == "succeeded"
    assert app.count() == 3
    assert app.attempts(task) == [(1, "success", 204)]


@pytest.mark.slow
def test_a_task_of_a_transaction_that_is_rolled_back_is_not_handed_over(
    app: Bench, cloud: Cloud
) -> None:
    """The table is the outbox, so the transaction rule of add() holds."""
    app.db.session.get(app.Counter, 1).count = 5
    app.tasks.add("/count")
    app.db.session.rollback()
    app.tasks.drain()
    assert not cloud.created


@pytest.mark.slow
def test_a_delivery_that_comes_again_after_the_end_runs_nothing(app: Bench, cloud: Cloud) -> None:
    """At least once is what Cloud Tasks promises; the row makes it once."""
    add_and_forward(app)
    name = cloud.created[0]
    assert cloud.deliver(name).status_code == 200
    assert cloud.deliver(name).status_code == 200
    assert app.count() == 1


@pytest.mark.slow
def test_of_two_deliveries_at_once_one_runs_and_the_other_is_to_come_later(
    app: Bench, cloud: Cloud
) -> None:
    """The lease is taken by one conditional statement."""
    inside, go_on, ran = threading.Event(), threading.Event(), []

    def slow() -> None:
        ran.append(current_task.attempt)
        inside.set()
        assert go_on.wait(60)

    replies = []
    with worker(app, "/slow", slow):
        add_and_forward(app, "/slow")
        name = cloud.created[0]
        first = threading.Thread(target=lambda: replies.append(cloud.deliver(name).status_code))
        first.start()
        assert inside.wait(60)
        second = cloud.deliver(name)
        assert second.status_code == 503
        assert 1 <= int(second.headers["Retry-After"]) <= 30
        go_on.set()
        first.join()
    assert replies == [200]
    assert ran == [1]


@pytest.mark.slow
def test_a_failed_attempt_is_recorded_and_cloud_tasks_delivers_again(
    app: Bench, cloud: Cloud
) -> None:
    """The history is that of any task."""
    fails = [True, False]

    def flaky() -> Any:
        return ("no", 500) if fails.pop(0) else None

    with worker(app, "/flaky", flaky):
        task = add_and_forward(app, "/flaky")
        assert cloud.deliver().status_code == 500
        assert app.tasks.get(task.id).state == "forwarded"
        assert app.tasks.get(task.id).attempts == 1
        app.tasks.drain()
        assert len(cloud.created) == 1
        assert cloud.deliver().status_code == 200
    assert app.attempts(task) == [(1, "failure", 500), (2, "success", 204)]
    assert app.tasks.get(task.id).state == "succeeded"


@pytest.mark.slow
def test_retry_after_is_asked_of_cloud_tasks(app: Bench, cloud: Cloud) -> None:
    """Retry(after=…) becomes 503 with Retry-After."""

    def later() -> None:
        raise Retry("not yet", after=17)

    with worker(app, "/later", later):
        add_and_forward(app, "/later")
        reply = cloud.deliver()
    assert (reply.status_code, reply.headers["Retry-After"]) == (503, "17")


@pytest.mark.slow
def test_a_permanent_failure_and_the_last_attempt_are_dead_and_answered_with_success(
    app: Bench, cloud: Cloud
) -> None:
    """Cloud Tasks forgets them, and they are kept here."""

    def never() -> None:
        raise PermanentFailure("no such address")

    def fails() -> Any:
        return "no", 500

    with worker(app, "/never", never), worker(app, "/fails", fails):
        first = add_and_forward(app, "/never")
        assert cloud.deliver().status_code == 200
        second = add_and_forward(app, "/fails", retry=RetryOptions(task_retry_limit=1))
        assert cloud.deliver().status_code == 500
        assert cloud.deliver().status_code == 200
    assert [app.tasks.get(one.id).state for one in (first, second)] == ["dead", "dead"]
    assert not cloud.tasks


@pytest.mark.slow
def test_a_deleted_task_is_not_run_and_deleted_there(app: Bench, cloud: Cloud) -> None:
    """Deleting needs no answer of Cloud Tasks: the row decides."""
    kept = add_and_forward(app)
    task = add_and_forward(app)
    name = cloud.created[1]
    assert task.delete()
    app.tasks.drain()
    assert list(cloud.tasks) == [cloud.created[0]]
    assert cloud.deliver(cloud.created[0]).ok
    assert app.tasks.get(kept.id).state == "succeeded"
    cloud.retired[name] = cloud.retired[cloud.created[0]] | {"httpRequest": {"url": "/count"}}
    assert cloud.deliver(name).status_code == 200
    assert app.tasks.get(task.id).state == "cancelled"
    assert app.count() == 1


@pytest.mark.slow
def test_an_expired_task_is_cancelled_by_its_delivery(app: Bench, cloud: Cloud) -> None:
    """It is not run, and Cloud Tasks forgets it."""
    task = add_and_forward(app, expires="1h")
    change(app, task.id, expires_at=1)
    assert cloud.deliver().status_code == 200
    assert app.tasks.get(task.id).state == "cancelled"
    assert app.count() == 0


@pytest.mark.slow
def test_a_paused_queue_hands_over_nothing_and_runs_nothing(app: Bench, cloud: Cloud) -> None:
    """Deliveries that come meanwhile are put off, without an attempt."""
    task = add_and_forward(app)
    app.tasks.queue("mail").pause()
    waiting = app.tasks.add("/count")
    app.tasks.drain()
    assert len(cloud.created) == 1
    assert cloud.deliver().status_code == 503
    assert app.tasks.get(task.id).attempts == 0
    app.tasks.queue("mail").resume()
    app.tasks.drain()
    assert cloud.deliver(cloud.created[0]).ok
    assert app.tasks.get(waiting.id).state == "forwarded"


@pytest.mark.slow
def test_the_next_delivery_takes_over_from_a_process_that_died(app: Bench, cloud: Cloud) -> None:
    """The crash is an attempt of its own; a lease that still holds is respected."""
    task = add_and_forward(app)
    leased = lease(app, task.id)
    assert leased is not None
    assert cloud.deliver().status_code == 503
    change(app, task.id, due_at=1)
    assert cloud.deliver().status_code == 200
    assert app.attempts(task) == [(1, "crash", None), (2, "success", 204)]
    assert app.count() == 1


def test_a_task_whose_handler_committed_before_its_process_died_is_not_run_again(
    app: Bench, cloud: Cloud
) -> None:
    """Exactly once: the handler's transaction holds the end of its attempt."""
    task = add_and_forward(app)
    record = lease(app, task.id)
    with app.store.database.engine.begin() as connection:
        mark = app.store.completions.begin(connection, record)
        assert app.store.completions.complete(connection, record, 204, mark)
    change(app, task.id, due_at=1)
    assert cloud.deliver().status_code == 200
    assert app.tasks.get(task.id).state == "succeeded"
    assert app.count() == 0


@pytest.mark.slow
def test_what_cloud_tasks_knows_no_more_is_dead_with_a_reason(app: Bench, cloud: Cloud) -> None:
    """Its queue may have given up, or somebody deleted the task there."""
    known, lost = add_and_forward(app), add_and_forward(app)
    del cloud.tasks[cloud.created[1]]
    app.tasks.drain()
    assert app.tasks.get(lost.id).state == "forwarded"  # it is asked after once it is late
    change(app, known.id, due_at=1)
    change(app, lost.id, due_at=1)
    app.tasks.drain()
    assert app.tasks.get(known.id).state == "forwarded"
    found = app.tasks.get(lost.id)
    assert found.state == "dead"
    assert "Cloud Tasks has this task no more" in (found.last_error or "")


def test_a_lease_that_nobody_takes_over_is_ended_by_the_janitor(app: Bench, cloud: Cloud) -> None:
    """The task is forwarded again, and asked after in its time."""
    task = add_and_forward(app)
    lease(app, task.id)
    change(app, task.id, due_at=1)
    app.tasks.drain()
    assert app.tasks.get(task.id).state == "forwarded"
    assert app.attempts(task) == [(1, "crash", None)]


@pytest.mark.slow
def test_run_now_and_requeue_hand_a_task_over_again_under_another_name(
    app: Bench, cloud: Cloud
) -> None:
    """Cloud Tasks takes a name once; the older task there runs nothing."""
    task = add_and_forward(app, countdown="20d")
    with pytest.raises(BadTaskStateError, match="without force"):
        task.run_now(force=True)
    task.run_now()
    app.tasks.drain()
    old, new = cloud.created
    assert cloud.tasks[new]["scheduleTime"] < cloud.tasks[old]["scheduleTime"]
    assert cloud.deliver(new).ok
    assert cloud.deliver(old).ok
    assert app.count() == 1

    def never() -> None:
        raise PermanentFailure("no")

    with worker(app, "/never", never):
        dead = add_and_forward(app, "/never")
        assert cloud.deliver().ok
        app.tasks.get(dead.id).requeue()
        app.tasks.drain()
        assert app.tasks.get(dead.id).state == "forwarded"
        assert cloud.deliver().ok


@pytest.mark.slow
def test_batches_and_tasks_that_follow_stay(app: Bench, cloud: Cloud) -> None:
    """What follows an end follows it here, whoever delivered."""
    batch = app.tasks.batch(
        [TaskSpec("/count", {"by": 1}, then=TaskSpec("/count", {"by": 10}))],
        on_finish=TaskSpec("/count", {"by": 100}),
    )
    app.tasks.drain()
    assert cloud.deliver().ok
    assert app.tasks.get_batch(batch.id).is_finished
    app.tasks.drain()
    while cloud.tasks:
        assert cloud.deliver().ok
    assert app.count() == 111


def test_results_are_kept(app: Bench, cloud: Cloud) -> None:
    """keep_result works as with any queue."""

    def answer() -> Any:
        return {"answer": 42}

    with worker(app, "/answer", answer):
        task = add_and_forward(app, "/answer", keep_result=True)
        assert cloud.deliver().ok
    assert app.tasks.get(task.id).result.json == {"answer": 42}


@pytest.mark.slow
def test_a_unique_key_is_kept_while_a_task_is_forwarded_and_has_not_expired(
    app: Bench, cloud: Cloud
) -> None:
    """Once it has expired, another task takes the key."""
    task = add_and_forward(app, unique_key="a", expires="1h")
    assert app.tasks.add("/count", unique_key="a").id == task.id
    change(app, task.id, expires_at=1)
    other = app.tasks.add("/count", unique_key="a")
    assert other.id != task.id
    assert app.tasks.get(task.id).state == "cancelled"


@pytest.mark.slow
def test_a_forwarded_run_of_a_schedule_that_failed_is_replaced_by_the_next(
    app: Bench, cloud: Cloud
) -> None:
    """As one that waits for its retry here; one that has not been attempted is live."""

    def fails() -> Any:
        return "no", 500

    with worker(app, "/fails", fails):
        waiting, failed = add_and_forward(app), add_and_forward(app, "/fails")
        assert cloud.deliver(cloud.created[1]).status_code == 500
    with app.store.reading() as connection:
        fresh, tried = app.store.tasks.get_all(connection, [waiting.id, failed.id])
        schedule = SimpleNamespace(name="nightly")
    assert (last_run([fresh]).is_live, last_run([fresh]).has_failed) == (True, False)
    assert (last_run([tried]).is_live, last_run([tried]).has_failed) == (False, True)
    runs = app.store.schedules._runs
    assert app.store.transact(
        lambda connection: runs.replace_failed(connection, schedule, [tried])  # type: ignore[arg-type]
    )
    assert app.tasks.get(failed.id).state == "cancelled"
    assert cloud.deliver(cloud.created[1]).status_code == 200
    assert app.tasks.get(failed.id).attempts == 1


def test_the_numbers_know_of_forwarded_tasks(app: Bench, cloud: Cloud) -> None:
    """Statistics, metrics and the backlog count them."""
    add_and_forward(app)
    app.tasks.add("/count")
    found = app.tasks.queue("mail").statistics()
    assert (found.scheduled, found.forwarded, found.in_flight, found.tasks) == (1, 1, 0, 2)
    with app.store.reading() as connection:
        assert app.store.backlog.of(connection)["mail"].forwarded == 1
        (mail,) = (metric for metric in app.store.metrics.all(connection) if metric.queue == "mail")
    assert (mail.counts.forwarded, mail.enqueued) == (1, 2)


class worker:  # used as a statement
    """A worker of the app, of queue mail, for one test."""

    def __init__(self, one: Bench, path: str, function: Callable[[], Any]) -> None:
        one.app._got_first_request = False
        one.tasks.worker(path, queue="mail")(function)

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, *_: object) -> None:
        """End."""


def add_and_forward(one: Bench, path: str = "/count", **options: Any) -> Any:
    """A task that Cloud Tasks has."""
    task = one.tasks.add(path, **options)
    one.tasks.drain()
    assert one.tasks.get(task.id).state == "forwarded"
    return task


def change(one: Bench, task_id: str, **columns: Any) -> None:
    """Change the row of a task as time or a death would."""
    task = one.store.database.tables.task
    one.store.transact(
        lambda connection: connection.execute(
            sa.update(task).where(task.c.id == task_id).values(columns)
        )
    )


def lease(one: Bench, task_id: str) -> Any:
    """Lease a task as a delivery does whose process then dies."""
    return one.store.transact(
        lambda connection: one.store.delivered.lease(
            connection, task_id, lease_id="l" * 32, held_by="dead", lease=30
        )
    )
