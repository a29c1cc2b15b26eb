"""Transactional handlers that see nothing newer than themselves, while the queue goes on beside
them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Blueprint

from flask_taskqueue import PermanentFailure, State, current_task
from flask_taskqueue.core.names import lease_id
from tests.apps import Bench, bench
from tests.databases import TestDatabase


@pytest.fixture(params=["REPEATABLE READ", "SERIALIZABLE"])
def queue(request: pytest.FixtureRequest, on_a_server: TestDatabase) -> Iterator[Bench]:
    """An application whose transactions may not change what others have changed meanwhile."""
    options: dict[str, Any] = {"isolation_level": request.param}
    if on_a_server.name == "mariadb" and keeps_snapshots(on_a_server):
        options["connect_args"] = {"init_command": "SET SESSION innodb_snapshot_isolation = ON"}
    with bench(on_a_server.url, SQLALCHEMY_ENGINE_OPTIONS=options, TASKQUEUE_CONCURRENCY=1) as one:
        yield one


def keeps_snapshots(database: TestDatabase) -> bool:
    """Whether this MariaDB can refuse to change what others have changed."""
    engine = sa.create_engine(database.url)
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SHOW VARIABLES LIKE 'innodb_snapshot_isolation'").all()
    engine.dispose()
    return bool(found)


def renew(queue: Bench) -> None:
    """Renew the lease of the task that is handled, as the heartbeat does."""
    held = (current_task.id, str(current_task._delivery.record.lease_id))
    leases = queue.store.leases
    assert queue.store.transact(lambda connection: leases.renew(connection, [held], 60.0)) == {held}


@pytest.mark.parametrize("conflict", ["replace", "debounce"])
def test_a_handler_adds_its_own_successor(queue: Bench, conflict: str) -> None:
    """However often its lease was renewed before: the key is the successor's, with its commit."""

    @queue.tasks.worker("/poll", transactional=True, retry={"task_retry_limit": 0})
    def poll() -> None:
        counter = queue.db.session.get(queue.Counter, 1)
        renew(queue)
        counter.count += 1
        poll.options(unique_key="poll", on_conflict=conflict, countdown=600).add()
        renew(queue)

    ended = queue.run(poll.options(unique_key="poll").add())
    assert (ended.state, ended.last_error, queue.count()) == (State.SUCCEEDED, None, 1)
    (successor,) = queue.tasks.find(state="scheduled")
    assert poll.options(unique_key="poll").add().id == successor.id


@pytest.mark.parametrize("change", ["pause", "configure", "change"])
def test_a_handler_changes_a_queue_whose_tasks_start(queue: Bench, change: str) -> None:
    """However many have started since it began: the change is committed with the handler."""
    queue.tasks.add_queue("mail", rate="1000/s")

    @queue.tasks.worker("/mail")
    def mail() -> None: ...

    @queue.tasks.worker("/change", transactional=True, retry={"task_retry_limit": 0})
    def changes() -> None:
        queue.db.session.get(queue.Counter, 1).count += 1
        start_one(queue, "mail")
        if change == "pause":
            assert queue.tasks.queue("mail").pause()
        elif change == "configure":
            queue.tasks.queue("mail").configure(rate="5/s")
        else:
            queue.tasks.change_queue("mail", deadline="10m")

    mail.options(queue="mail").add()
    ended = queue.run(changes.options(priority=1).add())
    assert (ended.state, ended.last_error, queue.count()) == (State.SUCCEEDED, None, 1)


@pytest.mark.parametrize("change", ["delete", "replace", "requeue"])
def test_a_handler_changes_tasks_beside_others_that_do(queue: Bench, change: str) -> None:
    """In the same queue, since it began: what is counted of one is no conflict with the other."""
    engine = queue.db.engine
    if change == "replace" and engine.name == "mysql":
        pytest.skip("MariaDB locks the gaps beside a key that is taken")
    if (engine.name, level_of(queue)) == ("postgresql", "SERIALIZABLE"):
        pytest.skip("PostgreSQL may refuse any of two that have read what they change")

    @queue.tasks.worker("/dead")
    def dies() -> None:
        raise PermanentFailure

    @queue.tasks.worker("/change", transactional=True, retry={"task_retry_limit": 0})
    def changes() -> None:
        queue.db.session.get(queue.Counter, 1).count += 1
        thread = threading.Thread(target=in_a_session_of_its_own, args=(queue, other))
        thread.start()
        thread.join()
        mine()

    mine, other = (one_to_change(queue, change, name) for name in ("mine", "other"))
    ended = queue.run(changes.options(priority=1).add())
    assert (ended.state, ended.last_error, queue.count()) == (State.SUCCEEDED, None, 1)


