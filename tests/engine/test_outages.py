"""What a dispatcher survives: outages of each database, threads that die, jobs that raise."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue import (
    State,
    Task,
    TaskQueueError,
    TransientError,
    WaitTimeoutError,
    current_task,
)
from flask_taskqueue.core.queues import poison
from flask_taskqueue.core.times import lease_clock
from flask_taskqueue.engine import last_look
from flask_taskqueue.store.database.dialects import connections as idle
from flask_taskqueue.store.database.transaction import close_engine
from tests.apps import Bench, bench, served
from tests.databases import Servers, TestDatabase, fresh
from tests.outages import Proxy, switched
from tests.waiting import wait_until


class Unusual(BaseException):
    """No `Exception`, like gevent's GreenletExit and asyncio's CancelledError."""


def start(queue: Bench) -> Any:
    """Start the dispatcher of this process."""
    return queue.runtime.start()


def test_an_outage_is_survived_and_told(
    database: TestDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """Health says since when and why; what finished meanwhile is recorded afterwards, and
    nothing is attempted twice.
    """
    with (
        switched(database) as (url, switch),
        bench(url, TASKQUEUE_POLL_INTERVAL=0.1, TASKQUEUE_CREATE_TABLES=False) as queue,
    ):
        release, ran = threading.Event(), []

        @queue.tasks.worker("/w")
        def handler(wait: bool) -> None:
            ran.append(wait)
            if wait:
                release.wait(20)

        scheduler = start(queue)
        dispatcher = scheduler.dispatcher
        running = handler.add(wait=True)
        wait_until(lambda: ran, what="the first runs")
        queue.db.session.remove()
        for engine in queue.db.engines.values():
            close_engine(engine)
        switch(False)
        began = datetime.now(UTC)
        release.set()
        wait_until(lambda: dispatcher.health.refusing_since, what="it is refused")
        with pytest.raises(TaskQueueError):
            handler.add(wait=False)
        assert dispatcher.health.last_error
        switch(True)
        wait_until(lambda: not dispatcher.health.refusing_since, what="it works again")
        assert dispatcher.health.turned_at >= began
        assert running.wait(10).attempts == 1
        assert handler.add(wait=False).wait(10).state is State.SUCCEEDED
        assert ran == [True, False]
        queue.runtime.stop()
        messages = [record.message for record in caplog.records]
        assert (
            len([message for message in messages if message.startswith("the database refuses")])
            == 1
        )
        assert (
            len([message for message in messages if message.startswith("the database works again")])
            == 1
        )


@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
def test_who_waits_for_a_task_waits_through_an_outage(
    name: str, servers: Servers, tmp_path: Path
) -> None:
    """Until the time has passed that was given; then the error says why nothing is known."""
    with (
        fresh(name, servers, tmp_path) as database,
        switched(database) as (url, switch),
        bench(url) as queue,
    ):

        @queue.tasks.worker("/w")
        def handler() -> None:
            pass

        task, tried = handler.add(), threading.Event()
        assert task.state is State.SCHEDULED
        queue.db.session.remove()
        close_engine(queue.db.engine)
        switch(False)
        with pytest.raises(WaitTimeoutError, match="cannot be read") as raised:
            task.wait(0.3)
        assert isinstance(raised.value.__cause__, TransientError)
        sa.event.listen(
            queue.store.database.engine,
            "handle_error",
            lambda _: tried.set(),
        )
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(task.wait, 30)
            wait_until(tried.is_set, what="it asked while the database was away")
            switch(True)
            queue.tasks.drain()
            assert waiting.result(30).state is State.SUCCEEDED


@pytest.mark.slow
def test_what_runs_through_an_outage_longer_than_its_lease_stays_ours(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not begun a second time, and its result is recorded.

    Unless somebody else has taken it, and unless its handler was told that the lease may be lost:
    that one is attempted again.
    """
    monkeypatch.setattr(poison, "PROBATION", 0.0)
    with (
        switched(database) as (url, switch),
        bench(url, TASKQUEUE_LEASE=1, TASKQUEUE_CREATE_TABLES=False) as queue,
    ):
        release, told = threading.Event(), threading.Event()
        ran: list[str] = []

        @queue.tasks.worker("/w")
        def handler(name: str) -> None:
            ran.append(name)
            release.wait(20)

        @queue.tasks.worker("/told")
        def heeding() -> None:
            ran.append("told")
            while not (current_task.cancelled or told.is_set()):
                time.sleep(0.01)
            told.set()

        dispatcher = start(queue).dispatcher
        kept, taken, heeded = handler.add(name="kept"), handler.add(name="taken"), heeding.add()
        wait_until(lambda: len(ran) == 3, what="all run")
        take(queue, taken)
        for engine in queue.db.engines.values():
            close_engine(engine)
        switch(False)
        ends = time.monotonic() + 1.2
        assert told.wait(10)
        wait_until(lambda: time.monotonic() > ends, what="the leases have run out")
        switch(True)
        assert heeded.wait(10).attempts == 2
        release.set()
        assert (kept.wait(10).attempts, kept.wait(10).crashes) == (1, 0)
        wait_until(lambda: dispatcher.in_flight == 0, what="all is recorded")
        assert queue.tasks.get(taken.id).state is State.LEASED
        assert sorted(ran) == ["kept", "taken", "told", "told"]
        assert queue.attempts(heeded) == [(1, "failure", 409), (2, "success", 204)]
        queue.runtime.stop()


