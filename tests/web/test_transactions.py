"""The transaction rule of add(), and handlers that commit with their task, on each database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask, Response
from flask_sqlalchemy import SQLAlchemy

from flask_taskqueue import (
    BadTransactionStateError,
    ConfigurationError,
    RetryOptions,
    State,
    TaskAlreadyExistsError,
    TaskQueue,
    current_task,
    task_dead,
    task_succeeded,
)
from tests.apps import Bench, bench, closing, runtime_of
from tests.databases import TestDatabase
from tests.waiting import wait_until


@pytest.fixture
def queue(database: TestDatabase) -> Iterator[Bench]:
    """An application whose handler adds to the counter."""
    with bench(database.url) as one:

        @one.tasks.worker("/add", transactional=True, retry={"min_backoff_seconds": 60})
        def add(n: int = 1, then: str = "") -> Any:
            counter = one.db.session.get(one.Counter, 1, with_for_update=True)
            counter.count += n
            if then == "raise":
                raise ValueError
            if then == "commit":
                one.db.session.commit()
            if then == "commit of the connection":
                one.db.session.connection().commit()
            if then == "savepoint":
                with one.db.session.begin_nested():
                    counter.count += n
            return ("no", 503) if then == "503" else None

        yield one


def found(queue: Bench) -> int:
    """How many tasks are stored, seen from outside of the session."""
    return len(queue.tasks.find())


def test_without_changes_a_task_is_stored_at_once(queue: Bench) -> None:
    """A view that only adds a task need not commit; having read changes nothing."""
    queue.db.session.get(queue.Counter, 1)
    queue.tasks.add("/add")
    assert found(queue) == 1
    queue.db.session.rollback()
    assert found(queue) == 1


CHANGES = {
    "a new object": lambda queue: queue.db.session.add(queue.Counter(id=2, count=0)),
    "a changed object": lambda queue: setattr(queue.db.session.get(queue.Counter, 1), "count", 5),
    "a deleted object": lambda queue: queue.db.session.delete(
        queue.db.session.get(queue.Counter, 1)
    ),
    "a flushed change": lambda queue: (
        queue.db.session.add(queue.Counter(id=2, count=0)),
        queue.db.session.flush(),
    ),
    "a statement": lambda queue: queue.db.session.execute(sa.update(queue.Counter).values(count=7)),
    "a textual statement": lambda queue: queue.db.session.execute(
        sa.text("UPDATE counter SET count = 7")
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_with_changes_a_task_is_one_of_them(queue: Bench, change: Any) -> None:
    """Rolled back together, and committed together."""
    change(queue)
    task = queue.tasks.add("/add")
    queue.db.session.rollback()
    assert found(queue) == 0
    change(queue)
    task = queue.tasks.add("/add")
    queue.db.session.commit()
    assert [task.id for task in queue.tasks.find()] == [task.id]


def test_the_rule_can_be_forced_either_way(queue: Bench) -> None:
    """True joins a transaction without changes, False stores at once."""
    queue.tasks.add("/add", transactional=True)
    queue.db.session.rollback()
    assert found(queue) == 0
    queue.tasks.add("/add", transactional=True)
    queue.db.session.commit()
    assert found(queue) == 1


def test_a_name_that_is_taken_does_not_break_the_transaction(queue: Bench) -> None:
    """The caller may go on and commit."""
    queue.tasks.add("/add", name="n")
    queue.db.session.add(queue.Counter(id=2, count=0))
    with pytest.raises(TaskAlreadyExistsError):
        queue.tasks.add("/add", name="n")
    queue.db.session.commit()
    assert queue.db.session.get(queue.Counter, 2) is not None


def test_changes_and_completion_commit_together(queue: Bench) -> None:
    """A 2xx commits both."""
    task = queue.run(queue.tasks.add("/add", {"n": 5}))
    assert (task.state, task.last_status, queue.count()) == (State.SUCCEEDED, 204, 5)
    assert queue.attempts(task) == [(1, "success", 204)]


@pytest.mark.parametrize("then", ["raise", "503", "commit", "commit of the connection"])
def test_anything_else_rolls_both_back(queue: Bench, then: str) -> None:
    """An exception, another status, a commit of the handler's own, which explains itself."""
    task = queue.run(queue.tasks.add("/add", {"then": then}))
    assert (task.state, queue.count()) == (State.SCHEDULED, 0)
    if then.startswith("commit"):
        assert "must not commit" in str(task.last_error)


