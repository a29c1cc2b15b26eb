"""Databases that may only be read for a while, and commits whose answer is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue import State, TaskSpec
from flask_taskqueue.api.bulk import change_ids, forget_matching
from flask_taskqueue.core.errors import TransientError
from flask_taskqueue.store import Action, Filter
from flask_taskqueue.store.database import transaction as course
from flask_taskqueue.store.database.transaction import close_engine
from tests.apps import Bench, bench
from tests.databases import Servers, TestDatabase, fresh
from tests.outages import switched

ONLY_READ = {
    "sqlite": "PRAGMA query_only = ON",
    "postgresql": "SET default_transaction_read_only = on",
    "mariadb": "SET SESSION TRANSACTION READ ONLY",
}


@pytest.mark.slow
def test_after_a_time_in_which_only_reading_was_possible_all_goes_on(
    database: TestDatabase,
) -> None:
    """New connections lead to a server that only reads, as after a failover; once they do not,
    the kept ones are thrown away.
    """
    only_read = threading.Event()

    def connected(connection: Any, _record: object) -> None:
        if only_read.is_set():
            cursor = connection.cursor()
            cursor.execute(ONLY_READ[database.name])
            cursor.close()
            connection.commit()

    with bench(database.url, TASKQUEUE_POLL_INTERVAL=0.1) as queue:
        runtime = queue.runtime
        sa.event.listen(queue.db.engine, "connect", connected)

        @queue.tasks.worker("/w")
        def handler() -> None: ...

        scheduler = runtime.start()
        assert handler.add().wait(20).state is State.SUCCEEDED
        queue.db.session.remove()
        only_read.set()
        for engine in (runtime.store.database.engine, queue.db.engine):
            close_engine(engine)
        for change in changes(queue, handler):
            with pytest.raises(TransientError):
                change()
            queue.db.session.rollback()
        assert scheduler._registration.beat() is None
        assert (runtime.sweep(), runtime.cron.tick() > 0) == (0, True)
        only_read.clear()
        task = handler.add()
        queue.db.session.remove()
        close_engine(queue.db.engine)
        joined = handler.options(transactional=True).add()
        queue.db.session.commit()
        assert [one.wait(20).state for one in (task, joined)] == [State.SUCCEEDED] * 2
        runtime.stop()


def changes(queue: Bench, handler: Any) -> list[Callable[[], Any]]:
    """Each way to change something: at once, in the session's transaction, by name, many."""
    return [
        handler.add,
        lambda: handler.options(transactional=True).add(),
        lambda: queue.tasks.add("/w", name="one"),
        lambda: queue.tasks.add_many([handler.spec()] * 3),
        lambda: queue.tasks.batch([handler.spec()]),
        lambda: queue.tasks.queue("default").pause(),
    ]


def test_a_dispatcher_survives_a_server_that_only_reads(servers: Servers, tmp_path: Path) -> None:
    """MariaDB's read_only, for a user whom it binds, switched while tasks run."""
    with (
        fresh("mariadb", servers, tmp_path) as database,
        bound(database, servers) as url,
        bench(url, TASKQUEUE_POLL_INTERVAL=0.1) as queue,
    ):

        @queue.tasks.worker("/w")
        def handler() -> None: ...

        runtime = queue.runtime
        dispatcher = runtime.start().dispatcher
        assert handler.add().wait(20).state is State.SUCCEEDED
        administrator = sa.create_engine(servers.url("mariadb"), poolclass=sa.NullPool)
        try:
            execute(administrator, "SET GLOBAL read_only = 1")
            with pytest.raises(TransientError):
                handler.add()
            with pytest.raises(TransientError):
                handler.options(transactional=True).add()
            queue.db.session.rollback()
            assert dispatcher.health.turned_at is not None
        finally:
            execute(administrator, "SET GLOBAL read_only = 0")
        assert handler.add().wait(20).state is State.SUCCEEDED
        runtime.stop()


@contextmanager
def bound(database: TestDatabase, servers: Servers) -> Iterator[str]:
    """The URL of a database for a user of its own."""
    url = sa.make_url(database.url)
    administrator = sa.create_engine(servers.url("mariadb"), poolclass=sa.NullPool)
    execute(administrator, f"CREATE USER {url.database}@'%%' IDENTIFIED BY 'secret'")
    execute(administrator, f"GRANT ALL ON {url.database}.* TO {url.database}@'%%'")
    try:
        yield url.set(username=url.database, password="secret").render_as_string(
            hide_password=False
        )
    finally:
        execute(administrator, f"DROP USER {url.database}@'%%'")


def execute(engine: sa.Engine, statement: str) -> None:
    """One statement."""
    with engine.begin() as connection:
        connection.exec_driver_sql(statement)