def level_of(queue: Bench) -> str:
    """The isolation level of the application's transactions."""
    return str(queue.app.config["SQLALCHEMY_ENGINE_OPTIONS"]["isolation_level"])


def one_to_change(queue: Bench, change: str, name: str) -> Callable[[], object]:
    """What changes a task that waits or is dead."""
    if change == "requeue":
        task = queue.run(queue.tasks.add("/dead"))
        assert task.state is State.DEAD
        return task.requeue
    task = queue.tasks.add("/dead", countdown=3600, unique_key=name)
    if change == "delete":
        return task.delete
    return partial(queue.tasks.add, "/dead", countdown=3600, unique_key=name, on_conflict="replace")


def in_a_session_of_its_own(queue: Bench, change: Callable[[], object]) -> None:
    """Make a change that is part of a transaction of another request."""
    with queue.app.app_context():
        queue.db.session.add(queue.Counter(id=77, count=0))
        change()
        queue.db.session.commit()


def start_one(queue: Bench, name: str) -> None:
    """Claim a task of a queue with limits, as another dispatcher does beside the handler."""

    def work(connection: sa.Connection) -> int:
        lanes = queue.store.claims.lanes(connection, [name])
        how: dict[str, Any] = {
            "lease_id": lease_id(),
            "held_by": "another",
            "lease": 30.0,
            "limited": True,
        }
        (lane,) = lanes.due()
        return len(queue.store.claims.claim(connection, lane, 1, **how))

    assert queue.store.transact(work) == 1


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"])
def test_a_handler_runs_at_the_level_at_which_its_transaction_was_begun(
    on_a_server: TestDatabase, level: str
) -> None:
    """By a before_request function; what comes after it runs at the engine's own again."""
    with bench(on_a_server.url) as one:
        levels: list[str] = []
        strict = Blueprint("strict", __name__)

        @strict.before_request
        def begin() -> None:
            one.db.session.connection(execution_options={"isolation_level": level})

        @one.tasks.worker("/strict", transactional=True, blueprint=strict)
        def strictly() -> None:
            levels.append(one.db.session.connection().get_isolation_level())
            one.db.session.get(one.Counter, 1).count += 1

        @one.tasks.worker("/usual", transactional=True)
        def usually() -> None:
            levels.append(one.db.session.connection().get_isolation_level())

        one.app.register_blueprint(strict)
        assert one.run(strictly.add()).state is State.SUCCEEDED
        assert one.run(usually.add()).state is State.SUCCEEDED
        own = one.db.session.connection().default_isolation_level
        assert (levels, one.count()) == ([level, own], 1)


@pytest.mark.parametrize("first", ["report", "successor"])
def test_a_handler_reports_its_progress_and_adds_its_own_successor(
    queue: Bench, first: str
) -> None:
    """In either order: the report is not in the way of the successor, nor waits for it."""

    @queue.tasks.worker("/poll", transactional=True, retry={"task_retry_limit": 0})
    def poll() -> None:
        queue.db.session.get(queue.Counter, 1).count += 1
        if first == "report":
            current_task.progress(1, 2)
        poll.options(unique_key="poll", on_conflict="replace", countdown=600).add()
        current_task.progress(2, 2)

    ended = queue.run(poll.options(unique_key="poll").add())
    assert (ended.state, ended.last_error, queue.count()) == (State.SUCCEEDED, None, 1)
    assert ended.progress is not None
    assert ended.progress.done == 2


def test_a_report_is_seen_until_the_task_is_replaced(on_a_server: TestDatabase) -> None:
    """At READ COMMITTED it is stored at once; after the successor it comes with the commit, and
    does not wait for it.
    """
    options = {"isolation_level": "READ COMMITTED"}
    with bench(on_a_server.url, SQLALCHEMY_ENGINE_OPTIONS=options) as queue:
        seen: list[str] = []

        @queue.tasks.worker("/poll", transactional=True, retry={"task_retry_limit": 0})
        def poll() -> None:
            current_task.progress(2, 2)
            seen.append(reported(queue, current_task.id))
            poll.options(unique_key="poll", on_conflict="replace", countdown=600).add()
            current_task.progress(3, 3)
            seen.append(reported(queue, current_task.id))

        ended = queue.run(poll.options(unique_key="poll").add())
        assert (ended.state, ended.last_error) == (State.SUCCEEDED, None)
        assert [*seen, reported(queue, ended.id)] == ["[2, 2, null]"] * 2 + ["[3, 3, null]"]


def reported(queue: Bench, task_id: str) -> str:
    """What another process sees of the progress of a task."""
    with queue.store.reading() as connection:
        row = queue.store.tasks.progress_of(connection, task_id)
    return "" if row is None else str(row.progress)
