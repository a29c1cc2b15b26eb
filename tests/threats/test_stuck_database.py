"""Threat: a database that is stuck takes the application with it, by what waits for it:
threads, connections, requests.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from flask_taskqueue import State, TransientError
from flask_taskqueue.store.database import transaction as course
from flask_taskqueue.store.database.transaction import close_engine
from flask_taskqueue.web.monitoring import health
from tests.apps import Bench, bench
from tests.databases import NAMES, Servers, fresh
from tests.outages import Proxy
from tests.waiting import wait_until

servers_only = pytest.mark.parametrize("name", [name for name in NAMES if name != "sqlite"])
POOL = 5 + 20
JOBS = 7
"""Of the dispatcher's timer, each at most twice at a time."""


@contextmanager
def proxied(
    name: str, servers: Servers, directory: Path, **config: Any
) -> Iterator[tuple[Bench, Proxy]]:
    """An application, its tables made, that reaches its database by a proxy."""
    with fresh(name, servers, directory) as database:
        proxy = Proxy(database.url)
        try:
            with bench(proxy.url, **config) as queue:
                yield queue, proxy
                proxy.let_go()
                queue.db.session.remove()
                close_engine(queue.db.engine)
        finally:
            proxy.switch(False)


def named(beginning: str) -> int:
    """How many threads have a name that begins so."""
    return sum(thread.name.startswith(beginning) for thread in threading.enumerate())


class TestAStuckDatabaseExhaustsResources:
    @pytest.mark.slow
    @servers_only
    def test_connections_are_limited(self, servers: Servers, tmp_path: Path, name: str) -> None:
        """Who finds none free is told, by an error that add() has for a database that is away."""
        with (
            fresh(name, servers, tmp_path) as database,
            bench(database.url) as queue,
            ExitStack() as stack,
        ):
            queue.tasks.worker("/w")(lambda: None)
            engine = queue.store.database.engine
            engine.pool._timeout = 0.1
            for _ in range(POOL):
                stack.enter_context(engine.connect())
            with pytest.raises(TransientError, match="no connection to the database became free"):
                queue.tasks.add("/w")
            with pytest.raises(TransientError, match="no connection to the database became free"):
                queue.tasks.find()

    @servers_only
    def test_health_checks_answer_and_do_not_pile_up(
        self, servers: Servers, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """However often they are asked, one thread waits; when the database is back they say so."""
        monkeypatch.setattr(health, "TIMEOUT", 0.2)
        with proxied(name, servers, tmp_path) as (queue, proxy):
            client = queue.app.test_client()
            wait_until(
                lambda: client.get("/taskqueue/health/ready").status_code == 200, what="all is well"
            )
            proxy.hold()
            for what in ("ready", "dispatcher", "ready"):
                reply = client.get(f"/taskqueue/health/{what}")
                assert (reply.status_code, reply.json) == (
                    503,
                    {"status": "failing", "problems": ["the database has not answered for 0.2 s"]},
                )
            assert named("taskqueue-health") == 1
            proxy.let_go()
            wait_until(
                lambda: client.get("/taskqueue/health/ready").status_code == 200,
                what="all is well again",
            )

    @pytest.mark.slow
    @servers_only
    def test_the_dispatcher_waits_with_few_threads(
        self, servers: Servers, tmp_path: Path, name: str
    ) -> None:
        """And goes on when the silence ends."""
        with proxied(
            name,
            servers,
            tmp_path,
            TASKQUEUE_LEASE=1,
            TASKQUEUE_POLL_INTERVAL=0.1,
            TASKQUEUE_CONCURRENCY=2,
        ) as (queue, proxy):
            ran: list[int] = []

            @queue.tasks.worker("/w")
            def handler() -> None:
                ran.append(1)

            queue.runtime.start()
            handler.add().wait(10)
            before = named("taskqueue-")
            proxy.hold()
            ends = time.monotonic() + 1.5
            most = 0
            while time.monotonic() < ends:
                most = max(most, named("taskqueue-"))
                time.sleep(0.01)
            proxy.let_go()
            assert most - before <= 2 * JOBS + 2
            close_engine(queue.db.engine)
            wait_until(lambda: is_added(queue), what="a task can be added")
            wait_until(lambda: len(ran) == 2, what="it runs")
            queue.runtime.stop()

    @pytest.mark.slow
    def test_a_silent_server_is_waited_for_once(
        self, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Up to the driver's limit: what lost its connection so late is not tried again, so
        that add() does not take minutes to fail.
        """
        monkeypatch.setattr(course, "_PATIENCE", 0.5)
        limits = {"connect_args": {"read_timeout": 1, "connect_timeout": 1}}
        with proxied("mariadb", servers, tmp_path, SQLALCHEMY_ENGINE_OPTIONS=limits) as (
            queue,
            proxy,
        ):
            queue.tasks.worker("/w")(lambda: None)
            queue.tasks.add("/w")
            proxy.hold()
            before = proxy.connections
            with pytest.raises(TransientError):
                queue.tasks.add("/w")
            assert proxy.connections == before

    @servers_only
    def test_every_connection_has_limits(self, servers: Servers, tmp_path: Path, name: str) -> None:
        """For the peer to answer, and on MariaDB for locks, so that nothing waits on at the
        server for whoever has given up.
        """
        with fresh(name, servers, tmp_path) as database, bench(database.url) as queue:
            with queue.store.reading() as connection:
                driver = connection.connection.dbapi_connection
                if name == "postgresql":
                    given = driver.info.get_parameters()
                    assert {
                        "connect_timeout",
                        "keepalives_idle",
                        "keepalives_interval",
                        "keepalives_count",
                        "tcp_user_timeout",
                    } <= {*given}
                    return
                assert (driver.connect_timeout, driver._read_timeout, driver._write_timeout) == (
                    10,
                    30,
                    30,
                )
                limits = connection.exec_driver_sql(
                    "SELECT @@lock_wait_timeout, @@innodb_lock_wait_timeout"
                ).one()
                assert all(limit < 30 for limit in limits)


def is_added(queue: Bench) -> bool:
    """Whether a task could be added."""
    try:
        return queue.tasks.add("/w").state is State.SCHEDULED
    except TransientError:
        return False