def test_a_database_that_cannot_be_reached_is_a_transient_error_in_the_session_too(
    servers: Servers, tmp_path: Path
) -> None:
    """Not the driver's."""
    with fresh("mariadb", servers, tmp_path) as database, bench(database.url) as queue:

        @queue.tasks.worker("/w")
        def handler() -> None: ...

        handler.add()

        def away(*_: object) -> None:
            raise queue.db.engine.dialect.loaded_dbapi.OperationalError(2003, "nobody answers")

        queue.db.session.remove()
        close_engine(queue.db.engine)
        sa.event.listen(queue.db.engine, "do_connect", away)
        with pytest.raises(TransientError):
            handler.options(transactional=True).add()
        sa.event.remove(queue.db.engine, "do_connect", away)
        queue.db.session.rollback()


def test_a_commit_whose_answer_was_lost_is_found_again(database: TestDatabase) -> None:
    """Each way to add stores once what it was to store, and says so."""
    with bench(database.url) as queue:

        @queue.tasks.worker("/w")
        def handler() -> None: ...

        queue.tasks.add("/w", name="before")
        engine = queue.store.database.engine
        with answer_lost(engine):
            assert handler.add().was_enqueued
        with answer_lost(engine):
            assert queue.tasks.add("/w", name="named", unique_key="k").was_enqueued
        with answer_lost(engine):
            assert queue.tasks.batch([handler.spec(), handler.spec()]).total == 2
        with answer_lost(engine):
            added = queue.tasks.add_many(
                [TaskSpec("/w", name="before"), handler.spec(), handler.spec()]
            )
        assert tuple(added) == (2, 1)
        with answer_lost(engine):
            listed = queue.tasks.queue("default").add(
                [TaskSpec("/w", name="before"), handler.spec(), TaskSpec("/w", unique_key="k")]
            )
        assert [one.was_enqueued for one in listed] == [False, True, False]
        queue.tasks.add_schedule("nightly", "/w", "every day 03:00")
        schedule = queue.tasks.get_schedule("nightly")
        with answer_lost(engine):
            run = schedule.run_now()
        assert queue.tasks.get_schedule("nightly").last_task_id == run.id
        assert len(queue.tasks.find(limit=100)) == 1 + 1 + 1 + 2 + 2 + 1 + 1


def test_a_change_whose_answer_was_lost_is_not_called_refused(database: TestDatabase) -> None:
    """It may have been made, so the error says that, not that there was nothing to change."""
    with bench(database.url) as queue:
        tasks, engine = queue.tasks, queue.store.database.engine
        tasks.worker("/w")(lambda: None)
        task = tasks.add("/w", countdown=3600)
        tasks.add_schedule("nightly", "/w", "every day 03:00")
        schedule = tasks.get_schedule("nightly")
        tasks.add_queue("added")
        lost: list[Callable[[], object]] = [
            task.delete,
            schedule.pause,
            schedule.resume,
            schedule.delete,
            tasks.queue("added").pause,
            tasks.queue("added").resume,
            lambda: tasks.delete_queue("added"),
        ]
        for change in lost:
            with answer_lost(engine), pytest.raises(TransientError, match="may have been made"):
                change()
        assert tasks.get(task.id).state is State.CANCELLED
        assert [schedule.name for schedule in tasks.schedules()] == []
        assert "added" not in [found.name for found in tasks.queues()]


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("change", ["purge", "run now", "by ids", "requeue", "forget"])
def test_a_change_of_many_counts_what_it_has_changed(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch, change: str, committed: bool
) -> None:
    """Also the tasks of a step whose answer was lost, whether it was committed or not."""
    for module in (
        "store.tasks.selection.BATCH",
        "store.retention.BATCH",
        "api.bulk.CHANGED_AT_ONCE",
    ):
        monkeypatch.setattr(f"flask_taskqueue.{module}", 2)
    with bench(database.url) as queue:
        tasks, runtime, engine = queue.tasks, queue.runtime, queue.store.database.engine
        tasks.worker("/dead", retry={"task_retry_limit": 0})(lambda: ("no", 500))
        waits = {"countdown": 3600} if change in ("purge", "run now", "by ids") else {}
        for _ in range(5):
            tasks.add("/dead", **waits)
        if not waits:
            tasks.drain()
        ids = [task.id for task in tasks.find()]
        changes: dict[str, Callable[[], int]] = {
            "purge": tasks.queue("default").purge,
            "run now": tasks.queue("default").run_now,
            "by ids": lambda: change_ids(runtime, Action.DELETE, ids),
            "requeue": tasks.queue("default").requeue_dead,
            "forget": lambda: forget_matching(runtime, Filter(state=State.DEAD)),
        }
        verb = "DELETE FROM" if change == "forget" else "UPDATE"
        with answer_lost(engine, committed=committed, after=f"{verb} taskqueue_task "):
            assert changes[change]() == 5