def test_two_databases_cannot_be_committed_together(tmp_path: Path) -> None:
    """A queue in another bind than the rows that its handler changes: the attempt fails, and
    nothing is changed; to read is fine.
    """
    binds = {"queue": f"sqlite:///{tmp_path / 'queue.db'}"}
    with bench(
        f"sqlite:///{tmp_path / 'app.db'}", SQLALCHEMY_BINDS=binds, TASKQUEUE_BIND_KEY="queue"
    ) as queue:

        @queue.tasks.worker("/writes", transactional=True, retry={"task_retry_limit": 0})
        def writes() -> None:
            queue.db.session.get(queue.Counter, 1).count += 1

        @queue.tasks.worker("/reads", transactional=True)
        def reads() -> None:
            queue.db.session.get(queue.Counter, 1)

        task = queue.run(writes.add())
        assert (task.state, queue.count()) == (State.DEAD, 0)
        assert "has changed another database" in str(task.last_error)
        assert queue.run(reads.add()).state is State.SUCCEEDED


@pytest.mark.parametrize("hook", ["before_commit", "before_flush", "after_flush"])
@pytest.mark.parametrize("first", [False, True])
def test_a_hook_of_the_commit_changes_no_other_database(
    tmp_path: Path, hook: str, first: bool
) -> None:
    """Whichever of the two SQLAlchemy would commit first, neither is committed."""
    binds = {"queue": f"sqlite:///{tmp_path / 'queue.db'}"}
    with bench(
        f"sqlite:///{tmp_path / 'app.db'}", SQLALCHEMY_BINDS=binds, TASKQUEUE_BIND_KEY="queue"
    ) as queue:
        session, row = queue.db.session, sa.table("note", sa.column("n"))
        with queue.db.engines["queue"].begin() as connection:
            connection.exec_driver_sql("CREATE TABLE note (n int)")
        change = sa.update(queue.Counter).values(count=1)
        committing = False

        @sa.event.listens_for(session, "before_commit")
        def _commits(session: Any) -> None:
            nonlocal committing
            committing = True
            session.add(queue.Counter(id=2, count=0)) if hook != "before_commit" else None

        @sa.event.listens_for(session, hook)
        def _writes(session: Any, *_: object) -> None:
            if committing:
                session.execute(change)

        @queue.tasks.worker("/hooked", transactional=True, retry={"task_retry_limit": 0})
        def hooked() -> None:
            if first:
                session.get(queue.Counter, 1)
            session.execute(
                sa.insert(row).values(n=1),
                bind_arguments={"bind": queue.db.engines["queue"]},
            )

        with queue.app.app_context():
            task = hooked.options(transactional=False).add()
        task = queue.run(task)
        committing = False
        assert "has changed another database" in str(task.last_error)
        assert (task.state, queue.count()) == (State.DEAD, 0)
        with queue.db.engines["queue"].connect() as connection:
            assert connection.exec_driver_sql("SELECT n FROM note").all() == []


def test_savepoints_are_allowed(queue: Bench) -> None:
    """They are part of the transaction."""
    task = queue.run(queue.tasks.add("/add", {"then": "savepoint"}))
    assert (task.state, queue.count()) == (State.SUCCEEDED, 2)


