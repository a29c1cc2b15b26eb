"""The app's logging, which may fail without changing what the queue does."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import request

import flask_taskqueue
from flask_taskqueue import State
from flask_taskqueue.engine import dispatcher
from flask_taskqueue.process.logs import get_logger
from tests.apps import bench
from tests.databases import TestDatabase
from tests.waiting import wait_until

_logger = logging.getLogger("flask_taskqueue")


def fail(*_: object, **__: object) -> Any:
    """As a filter that needs a request, or a handler whose server is away."""
    return request.headers["X-Request-Id"]


class Failing(logging.Handler):
    """A handler that raises what a library does, instead of handling it."""

    def emit(self, record: logging.LogRecord) -> None:
        """Send the record to a server that is away."""
        raise ConnectionError("the log server is away")


@contextmanager
def failing_filter() -> Iterator[None]:
    """A filter of the logger."""
    _logger.addFilter(fail)
    try:
        yield
    finally:
        _logger.removeFilter(fail)


@contextmanager
def failing_handler() -> Iterator[None]:
    """A handler of the root."""
    handler = Failing()
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


@contextmanager
def failing_factory() -> Iterator[None]:
    """A factory of records."""
    factory = logging.getLogRecordFactory()
    logging.setLogRecordFactory(
        lambda name, *rest, **more: (fail if name == _logger.name else factory)(name, *rest, **more)
    )
    try:
        yield
    finally:
        logging.setLogRecordFactory(factory)


@pytest.fixture(autouse=True)
def _verbose() -> Iterator[None]:
    before = _logger.level
    _logger.setLevel(logging.DEBUG)
    yield
    _logger.setLevel(before)


@pytest.mark.parametrize("failing", [failing_filter, failing_handler, failing_factory])
def test_logging_that_fails_stops_nothing(
    database: TestDatabase, failing: Callable[[], Any], unlogged: list[str]
) -> None:
    """Failures, deaths and successes are recorded, once each, while every message fails."""
    with bench(database.url, TASKQUEUE_POLL_INTERVAL=0.1) as one:
        runs: list[str] = []

        @one.tasks.task(retry={"task_retry_limit": 0})
        def fails(number: int) -> None:
            runs.append(f"fails {number}")
            raise ValueError(number)

        @one.tasks.task
        def succeeds(number: int) -> None:
            runs.append(f"succeeds {number}")

        with failing():
            one.runtime.start()
            pairs = [(fails.enqueue(number), succeeds.enqueue(number)) for number in range(4)]
            for bad, good in pairs:
                assert bad.wait(30).state is State.DEAD
                assert good.wait(30).state is State.SUCCEEDED
            wait_until(lambda: "attempt 1: 204" in "".join(unlogged), what="successes are told")
            one.runtime.stop()
        assert sorted(runs) == sorted(
            f"{kind} {number}" for kind in ("fails", "succeeds") for number in range(4)
        )


def test_the_first_request_starts_the_dispatcher_though_its_line_cannot_be_logged(
    sqlite_database: TestDatabase, unlogged: list[str]
) -> None:
    """It is started in a thread, where there is no request for a filter to read."""
    with bench(sqlite_database.url, TESTING=False) as one:
        one.app.get("/")(lambda: "")
        with failing_filter():
            assert one.app.test_client().get("/").status_code == 200
            wait_until(lambda: one.runtime.scheduler, what="the dispatcher has started")
            wait_until(lambda: "slots" in "".join(unlogged), what="its line is printed")


def test_a_task_is_stored_once_though_the_warning_about_it_fails(
    sqlite_database: TestDatabase, unlogged: list[str]
) -> None:
    """Whoever adds it has no reason to add it again."""
    with bench(sqlite_database.url, TESTING=False) as one, failing_handler():
        task = one.tasks.add("/w")
        assert [found.id for found in one.tasks.find()] == [task.id]
        assert "no dispatcher is alive" in unlogged[-1]


def test_what_cannot_be_logged_is_printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, unlogged: list[str]
) -> None:
    """With the traceback the first time, unless nobody wants to know of logging that fails."""
    logger = get_logger("flask_taskqueue.test_printed")
    with failing_handler():
        logger.warning("%s of %d", "one", 2)
        logger.warning("another")
        printed = capsys.readouterr().err
        monkeypatch.setattr(logging, "raiseExceptions", False)
        logger.warning("a third")
    assert unlogged == ["one of 2", "another", "a third"]
    assert printed.count("Traceback") == printed.count("in emit") == 1
    assert [line for line in printed.splitlines() if line.startswith(logger.name)] == [
        f"{logger.name}: the app's logging failed (ConnectionError), so this was not logged: {what}"
        for what in ("one of 2", "another")
    ]
    assert capsys.readouterr().err == ""


def test_a_record_names_the_line_that_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Not the one that sees to it that nothing is raised."""
    get_logger().warning("here")
    (record,) = caplog.records
    assert (record.filename, record.name) == ("test_logging.py", "flask_taskqueue")


def test_all_of_the_package_logs_by_loggers_that_do_not_raise() -> None:
    """So no module can forget it."""
    package = Path(flask_taskqueue.__file__).parent
    assert [
        str(path.relative_to(package))
        for path in sorted(package.rglob("*.py"))
        if re.search(
            r"\bgetLogger\(|\blogging\.(debug|info|warning|error|exception|log)\(", path.read_text()
        )
    ] == ["process/logs.py"]


def test_a_drain_that_hangs_is_told(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By health while tasks are due, and by the dispatcher, which no longer counts as alive."""
    monkeypatch.setattr(dispatcher, "_STALLED", 0.2)
    with bench(database.url, TASKQUEUE_POLL_INTERVAL=0.1) as one:
        handler = one.tasks.worker("/w")(lambda: None)
        scheduler = one.runtime.start()
        hangs, release = threading.Event(), threading.Event()

        def hang(*_: object, **__: object) -> None:
            hangs.set()
            release.wait(60)

        def told() -> str:
            return one.app.test_client().get("/taskqueue/health/dispatcher").text

        with monkeypatch.context() as patch:
            patch.setattr(scheduler.dispatcher, "_observe", hang)
            handler.add().wait(30)
            assert hangs.wait(30)
            wait_until(lambda: scheduler.dispatcher.stalled_for, what="it is noticed")
            assert "has not looked for tasks" not in told()  # nothing is due
            waiting = handler.add()
            wait_until(lambda: "has not looked for tasks" in told(), what="health says so")
            (before,) = one.tasks.dispatchers()
            scheduler._beat()
            assert one.tasks.dispatchers() == [before]
            assert "this dispatcher has not looked for tasks" in caplog.text
            release.set()
        assert waiting.wait(30).state is State.SUCCEEDED
        wait_until(lambda: "has not looked" not in told(), what="health says that all is well")

        def is_alive_again() -> bool:
            scheduler._beat()
            (after,) = one.tasks.dispatchers()
            return after.seen_at > before.seen_at

        wait_until(is_alive_again, what="it counts as alive")
        one.runtime.stop()
        assert scheduler.dispatcher.stalled_for is None