def take(queue: Bench, task: Task) -> None:
    """Have another dispatcher hold a task, for an hour."""
    store = queue.store
    table = store.database.tables.task
    changes = {
        "lease_id": "another",
        "held_by": "another",
        "due_at": table.c.due_at + 3_600_000_000,
    }
    store.transact(
        lambda connection: connection.execute(
            sa.update(table).where(table.c.id == task.id).values(changes)
        )
    )
    queue.db.session.remove()


def test_what_runs_here_is_not_taken_over_after_a_pause(database: TestDatabase) -> None:
    """A process that stood still for longer than a lease goes on in the midst of a turn; what its
    threads run runs once, and no crash is counted.
    """
    with bench(database.url, TASKQUEUE_POLL_INTERVAL=0.05) as queue:
        release, ran = threading.Event(), []

        @queue.tasks.worker("/w")
        def handler(wait: bool) -> None:
            ran.append(wait)
            if wait:
                release.wait(60)

        running = handler.add(wait=True)
        start(queue)
        wait_until(lambda: ran, what="the first runs")
        run_out(queue, running)
        for _ in range(3):  # in turns that look for leases that ran out
            assert handler.add(wait=False).wait(60).state is State.SUCCEEDED
        release.set()
        ended = running.wait(60)
        assert (ended.attempts, ended.crashes) == (1, 0)
        assert ran == [True, False, False, False]


def test_a_task_that_another_process_gave_back_runs_beside_its_lost_attempt(
    database: TestDatabase,
) -> None:
    """Here, too: each attempt of this process ends by itself, and the lost one changes nothing."""
    with bench(database.url, TASKQUEUE_POLL_INTERVAL=0.05) as queue:
        releases = [threading.Event(), threading.Event()]
        ran: list[int] = []

        @queue.tasks.worker("/w")
        def handler() -> None:
            ran.append(current_task.attempt)
            releases[len(ran) - 1].wait(60)

        task = handler.add()
        dispatcher = start(queue).dispatcher
        wait_until(lambda: len(ran) == 1, what="the first attempt runs")
        take(queue, task)
        queue.store.transact(
            lambda connection: queue.store.leases.release(connection, [(task.id, "another")])
        )
        dispatcher.wake()
        wait_until(lambda: len(ran) == 2, what="the second attempt runs")
        assert dispatcher.in_flight == 2
        releases[0].set()
        wait_until(lambda: dispatcher.in_flight == 1, what="the lost attempt is over")
        assert queue.tasks.get(task.id).state is State.LEASED
        dispatcher.heartbeat.beat()
        releases[1].set()
        assert task.wait(60).state is State.SUCCEEDED
        wait_until(lambda: dispatcher.in_flight == 0, what="both are over")