def test_a_change_that_was_not_made_is_made_when_the_database_is_back(
    database: TestDatabase,
) -> None:
    """A connection that is lost before the commit is as if nothing had been asked."""
    with bench(database.url) as queue:
        queue.tasks.worker("/w")(lambda: None)
        task = queue.tasks.add("/w", countdown=3600)
        with answer_lost(queue.store.database.engine, committed=False):
            assert task.delete()
        assert queue.tasks.get(task.id).state is State.CANCELLED


@pytest.mark.slow
def test_what_became_of_a_commit_is_found_out_though_the_database_stays_away(
    database: TestDatabase,
) -> None:
    """Longer than a transaction is tried again of which nothing was committed."""
    with bench(database.url) as queue:
        queue.tasks.worker("/w")(lambda: None)
        queue.tasks.add("/w")
        engine = queue.store.database.engine
        with cut(engine, 100), pytest.raises(TransientError) as raised:
            queue.tasks.add("/w")
        assert "may have been done" not in str(raised.value)
        with answer_lost(engine) as lost, cut(engine, 10, once=lost):
            assert queue.tasks.add("/w").was_enqueued
        assert len(queue.tasks.find()) == 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
def test_what_became_of_a_commit_is_found_out_though_no_connection_is_taken(
    name: str, servers: Servers, tmp_path: Path
) -> None:
    """The server restarts: until it is there it refuses."""
    with (
        fresh(name, servers, tmp_path) as database,
        switched(database) as (url, switch),
        bench(url) as queue,
    ):
        queue.tasks.worker("/w")(lambda: None)
        queue.tasks.add("/w")
        queue.db.session.remove()
        close_engine(queue.db.engine)
        engine, refused = queue.store.database.engine, threading.Event()

        def back(_: sa.engine.ExceptionContext) -> None:
            if not refused.is_set():
                refused.set()
                threading.Timer(1, switch, (True,)).start()

        with answer_lost(engine, then=lambda: switch(False)):
            sa.event.listen(engine, "handle_error", back)
            assert queue.tasks.add("/w").was_enqueued
        assert refused.is_set()
        assert len(queue.tasks.find()) == 2


def test_a_commit_of_which_nothing_is_known_is_said_to_be(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task may be there or not."""
    monkeypatch.setattr(course, "_PATIENCE", 0.5)
    with bench(database.url) as queue:
        queue.tasks.worker("/w")(lambda: None)
        queue.tasks.add("/w")
        engine = queue.store.database.engine
        with (
            answer_lost(engine) as lost,
            cut(engine, 1000, once=lost),
            pytest.raises(TransientError, match="may have been done"),
        ):
            queue.tasks.add("/w")


@contextmanager
def cut(engine: sa.Engine, times: int, *, once: Sequence[object] = (True,)) -> Iterator[None]:
    """So many statements lose their connection, ``once`` something is in a list."""
    struck = 0

    def strike(connection: sa.Connection, *_: object) -> None:
        nonlocal struck
        if once and struck < times:
            struck += 1
            connection.connection.dbapi_connection.close()  # type: ignore[union-attr]

    sa.event.listen(engine, "before_cursor_execute", strike)
    try:
        yield
    finally:
        sa.event.remove(engine, "before_cursor_execute", strike)


@contextmanager
def answer_lost(
    engine: sa.Engine,
    then: Callable[[], object] = lambda: None,
    *,
    committed: bool = True,
    after: str = "",
) -> Iterator[list[bool]]:
    """The next commit is made, unless not ``committed``, and its connection lost before that is
    known. With ``after``, it is the next one after a statement that begins so.
    """
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: object) -> None:
        if statement.startswith(after):
            seen.append(statement)

    sa.event.listen(engine, "after_cursor_execute", note)
    commit = engine.dialect.do_commit
    lost: list[bool] = []

    def lose(connection: Any) -> None:
        strikes = not lost and (bool(seen) or not after)
        if committed or not strikes:
            commit(connection)
        if strikes:
            lost.append(True)
            then()
            driver = connection.dbapi_connection
            driver.close()
            driver.cursor().execute("SELECT 1")

    engine.dialect.do_commit = lose  # type: ignore[method-assign]
    try:
        yield lost
    finally:
        engine.dialect.do_commit = commit  # type: ignore[method-assign]
        sa.event.remove(engine, "after_cursor_execute", note)
    assert lost
