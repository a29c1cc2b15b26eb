"""Pull queues, of which code leases the tasks, by any number of workers at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask

from flask_taskqueue import (
    BadTaskStateError,
    ConfigurationError,
    InvalidQueueModeError,
    TaskQueue,
    task_dead,
)
from flask_taskqueue.appengine import taskqueue
from flask_taskqueue.cli import taskqueue as commands
from flask_taskqueue.web.problems import find_problems
from tests.apps import Bench, bench
from tests.databases import TestDatabase
from tests.store.conftest import see, sighting
from tests.waiting import wait_until

QUEUES: dict[str, Any] = {
    "pull": {"mode": "pull"},
    "twice": {"mode": "pull", "retry": {"task_retry_limit": 2}},
    "mail": {},
}


@pytest.fixture
def shop(database: TestDatabase) -> Iterator[Bench]:
    """An application with pull queues, on each database."""
    with bench(database.url, TASKQUEUE_QUEUES=QUEUES) as found:
        yield found


@pytest.fixture
def small(sqlite_database: TestDatabase) -> Iterator[Bench]:
    """An application with pull queues, on one database."""
    with bench(sqlite_database.url, TASKQUEUE_QUEUES=QUEUES) as found:
        yield found


def add(*names: str, queue: str = "pull", **given: Any) -> Any:
    """Add tasks of these names."""
    tasks = [taskqueue.Task(name, method="PULL", name=name, **given) for name in names]
    return taskqueue.Queue(queue).add(tasks)


def test_workers_at_once_lease_each_task_once(shop: Bench) -> None:
    """Whatever the number of tasks that each asks for."""
    queue = taskqueue.Queue("pull")
    for start in range(0, 200, 100):
        add(*(f"t{number}" for number in range(start, start + 100)))
    leased: list[str] = []
    begin = threading.Barrier(6)

    def work(most: int) -> None:
        with shop.app.app_context():
            begin.wait()
            while tasks := queue.lease_tasks(600, most):
                leased.extend(task.name or "" for task in tasks)
                queue.delete_tasks(tasks[: most // 2])

    threads = [threading.Thread(target=work, args=(most,)) for most in (1, 3, 7, 10, 25, 60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while tasks := queue.lease_tasks(600, 100):  # what others had locked at the time
        leased.extend(task.name or "" for task in tasks)
    assert sorted(leased) == sorted(f"t{number}" for number in range(200))


def test_workers_at_once_lease_tags_whole(shop: Bench) -> None:
    """Each gets tasks of one tag only, and no task twice."""
    queue = taskqueue.Queue("pull")
    for tag in "abcd":
        add(*(f"{tag}{number}" for number in range(25)), tag=tag)
    leased: list[list[str]] = []

    def work() -> None:
        with shop.app.app_context():
            while tasks := queue.lease_tasks_by_tag(600, 10):
                leased.append([task.name or "" for task in tasks])
                assert {task.tag for task in tasks} == {(tasks[0].name or "")[0]}

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while tasks := queue.lease_tasks(600, 100):
        leased.append([task.name or "" for task in tasks])
    names = [name for part in leased for name in part]
    assert len(names) == len(set(names)) == 100


def test_no_dispatcher_takes_a_task_of_a_pull_queue(shop: Bench) -> None:
    """Neither before it is leased nor after."""
    add("a", "b")
    shop.tasks.drain()
    [task, *_] = taskqueue.Queue("pull").lease_tasks(0, 1)
    shop.tasks.drain()
    assert {(str(task.state), task.attempts) for task in shop.tasks.find()} == {
        ("scheduled", 1),
        ("scheduled", 0),
    }
    assert task.retry_count == 1


def test_a_task_that_is_deleted_has_succeeded(shop: Bench) -> None:
    """Also if another has leased it meanwhile; what the dashboard deletes is cancelled."""
    add("a", "b", "c")
    queue = taskqueue.Queue("pull")
    [first, *_] = queue.lease_tasks(0, 1)
    assert first.name == "a"
    queue.lease_tasks(60, 3)
    assert queue.delete_tasks(first).was_deleted
    shop.tasks.queue("pull").delete(next(task for task in shop.tasks.find() if task.name == "b"))
    assert {task.name: str(task.state) for task in shop.tasks.find()} == {
        "a": "succeeded",
        "b": "cancelled",
        "c": "scheduled",
    }
    assert not queue.delete_tasks_by_name("b").was_deleted
    statistics = shop.tasks.queue("pull").statistics()
    assert (statistics.succeeded, statistics.cancelled, statistics.tasks) == (1, 1, 1)
    assert queue.fetch_statistics().executed_last_minute == 1
    assert statistics.mode == "pull"


def test_work_and_deletion_commit_together(shop: Bench) -> None:
    """Or neither does, and the task is leased again."""
    add("a")
    queue = taskqueue.Queue("pull")
    [task] = queue.lease_tasks(0, 1)
    shop.db.session.get(shop.Counter, 1).count = 1
    queue.delete_tasks(task)
    shop.db.session.rollback()
    [task] = queue.lease_tasks(0, 1)
    shop.db.session.get(shop.Counter, 1).count += 1
    queue.delete_tasks(task)
    shop.db.session.commit()
    assert shop.count() == 1
    assert queue.lease_tasks(0, 1) == []


def test_of_two_workers_one_commits(shop: Bench) -> None:
    """The one whose deletion finds the task still there, though both have done the work."""
    add("a")
    queue = taskqueue.Queue("pull")
    done: list[bool] = []
    leased = [queue.lease_tasks(0, 1)[0] for _ in range(2)]
    begin = threading.Barrier(2)

    def work(task: taskqueue.Task) -> None:
        with shop.app.app_context():
            begin.wait()
            shop.db.session.execute(sa.update(shop.Counter).values(count=shop.Counter.count + 1))
            done.append(queue.delete_tasks(task).was_deleted)
            if done[-1]:
                shop.db.session.commit()
            else:
                shop.db.session.rollback()
            shop.db.session.remove()

    shop.db.session.remove()
    threads = [threading.Thread(target=work, args=(task,)) for task in leased]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [False, True]
    assert shop.count() == 1


def test_a_lease_in_a_session_that_rolls_back_was_none(shop: Bench) -> None:
    """Nor was a task that it added."""
    add("a")
    queue = taskqueue.Queue("pull")
    shop.db.session.get(shop.Counter, 1).count = 1
    add("b")
    assert {task.name for task in queue.lease_tasks(600, 5)} == {"a", "b"}
    shop.db.session.rollback()
    [task] = queue.lease_tasks(600, 5)
    assert (task.name, task.retry_count) == ("a", 1)


def test_a_leased_task_is_not_run_now(shop: Bench) -> None:
    """By its id or with others, forced or not: its worker keeps the lease."""
    add("a")
    taskqueue.add(queue_name="mail", url="/work", countdown=3600)
    queue = taskqueue.Queue("pull")
    [mine] = queue.lease_tasks(600, 1)
    [task] = shop.tasks.queue("pull").find()
    for force in (False, True):
        with pytest.raises(BadTaskStateError, match="a worker leases it when it is due"):
            task.run_now(force=force)
    assert shop.tasks.queue("pull").run_now() == 0
    run = partial(shop.app.test_cli_runner().invoke, commands)
    assert "1 task will run now" in run(["run-now", "--all", "--yes"]).output
    assert run(["run-now", task.id]).exit_code == 1
    assert queue.lease_tasks(600, 1) == []
    queue.modify_task_lease(mine, 60)


def test_a_task_of_a_queue_that_became_a_pull_queue_is_not_run_now(database: TestDatabase) -> None:
    """Though it was made to be sent, a worker may have leased it."""
    with bench(database.url, TASKQUEUE_QUEUES={"mail": {}}) as shop:
        taskqueue.add(queue_name="mail", url="/work", countdown=3600)
        [task] = shop.tasks.find()
        task.run_now()
    with bench(database.url, TASKQUEUE_QUEUES={"mail": {"mode": "pull"}}) as shop:
        shop.tasks.drain()
        assert len(taskqueue.Queue("mail").lease_tasks(600, 1)) == 1
        with pytest.raises(BadTaskStateError, match="the pull queue mail"):
            shop.tasks.get(task.id).run_now()
        assert shop.tasks.queue("mail").run_now() == 0


def test_the_dashboard_offers_no_run_of_a_leased_task(sqlite_database: TestDatabase) -> None:
    """Nor limits of its queue; it refuses both."""
    config: dict[str, Any] = {
        "TASKQUEUE_DASHBOARD": True,
        "TASKQUEUE_DASHBOARD_ACCESS": lambda: True,
    }
    with bench(sqlite_database.url, TASKQUEUE_QUEUES=QUEUES, **config) as one:
        add("a")
        [task] = one.tasks.find()
        client = one.app.test_client()
        page = client.get(f"/taskqueue/tasks/{task.id}").text
        assert "Delete" in page
        assert "Run now" not in page
        assert "Run anyway" not in page
        assert "Change limits of pull" not in client.get("/taskqueue/queues").text
        refused = client.post(f"/taskqueue/tasks/{task.id}/run", follow_redirects=True)
        assert "may hold its lease" in refused.text
        limits = client.post("/taskqueue/queues/pull/configure", data={"rate": "0"})
        assert limits.status_code >= 400
        assert one.tasks.queue("pull").settings.rate is None


def test_what_was_leased_too_often_is_dead(shop: Bench) -> None:
    """It is kept with the reason, and can be requeued."""
    add("a", queue="twice")
    queue = taskqueue.Queue("twice")
    told: list[str] = []

    def listen(_app: object, record: Any, **_: object) -> None:
        told.append(record.id)

    with task_dead.connected_to(listen, shop.app):
        assert [len(queue.lease_tasks(0, 5)) for _ in range(4)] == [1, 1, 0, 0]
    [task] = shop.tasks.find()
    assert told == [task.id]
    assert (task.state, task.last_reason, task.attempts) == ("dead", "timeout", 2)
    assert "leased 2 times" in (task.last_error or "")
    assert queue.fetch_statistics().tasks == 0
    task.requeue()
    assert len(queue.lease_tasks(0, 5)) == 1


def test_a_lease_that_was_taken_over_cannot_be_changed(shop: Bench) -> None:
    """Its id tells, even if the other runs out at the same instant."""
    add("a")
    queue = taskqueue.Queue("pull")
    [mine] = queue.lease_tasks(0, 1)
    [theirs] = queue.lease_tasks(600, 1)
    mine.move_lease(type(mine.lease)(mine.lease.id, theirs.lease.due_at))
    with pytest.raises(taskqueue.TaskLeaseExpiredError):
        queue.modify_task_lease(mine, 60)
    queue.modify_task_lease(theirs, 0)
    [again] = queue.lease_tasks(600, 1)
    assert again.retry_count == 3


def test_nothing_is_leased_from_a_paused_queue(shop: Bench) -> None:
    """And no lease is changed."""
    add("a")
    queue = taskqueue.Queue("pull")
    [task] = queue.lease_tasks(600, 1)
    add("b")
    shop.tasks.queue("pull").pause()
    assert queue.lease_tasks(600, 5) == queue.lease_tasks_by_tag(600, 5) == []
    with pytest.raises(taskqueue.QueuePausedError):
        queue.modify_task_lease(task, 600)
    shop.tasks.queue("pull").resume()
    assert [task.name for task in queue.lease_tasks(600, 5)] == ["b"]


def test_tags_are_told_apart_exactly(shop: Bench) -> None:
    """By case, by accents and by trailing blanks, in any language."""
    tags = ["Ä", "A", "a", "a ", "ä", "日本", "x" * 500]
    for number, tag in enumerate(tags):
        add(f"t{number}", tag=tag)
    queue = taskqueue.Queue("pull")
    assert [[task.tag for task in queue.lease_tasks_by_tag(600, 9, tag)] for tag in tags] == [
        [tag] for tag in tags
    ]
    with pytest.raises(taskqueue.InvalidTagError, match="UTF-8"):
        queue.lease_tasks_by_tag(60, 1, b"\xff")


def test_what_a_task_holds_is_encrypted_in_the_table(database: TestDatabase) -> None:
    """And comes back as it was, up to a mebibyte."""
    keys = ["1V1bfF5yMvZwq1Ee9z2VJcH4b0Q5aH6m1tPqkq3Jv9Q="]
    with bench(database.url, TASKQUEUE_QUEUES=QUEUES, TASKQUEUE_ENCRYPTION_KEYS=keys) as shop:
        payload = bytes(range(256)) * 3900
        taskqueue.Queue("pull").add(taskqueue.Task(payload, method="PULL"))
        with shop.store.reading() as connection:
            column = shop.store.database.tables.task.c.body
            body = bytes(connection.execute(sa.select(column)).scalar_one())
        assert payload[:256] not in body
        assert taskqueue.Queue("pull").lease_tasks(60, 1)[0].payload == payload


def test_tasks_to_be_sent_are_refused(small: Bench) -> None:
    """By every way in; nothing is stored."""
    small.tasks.worker("/work")(lambda: None)
    with pytest.raises(InvalidQueueModeError, match="leased and never sent"):
        small.tasks.add("/work", queue="pull")
    with pytest.raises(InvalidQueueModeError):
        small.tasks.queue("pull").add_many(["/work"])
    assert small.tasks.find() == []


def test_why_says_who_does_it(small: Bench) -> None:
    """No dispatcher, so that none is missed."""
    add("a", "b")
    add("c", countdown=3600)
    taskqueue.Queue("pull").lease_tasks(600, 1)
    said = {task.name: small.tasks.why(task) for task in small.tasks.find()}
    assert {name: found.code for name, found in said.items()} == {
        "a": "pulled",
        "b": "pulled",
        "c": "not_due",
    }
    assert "is leased from queue pull until" in str(said["a"])
    assert "lease_tasks()" in str(said["b"])


def test_waiting_tasks_are_no_dispatchers_fault(small: Bench) -> None:
    """They make neither the health checks nor the statistics complain."""
    add("a", eta=datetime.now(UTC) - timedelta(days=1))
    client = small.app.test_client()
    found = client.get("/taskqueue/health/dispatcher").get_json()
    assert found["oldest_due_seconds"] == 0
    reply = small.app.test_cli_runner().invoke(commands, ["queues"])
    line = next(line for line in reply.output.splitlines() if line.startswith("pull"))
    assert line.rstrip().endswith("pull")


def test_a_pull_queue_needs_neither_dispatcher_nor_route(small: Bench) -> None:
    """Its tasks wait for workers, so neither doctor nor the health checks find fault with it."""
    add("a", "b")
    store = small.store
    with store.reading() as connection:
        said = [found.text for found in find_problems(small.runtime, connection)]
    assert said == ["no dispatcher is alive"]
    see(store, sighting(queues=("mail", "default")))
    with store.reading() as connection:
        assert list(find_problems(small.runtime, connection)) == []


def test_limits_of_a_pull_queue_are_refused(small: Bench) -> None:
    """As in the configuration; one that is left from before does not pause it."""
    small.runtime.see_queues()
    queue = small.tasks.queue("pull")
    for limits in ({"rate": "0"}, {"max_concurrent": 1}, {"bucket_size_per_key": 3}):
        with pytest.raises(ConfigurationError, match=f"{next(iter(limits))} would have no effect"):
            queue.configure(**limits)
    run = partial(small.app.test_cli_runner().invoke, commands)
    assert "is a pull queue" in run(["configure", "pull", "--rate", "5/s"]).output
    table = small.store.database.tables.queue
    small.store.transact(lambda connection: connection.execute(sa.update(table).values(rate=0.0)))
    assert not queue.statistics().is_paused
    assert small.tasks.queue("mail").statistics().is_paused
    queue.configure(rate=None)
    assert queue.settings.rate is None


@pytest.mark.parametrize(
    "given", [{"rate": "5/s"}, {"target": "http://a.example"}, {"deadline": 5}, {"priority": 1}]
)
def test_settings_without_effect_are_refused(given: dict[str, Any]) -> None:
    """They would promise what nobody does."""
    app = Flask(__name__)
    app.config.update(TESTING=True, TASKQUEUE_QUEUES={"pull": {"mode": "pull", **given}})
    with pytest.raises(ConfigurationError, match=f"{next(iter(given))} would have no effect"):
        TaskQueue(app)


def test_a_queue_can_become_a_pull_queue(database: TestDatabase) -> None:
    """Its tasks can be leased from then on, and are sent again once it is a push queue."""
    with bench(database.url, TASKQUEUE_QUEUES={"mail": {}}) as shop:
        shop.app.config["TESTING"] = False
        shop.tasks.add("/work", queue="mail", name="a", payload="x")
    with bench(database.url, TASKQUEUE_QUEUES={"mail": {"mode": "pull"}}) as shop:
        shop.tasks.drain()
        [task] = taskqueue.Queue("mail").lease_tasks(0, 1)
        assert (task.name, task.payload) == ("a", b"x")
    with bench(database.url, TASKQUEUE_QUEUES={"mail": {}}) as shop:
        ran: list[int] = []
        shop.tasks.worker("/work")(lambda: ran.append(1))
        shop.tasks.drain()
        assert ran == [1]


@pytest.mark.slow
def test_a_lease_runs_out_by_the_clock(small: Bench) -> None:
    """Until then nobody else gets the task."""
    add("a")
    queue = taskqueue.Queue("pull")
    [task] = queue.lease_tasks(1, 1)
    ends = task.eta_posix
    again: list[Any] = []

    def lease() -> bool:
        again.extend(queue.lease_tasks(60, 1))
        return bool(again)

    wait_until(lease, what="the lease has run out")
    assert time.time() >= ends - 0.001
    assert again[0].retry_count == 2
