"""A machine that starts no more threads for a while, because processes are limited."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from flask_taskqueue import State
from flask_taskqueue.engine.transports.kept import Lookups
from flask_taskqueue.process import stop_signals
from flask_taskqueue.process.threads import NoThreadError
from flask_taskqueue.web.starting import autostart
from tests.apps import Bench, bench
from tests.databases import TestDatabase
from tests.waiting import wait_until

Refusing = Callable[..., AbstractContextManager[list[str]]]


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Refusing:
    """A context in which no thread can be started, or none with such names; it yields the names
    of those that were refused.
    """
    start = threading.Thread.start

    @contextmanager
    def refuse(*names: str) -> Iterator[list[str]]:
        refused: list[str] = []

        def starting(thread: threading.Thread) -> None:
            if names and not thread.name.startswith(names):
                start(thread)
                return
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", starting)
            yield refused

    return refuse


@pytest.mark.slow
def test_a_dispatcher_goes_on_when_there_are_threads_again(
    database: TestDatabase, refusing: Refusing, caplog: pytest.LogCaptureFixture
) -> None:
    """What was added meanwhile is stored and runs once; jobs that got no thread are made up for."""
    with bench(database.url, TASKQUEUE_POLL_INTERVAL=0.1) as one:
        runs: list[int] = []

        @one.tasks.task
        def handler(number: int) -> None:
            runs.append(number)

        with refusing():
            with pytest.raises(NoThreadError):
                one.runtime.start()
            tasks = [handler.enqueue(number) for number in range(3)]
        assert one.tasks.dispatchers() == []
        scheduler = one.runtime.start()
        for task in tasks:
            assert task.wait(30).state is State.SUCCEEDED
        with refusing():
            tasks = [handler.enqueue(number) for number in range(3, 40)]
            wait_until(lambda: len(scheduler._executor._waiting) >= 3, what="jobs wait")
        for task in tasks:
            assert task.wait(30).state is State.SUCCEEDED
        wait_until(lambda: not scheduler._executor._waiting, what="all jobs have begun")
        assert caplog.text.count("the jobs of the dispatcher wait for a thread") == 1
        assert sorted(runs) == list(range(40))


@pytest.mark.parametrize(
    "names",
    [
        ("taskqueue-start",),
        ("taskqueue-stop",),
        ("APScheduler",),
        ("taskqueue-wakeup", "taskqueue-listen"),
        (),
    ],
)
def test_a_process_starts_its_dispatcher_later(
    database: TestDatabase,
    refusing: Refusing,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    names: tuple[str, ...],
) -> None:
    """Whichever thread is missing at the first request; the log says so as a warning."""
    monkeypatch.setattr(autostart, "_NEXT_ATTEMPT", 0.1)
    monkeypatch.setattr(autostart, "_START_AGAIN", 0.1)
    monkeypatch.setattr(stop_signals, "_guard", None)
    with bench(database.url, TESTING=False) as one:
        one.app.get("/")(lambda: "")
        handler = one.tasks.worker("/w")(lambda: None)
        client = one.app.test_client()
        with refusing(*names) as refused:
            assert client.get("/").status_code == 200
            wait_until(lambda: refused, what="a thread was refused")
            wait_until(lambda: "can't start new thread" in caplog.text, what="the log says so")
            assert one.runtime.scheduler is None
        assert {record.levelname for record in caplog.records if "thread" in record.message} == {
            "WARNING"
        }

        def starts() -> bool:
            return client.get("/").status_code == 200 and one.runtime.scheduler is not None

        wait_until(starts, what="the dispatcher starts")
        assert handler.add().wait(30).state is State.SUCCEEDED


def test_a_health_check_without_a_thread_harms_no_later_one(
    on_sqlite: Bench, refusing: Refusing
) -> None:
    """It says what is missing; the next one is made as always."""
    client = on_sqlite.app.test_client()
    with refusing():
        for _ in range(2):
            reply = client.get("/taskqueue/health/ready")
            assert reply.status_code == 503
            assert "cannot start a thread: can't start new thread" in reply.text
    assert client.get("/taskqueue/health/ready").status_code == 200


def test_a_name_that_got_no_thread_is_looked_up_later(refusing: Refusing) -> None:
    """The attempt fails like one whose name server is away; the next one asks it."""
    lookups = Lookups()
    with refusing(), pytest.raises(OSError, match="can't start new thread"):
        lookups.find("localhost", 80, 10)
    assert lookups.find("127.0.0.1", 80, 10) == socket.getaddrinfo(
        "127.0.0.1", 80, 0, socket.SOCK_STREAM
    )
    assert lookups.find("localhost", 80, 10)