def test_after_an_outage_others_may_renew_their_leases_first(
    database: TestDatabase,
) -> None:
    """Nobody could during the outage, so all of them seem to have run out."""
    with (
        switched(database) as (url, switch),
        bench(url, TASKQUEUE_LEASE=60, TASKQUEUE_CREATE_TABLES=False) as queue,
    ):
        handler, ran, theirs = beside_another(queue)
        dispatcher = start(queue).dispatcher
        handler.add().wait(60)
        queue.db.session.remove()
        for engine in queue.db.engines.values():
            close_engine(engine)
        switch(False)
        wait_until(lambda: dispatcher.health.refusing_since, what="it is refused")
        switch(True)
        run_out(queue, theirs)
        wait_until(lambda: not dispatcher.health.refusing_since, what="it works again")
        handler.add().wait(60)
        held = (theirs.id, "another")
        assert queue.store.transact(
            lambda connection: queue.store.leases.renew(connection, [held], 60)
        ) == {held}
        assert theirs.id not in ran


@pytest.mark.slow
def test_a_clock_that_is_set_forward_loses_no_lease(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a server that takes the place of another and whose clock differs."""
    with bench(database.url, TASKQUEUE_LEASE=60) as queue:
        handler, ran, theirs = beside_another(queue)
        start(queue)
        handler.add().wait(60)
        # For this process, less time passes than for the database.
        monkeypatch.setattr(last_look, "lease_clock", lambda: lease_clock() - 90)
        run_out(queue, theirs)
        handler.add().wait(60)
        assert theirs.id not in ran
        monkeypatch.setattr(last_look, "lease_clock", lambda: lease_clock() - 55)
        assert theirs.wait(60).state is State.SUCCEEDED


def beside_another(queue: Bench) -> tuple[Any, list[str], Task]:
    """A handler, the tasks that it has run for, and one that another dispatcher runs."""
    ran: list[str] = []

    @queue.tasks.worker("/w")
    def handler() -> None:
        ran.append(current_task.id)

    task = handler.options(countdown=3600).add()
    take(queue, task)
    table = queue.store.database.tables.task
    changes = {
        "state": State.LEASED.value,
        "attempts": 1,
        "first_tried_at": table.c.created_at,
        "started_at": table.c.created_at,
    }
    queue.store.transact(
        lambda connection: connection.execute(
            sa.update(table).where(table.c.id == task.id).values(changes)
        )
    )
    return handler, ran, task


def run_out(queue: Bench, task: Task) -> None:
    """Have the lease of a task run out long ago, as if nobody had renewed it."""
    table = queue.store.database.tables.task
    queue.store.transact(
        lambda connection: connection.execute(
            sa.update(table).where(table.c.id == task.id).values(due_at=1)
        )
    )
    queue.db.session.remove()


def terminate_connections(database: TestDatabase) -> None:
    """End all connections to a database of PostgreSQL, whatever they are in the midst of."""
    address = sa.make_url(database.url)
    other = address.set(database="postgres")
    killer = sa.create_engine(other, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with killer.connect() as connection:
        connection.execute(
            sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
            {"name": address.database},
        )


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["wsgi", "http"])
def test_a_handler_that_reports_and_asks_goes_on_while_the_database_is_away(
    servers: Servers, tmp_path: Path, transport: str
) -> None:
    """A report is left out, and nobody says that the result is no longer wanted."""
    with (
        fresh("postgresql", servers, tmp_path) as database,
        switched(database) as (url, switch),
        bench(url) as queue,
    ):
        seen: list[bool] = []

        @queue.tasks.worker("/w")
        def handler() -> None:
            current_task.progress(1, 3)
            for away in (True, False):
                switch(not away)
                time.sleep(1.1)  # it asks once a second, and reports twice
                seen.append(current_task.cancelled)
                current_task.progress(2 if away else 3, 3)

        task = handler.add()
        queue.db.session.remove()
        if transport == "wsgi":
            queue.tasks.drain()
        else:
            with served(queue.app) as address:
                queue.runtime.drain(transport="http", base_url=address)
        ended = queue.tasks.get(task.id)
        assert (ended.state, ended.attempts, seen) == (State.SUCCEEDED, 1, [False, False])
        assert ended.progress is not None
        assert ended.progress.done == 3


@pytest.mark.slow
def test_a_handler_over_http_is_told_when_its_lease_may_be_lost(
    servers: Servers, tmp_path: Path
) -> None:
    """The database was away for as long as a lease; so whatever it answers, it runs again."""
    with (
        fresh("postgresql", servers, tmp_path) as database,
        switched(database) as (url, switch),
        bench(url, TASKQUEUE_LEASE=2, TASKQUEUE_RETRY={"min_backoff_seconds": 0}) as queue,
    ):
        seen: list[int] = []

        @queue.tasks.worker("/w")
        def handler() -> None:
            if current_task.attempt == 1:
                switch(False)
                wait_until(lambda: current_task.cancelled, what="it is told")
                switch(True)
            seen.append(current_task.attempt)

        task = handler.add()
        queue.db.session.remove()
        with served(queue.app) as address:
            queue.runtime.drain(transport="http", base_url=address)
        assert (queue.tasks.get(task.id).state, seen) == (State.SUCCEEDED, [1, 2])


@pytest.mark.slow
def test_tasks_run_while_connections_are_terminated(servers: Servers, tmp_path: Path) -> None:
    """Each once, whatever PostgreSQL had in hand for us when it ended them."""
    with (
        fresh("postgresql", servers, tmp_path) as database,
        bench(database.url, TASKQUEUE_LEASE=2) as queue,
    ):
        ran: list[int] = []

        @queue.tasks.worker("/w")
        def handler(number: int) -> None:
            ran.append(number)

        scheduler = start(queue)
        for number in range(10):
            queue.tasks.add_many([handler.spec(number=number * 10 + item) for item in range(10)])
            terminate_connections(database)
        wait_until(lambda: len(ran) >= 100, what="all have run")
        wait_until(lambda: scheduler.dispatcher.in_flight == 0, what="all are recorded")
        assert sorted(ran) == list(range(100))
        assert {task.state for task in queue.tasks.find(limit=200)} == {State.SUCCEEDED}
        queue.runtime.stop()


def test_a_connection_that_was_terminated_while_it_was_idle_is_replaced(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where what is read is not read again."""
    monkeypatch.setattr(idle, "_IDLE", 0.0)
    with fresh("postgresql", servers, tmp_path) as database, bench(database.url) as queue:
        for _ in range(2):
            with queue.store.reading() as reader:
                assert reader.scalar(sa.select(1)) == 1
            terminate_connections(database)


LOOKS: dict[str, Callable[[Bench, Task], object]] = {
    "find": lambda queue, _: queue.tasks.find(),
    "get": lambda queue, task: queue.tasks.get(task.id),
    "result": lambda queue, task: queue.tasks.result(task.id),
    "wait": lambda queue, task: queue.tasks.wait(task.id, 30),
    "statistics": lambda queue, _: queue.tasks.statistics(),
    "settings": lambda queue, _: queue.tasks.queue("added").settings,
    "why": lambda queue, task: queue.tasks.why(task),
    "schedules": lambda queue, _: queue.tasks.schedules(),
    "pause": lambda queue, _: queue.tasks.queue("default").pause(),
    "add": lambda queue, _: queue.tasks.add("/w", unique_key="one", on_conflict="replace"),
}


def test_who_looks_is_not_told_of_terminated_connections(servers: Servers, tmp_path: Path) -> None:
    """However recently they were used."""
    with fresh("postgresql", servers, tmp_path) as database, bench(database.url) as queue:
        queue.tasks.worker("/w")(lambda: None)
        queue.tasks.add_queue("added")
        task = queue.run(queue.tasks.add("/w"))
        for look in LOOKS.values():
            look(queue, task)
            terminate_connections(database)
            look(queue, task)


PATHS = (
    "/taskqueue/",
    "/taskqueue/tasks",
    "/taskqueue/queues.json",
    "/taskqueue/system",
    "/taskqueue/health/ready",
    "/taskqueue/health/dispatcher",
    "/taskqueue/metrics",
)


@pytest.mark.slow
def test_pages_health_and_metrics_survive_terminated_connections(
    servers: Servers, tmp_path: Path
) -> None:
    """They say the same as before."""
    settings: dict[str, Any] = {
        "TASKQUEUE_DASHBOARD_ACCESS": lambda: True,
        "TASKQUEUE_METRICS_ACCESS": lambda: True,
        "TASKQUEUE_DASHBOARD": True,
        "TASKQUEUE_METRICS": True,
    }
    with (
        fresh("postgresql", servers, tmp_path) as database,
        bench(database.url, **settings) as queue,
    ):
        client = queue.app.test_client()
        for path in PATHS:
            before = client.get(path).status_code
            terminate_connections(database)
            after = client.get(path)
            assert (after.status_code, "refusing" in after.text) == (before, False), path
            assert before != 404, path


def test_a_delivery_by_http_survives_terminated_connections(
    servers: Servers, tmp_path: Path
) -> None:
    """Those of the process that serves it, too: no attempt is used up."""
    with fresh("postgresql", servers, tmp_path) as database, bench(database.url) as queue:
        queue.tasks.worker("/w")(lambda: None)
        serve, turn = queue.app.wsgi_app, threading.Lock()

        def cut(environ: Any, start_response: Any) -> Any:
            with turn:
                terminate_connections(database)
                return serve(environ, start_response)

        queue.app.wsgi_app = cut  # type: ignore[method-assign]
        tasks = [queue.tasks.add("/w") for _ in range(5)]
        with served(queue.app) as url:
            queue.runtime.drain(transport="http", base_url=url)
        for task in tasks:
            ended = queue.tasks.get(task.id)
            assert (ended.state, ended.attempts) == (State.SUCCEEDED, 1)


def test_a_server_that_is_not_there_is_a_transient_error(
    servers: Servers, sqlite_database: TestDatabase
) -> None:
    """Whoever adds can tell it from a mistake, also when the tables had been found before."""
    proxy = Proxy(servers.url("mariadb").set(database="mysql"))
    with bench(sqlite_database.url, TASKQUEUE_DATABASE_URI=proxy.url) as queue:
        store = queue.store
        store.database._ready = True
        store.transact(lambda connection: connection.execute(sa.select(1)))
        proxy.switch(False)
        with pytest.raises(TransientError, match="cannot be reached"):
            store.transact(lambda connection: connection.execute(sa.select(1)))


@pytest.fixture
def queue(sqlite_database: TestDatabase) -> Any:
    """An application on a SQLite file, whose dispatcher is stopped at the end."""
    with bench(
        sqlite_database.url, TASKQUEUE_POLL_INTERVAL=0.05, TASKQUEUE_RETRY={"task_retry_limit": 0}
    ) as one:
        yield one
        one.runtime.stop()


def test_whatever_a_handler_raises_is_a_failed_attempt(queue: Bench) -> None:
    """Even what is no Exception; its thread goes on."""

    @queue.tasks.worker("/bad")
    def bad() -> None:
        raise Unusual

    @queue.tasks.worker("/good")
    def good() -> None: ...

    start(queue)
    for task in [bad.add() for _ in range(20)]:
        assert (task.wait(10).state, queue.tasks.get(task.id).last_status) == (State.DEAD, 500)
    assert good.add().wait(10).state is State.SUCCEEDED


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_dies_is_replaced(queue: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every slot works on, and the attempt it died in is a failed one."""
    together = threading.Barrier(8, timeout=10)

    @queue.tasks.worker("/w")
    def handler() -> None:
        together.wait()

    scheduler = start(queue)
    attempts = scheduler.dispatcher._attempts

    def die(_: object) -> None:
        raise Unusual

    with monkeypatch.context() as patch:
        patch.setattr(attempts, "make", die)
        for task in [handler.add() for _ in range(20)]:
            assert task.wait(10).state is State.DEAD
    for task in [handler.add() for _ in range(8)]:
        assert task.wait(10).state is State.SUCCEEDED
    assert scheduler.dispatcher.stuck == 0


def test_a_job_that_raises_runs_again(
    queue: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the next time it works."""

    @queue.tasks.worker("/w")
    def handler() -> None: ...

    scheduler = start(queue)
    raised = threading.Event()

    def fail(*_: object) -> None:
        raised.set()
        raise RuntimeError("a mistake")

    with monkeypatch.context() as patch:
        patch.setattr(scheduler.dispatcher, "_turn", fail)
        assert raised.wait(5)
    assert handler.add().wait(10).state is State.SUCCEEDED
    assert "a mistake" in caplog.text