def test_a_lost_lease_rolls_back(queue: Bench) -> None:
    """When another has the lease meanwhile, the handler's changes are not kept."""
    store = queue.store

    @queue.tasks.worker("/lost", transactional=True)
    def lost() -> None:
        queue.db.session.get(queue.Counter, 1, with_for_update=True).count += 1
        if (
            store.database.dialect.locks_what_it_copies
        ):  # there only who ends a lease as one should is seen
            store.transact(lambda connection: store.tasks.delete(connection, current_task.id))
            return
        table = store.database.tables.task
        queue.db.session.execute(
            sa.update(table).where(table.c.id == current_task.id).values(lease_id="another")
        )

    later = RetryOptions(min_backoff_seconds=60)  # than this drain, however slow the machine is
    task = queue.run(lost.options(retry=later).add())
    deleted = store.database.dialect.locks_what_it_copies
    assert (task.state, queue.count()) == (State.CANCELLED if deleted else State.SCHEDULED, 0)
    assert queue.attempts(task) == [(1, "late" if deleted else "failure", 409)]


def test_a_task_that_is_deleted_while_it_runs_is_not_completed(on_a_server: TestDatabase) -> None:
    """Nor are the handler's changes kept."""
    with bench(on_a_server.url) as queue:
        store = queue.store

        @queue.tasks.worker("/deleted", transactional=True)
        def deleted() -> None:
            queue.db.session.get(queue.Counter, 1, with_for_update=True).count += 1
            store.transact(lambda connection: store.tasks.delete(connection, current_task.id))

        task = queue.run(deleted.add())
        assert (task.state, queue.count()) == (State.CANCELLED, 0)
        assert queue.attempts(task) == [(1, "late", 409)]


def ended_by(queue: Bench, how: str) -> None:
    """What a handler may do to its transaction."""
    session = queue.db.session
    ways: dict[str, Any] = {
        "remove": session.remove,
        "close": session.close,
        "rollback": session.rollback,
        "rollback of the connection": lambda: session.connection().rollback(),
        "COMMIT": lambda: session.execute(sa.text("COMMIT")),
        "ROLLBACK": lambda: session.execute(sa.text("ROLLBACK")),
    }
    ways[how]()


@pytest.mark.filterwarnings("ignore:transaction already deassociated")
@pytest.mark.parametrize(
    "how", ["remove", "close", "rollback", "rollback of the connection", "ROLLBACK"]
)
def test_a_handler_that_loses_its_transaction_has_not_succeeded(queue: Bench, how: str) -> None:
    """Its changes are gone, so the attempt has failed, and says how to do it."""

    @queue.tasks.worker("/ends", transactional=True, retry={"task_retry_limit": 0})
    def ends() -> None:
        queue.db.session.get(queue.Counter, 1, with_for_update=True).count += 1
        queue.db.session.flush()
        ended_by(queue, how)

    task = queue.run(ends.add())
    assert (task.state, queue.count()) == (State.DEAD, 0)
    assert "begin_nested" in str(task.last_error)


@pytest.mark.parametrize("how", ["rollback", "ROLLBACK", "COMMIT"])
def test_what_comes_after_a_lost_transaction_does_not_save_it(queue: Bench, how: str) -> None:
    """Another transaction is not the one whose end is that of the task, whatever is written in it.

    With psycopg2 there is no other: it does not see what a statement of the app's ends, and each
    later one commits itself.
    """

    @queue.tasks.worker("/goes-on", transactional=True, retry={"task_retry_limit": 0})
    def goes_on() -> None:
        ended_by(queue, how)
        queue.db.session.get(queue.Counter, 1, with_for_update=True).count += 1

    task = queue.run(goes_on.add())
    commits_itself = queue.db.engine.dialect.driver == "psycopg2" and how != "rollback"
    assert (task.state, queue.count()) == (State.DEAD, int(commits_itself))


def test_a_savepoint_that_is_left_open_is_part_of_the_transaction(queue: Bench) -> None:
    """Nobody must end it by hand."""

    @queue.tasks.worker("/open", transactional=True)
    def left_open() -> None:
        queue.db.session.begin_nested()
        queue.db.session.get(queue.Counter, 1, with_for_update=True).count += 1

    task = queue.run(left_open.add())
    assert (task.state, queue.count()) == (State.SUCCEEDED, 1)


