"""The queue by way of PgBouncer."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from flask_taskqueue import State, diagnosis
from flask_taskqueue.store import Notifications
from tests.apps import Bench, bench
from tests.databases import Servers, fresh
from tests.pooler import pooled
from tests.waiting import wait_until

UNPREPARED = {"connect_args": {"prepare_threshold": None}}
_ADDED = 40


def counting(queue: Bench) -> Any:
    """A transactional handler that counts."""

    @queue.tasks.worker("/count", transactional=True)
    def handler() -> None:
        queue.db.session.get(queue.Counter, 1, with_for_update=True).count += 1

    return handler


def works_in_threads(queue: Bench, handler: Any) -> None:
    """Tasks are added in several threads, at once and in the session's transaction, while a
    dispatcher runs them: each once.
    """
    failures: list[BaseException] = []

    def add() -> None:
        with queue.app.app_context():
            try:
                for number in range(_ADDED):
                    handler.options(transactional=bool(number % 2)).add()
                    queue.db.session.commit()
                queue.tasks.add_many([handler.spec()] * _ADDED)
            except Exception as error:  # noqa: BLE001 - whatever it is, the test tells
                failures.append(error)

    adding = [threading.Thread(target=add) for _ in range(3)]
    for item in adding:
        item.start()
    for item in adding:
        item.join()
    assert failures == []
    wait_until(lambda: queue.count() == 3 * 2 * _ADDED, what="all have run", timeout=60)


@pytest.mark.slow
def test_in_transaction_mode_nothing_of_the_queues_fails(
    servers: Servers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With psycopg's usual settings on the queue's connections; it polls, and says so in the
    log and in doctor.
    """
    with (
        fresh("postgresql", servers, tmp_path) as database,
        pooled(database, "transaction") as url,
        bench(url, TASKQUEUE_POLL_INTERVAL=0.2, SQLALCHEMY_ENGINE_OPTIONS=UNPREPARED) as queue,
    ):
        handler = counting(queue)
        runtime = queue.runtime
        with caplog.at_level(logging.WARNING):
            dispatcher = runtime.start().dispatcher
            works_in_threads(queue, handler)
            has_notifications = Notifications.of(runtime.store.database) is not None
            if has_notifications:
                wait_until(
                    lambda: "notifications do not reach this process" in caplog.text,
                    what="the log says so",
                    timeout=30,
                )
        wait_until(
            lambda: {task.state for task in queue.tasks.find(limit=500)} == {State.SUCCEEDED},
            what="all are recorded",
            timeout=30,
        )
        assert dispatcher.health.last_error is None
        found = [
            finding for finding in diagnosis.findings(runtime) if "notifications" in finding.text
        ]
        assert [(item.level, item.anchor) for item in found] == (
            [("warning", "databases#pgbouncer")] if has_notifications else []
        )
        runtime.stop()


def test_in_session_mode_notifications_get_through(servers: Servers, tmp_path: Path) -> None:
    """A task that another process adds starts long before the next poll."""
    with (
        fresh("postgresql", servers, tmp_path) as database,
        pooled(database, "session", connections=20) as url,
        bench(url, TASKQUEUE_POLL_INTERVAL=60) as queue,
    ):
        handler = counting(queue)
        runtime = queue.runtime
        if Notifications.of(runtime.store.database) is None:
            pytest.skip("this driver has no notifications")
        assert runtime.wakeup_channel.is_heard()
        runtime.start()
        handler.add().wait(30)
        runtime.stop()


def test_who_adds_through_a_pooler_is_heard_by_those_who_do_not(
    servers: Servers, tmp_path: Path
) -> None:
    """Web processes may use PgBouncer while dispatchers connect directly."""
    with (
        fresh("postgresql", servers, tmp_path) as database,
        pooled(database, "transaction") as url,
        bench(database.url, TASKQUEUE_POLL_INTERVAL=60) as direct,
        bench(url, SQLALCHEMY_ENGINE_OPTIONS=UNPREPARED) as queue,
    ):
        runtime = direct.runtime
        if Notifications.of(runtime.store.database) is None:
            pytest.skip("this driver has no notifications")
        heard = threading.Event()
        runtime.wakeup_channel.listen(heard.set)
        assert heard.wait(20)  # as it begins to listen
        heard.clear()
        ringing = queue.runtime.wakeup_channel
        ends = time.monotonic() + 20
        while not heard.is_set() and time.monotonic() < ends:
            ringing.ring()
            heard.wait(0.2)
        assert heard.is_set()
        runtime.wakeup_channel.close()


def test_statements_are_prepared_where_the_connection_is_the_servers_own(
    servers: Servers, tmp_path: Path
) -> None:
    """And nowhere else."""
    with fresh("postgresql", servers, tmp_path) as database, pooled(database, "transaction") as url:
        for one, prepares in ((database.url, True), (url, False)):
            with bench(one, SQLALCHEMY_ENGINE_OPTIONS={} if prepares else UNPREPARED) as queue:
                store = queue.store
                with store.reading() as connection:
                    driver = connection.connection.dbapi_connection
                    if not hasattr(driver, "prepare_threshold"):
                        pytest.skip("this driver prepares nothing")
                    assert (driver.prepare_threshold is not None) is prepares


def test_an_application_that_prepares_through_a_pooler_is_warned(
    servers: Servers, tmp_path: Path
) -> None:
    """When a dispatcher starts and by doctor, with what to set."""
    with fresh("postgresql", servers, tmp_path) as database, pooled(database, "transaction") as url:
        for options, warned in (({}, True), (UNPREPARED, False)):
            with bench(url, SQLALCHEMY_ENGINE_OPTIONS=options) as queue:
                found = queue.store.database.findings()
                if not hasattr(
                    queue.db.session.connection().connection.dbapi_connection, "prepare_threshold"
                ):
                    pytest.skip("this driver prepares nothing")
                assert any("'prepare_threshold': None" in item.remedy for item in found) is warned
                queue.db.session.rollback()