def test_a_savepoint_of_a_hook_is_not_the_handlers_to_end(queue: Bench) -> None:
    """The attempt fails before the handler runs, so nothing is done."""
    queue.app.before_request(lambda: queue.db.session.begin_nested() and None)
    task = queue.run(queue.tasks.add("/add", retry={"task_retry_limit": 0}))
    assert (task.state, queue.count()) == (State.DEAD, 0)
    assert "a savepoint of db.session was open before" in str(task.last_error)


def test_a_streamed_reply_runs_before_the_commit(queue: Bench) -> None:
    """What its body does is part of the transaction, and so is its failure."""

    @queue.tasks.worker("/streams", transactional=True, retry={"task_retry_limit": 0})
    def streams(fail: bool) -> Any:
        def body() -> Iterator[str]:
            queue.db.session.get(queue.Counter, 1, with_for_update=True).count += 1
            yield "one"
            if fail:
                raise ValueError("half way")

        return Response(body())

    task = queue.run(streams.add(fail=True))
    assert (task.state, task.last_error, queue.count()) == (
        State.DEAD,
        "ValueError: half way (gave up after 1 attempt)",
        0,
    )
    task = queue.run(streams.add(fail=False))
    assert (task.state, queue.count()) == (State.SUCCEEDED, 1)


def test_a_failure_behind_the_commit_changes_nothing(queue: Bench) -> None:
    """What is committed is done: no error is told of it, and nobody hears that the task is dead."""
    told: list[str] = []

    def heard(kind: str) -> Any:
        return lambda _app, **_facts: told.append(kind)

    died, succeeded = heard("dead"), heard("succeeded")
    task_dead.connect(died, queue.app), task_succeeded.connect(succeeded, queue.app)
    queue.app.after_request(fail)
    task = queue.run(queue.tasks.add("/add"))
    assert (task.state, queue.count(), told) == (State.SUCCEEDED, 1, ["succeeded"])
    assert queue.tasks.queue("default").statistics().failed_last_hour == 0


def fail(_response: Response) -> Response:
    """Something behind the handler fails."""
    raise ConnectionError("the statistics server is away")


@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
def test_a_handler_is_not_in_the_way_of_its_own_lease(
    on_a_server: TestDatabase, level: str
) -> None:
    """At no isolation level does it matter that the lease is renewed, or another task of its
    batch ends, while it runs.
    """
    options = {"isolation_level": level}
    with bench(
        on_a_server.url, SQLALCHEMY_ENGINE_OPTIONS=options, TASKQUEUE_CONCURRENCY=1
    ) as queue:
        store = queue.store

        @queue.tasks.worker("/long", transactional=True, retry={"task_retry_limit": 0})
        def long(number: int) -> None:
            assert queue.db.session.get(queue.Counter, number) is None
            held = (current_task.id, str(current_task._delivery.record.lease_id))
            assert store.transact(
                lambda connection: store.leases.renew(connection, [held], 60.0)
            ) == {held}
            others = [
                task for task in queue.tasks.find(url="/other") if task.state is State.SCHEDULED
            ]
            store.transact(lambda connection: store.tasks.delete(connection, others[0].id))
            queue.db.session.add(queue.Counter(id=number, count=1))

        @queue.tasks.worker("/other", retry={"task_retry_limit": 0})
        def other() -> None: ...

        later = [other.options(countdown=3600).spec() for _ in range(2)]
        batch = queue.tasks.batch([long.spec(2), long.spec(3), *later])
        wait_until(
            lambda: queue.tasks.drain() == 0 and queue.tasks.get_batch(batch.id).is_finished,
            what="both have ended",
            timeout=60,
        )
        assert [task.state for task in queue.tasks.find(url="/long")] == [State.SUCCEEDED] * 2
        assert [task.state for task in queue.tasks.find(url="/other")] == [State.CANCELLED] * 2
        assert {one.id for one in queue.db.session.query(queue.Counter)} == {1, 2, 3}


def test_an_engine_that_commits_each_statement_is_refused(database: TestDatabase) -> None:
    """Nothing could be committed together; the sentence says what to remove."""
    app = Flask(__name__)
    app.config.update(TESTING=True, SECRET_KEY="secret", SQLALCHEMY_DATABASE_URI=database.url)
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"isolation_level": "AUTOCOMMIT"}
    tasks = TaskQueue(app, SQLAlchemy(app))
    tasks.worker("/w")(lambda: None)
    with (
        closing(app),
        app.app_context(),
        pytest.raises(ConfigurationError, match="AUTOCOMMIT"),
    ):
        tasks.add("/w")


def commit_each_statement(connection: Any, *_: Any) -> None:
    """What a listener does to a driver's connection."""
    if isinstance(connection, sqlite3.Connection):
        connection.isolation_level = None
    elif callable(connection.autocommit):
        connection.autocommit(True)
    else:
        connection.autocommit = True


@pytest.mark.parametrize("how", ["connect_args", "connect", "checkout"])
def test_a_driver_that_commits_each_statement_is_refused_at_the_start(
    database: TestDatabase, how: str
) -> None:
    """Where only a connection tells."""
    app = Flask(__name__)
    app.config.update(TESTING=True, SECRET_KEY="secret", SQLALCHEMY_DATABASE_URI=database.url)
    if how == "connect_args":
        if sa.make_url(database.url).get_driver_name() == "psycopg2":
            pytest.skip("this driver's connect() has no such argument")
        driver = {"isolation_level": None} if database.name == "sqlite" else {"autocommit": True}
        app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"connect_args": driver}
    db = SQLAlchemy(app)
    tasks = TaskQueue(app, db)
    with closing(app), app.app_context():
        if how != "connect_args":
            sa.event.listen(db.engine, how, commit_each_statement)
        db.create_all()
        with pytest.raises(ConfigurationError, match="AUTOCOMMIT"):
            tasks.drain()


def test_a_handler_whose_connection_commits_each_statement_does_not_run(queue: Bench) -> None:
    """Although the one that was looked at when the dispatcher started did not."""

    @queue.tasks.worker("/count", transactional=True, retry={"task_retry_limit": 0})
    def count() -> None:
        queue.db.session.execute(sa.update(queue.Counter).values(count=7))

    @queue.app.before_request
    def later() -> None:
        sa.event.listen(queue.db.engine, "checkout", commit_each_statement)

    task = count.add()
    queue.tasks.drain()
    assert queue.count() == 0
    assert "AUTOCOMMIT" in str(queue.tasks.get(task.id).last_error)


def test_tasks_added_in_a_handler_share_its_transaction(queue: Bench) -> None:
    """They exist exactly if the handler succeeded."""

    @queue.tasks.worker("/parent", transactional=True, retry={"task_retry_limit": 0})
    def parent(fail: bool) -> Any:
        queue.db.session.get(queue.Counter, 1, with_for_update=True).count += 1
        queue.tasks.add("/add", {"n": 10})
        return ("no", 500) if fail else None

    parent.add(fail=True)
    queue.tasks.drain()
    assert (found(queue), queue.count()) == (1, 0)
    parent.add(fail=False)
    queue.tasks.drain()
    assert (found(queue), queue.count()) == (3, 11)


def test_without_a_session_there_is_no_transaction_to_join(tmp_path: Path) -> None:
    """The queue's own database cannot share one with anybody."""
    app = Flask(__name__, instance_path=str(tmp_path))
    app.config.update(TESTING=True, SECRET_KEY="secret")
    tasks = TaskQueue(app)
    tasks.worker("/w")(lambda: None)
    with (
        app.app_context(),
        pytest.raises(BadTransactionStateError, match="transactional=True needs"),
    ):
        tasks.add("/w", transactional=True)
    runtime_of(app).store.database.close()
