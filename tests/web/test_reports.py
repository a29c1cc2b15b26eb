"""An exception is reported once, whoever looks: Flask's signal, the application's log and the
extension's own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk
from flask import got_request_exception
from sentry_sdk.envelope import Envelope
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.flask import FlaskIntegration
from sentry_sdk.integrations.logging import LoggingIntegration
from sentry_sdk.transport import Transport

from flask_taskqueue import DeadlineExceeded, PermanentFailure, State
from flask_taskqueue.engine import in_flight
from tests.apps import Bench, bench, served
from tests.databases import TestDatabase
from tests.waiting import wait_until

PLACES = ("handler", "async handler", "transactional handler", "before_request", "teardown_request")


class Tracker(Transport):
    """What Sentry's SDK would send to its server."""

    def __init__(self) -> None:
        super().__init__()
        self.reports: list[str] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        """An event, or something else."""
        event: Any = envelope.get_event()
        if event is not None:
            errors = event.get("exception", {}).get("values", [])
            self.reports.append(
                f"{errors[-1]['type']}({errors[-1]['value']!r})"
                if errors
                else event["logentry"]["formatted"]
            )


@pytest.fixture
def tracker() -> Iterator[Tracker]:
    """Sentry as it is by default in a Flask app, as far as it reports."""
    one = Tracker()
    integrations = [FlaskIntegration(), LoggingIntegration(), DedupeIntegration()]
    sentry_sdk.init(
        "https://key@sentry.invalid/1",
        transport=one,
        integrations=integrations,
        default_integrations=False,
        auto_enabling_integrations=False,
    )
    yield one
    sentry_sdk.get_client().close()
    sentry_sdk.get_global_scope().set_client(None)


def deaths(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """What was logged of tasks that gave up."""
    return [record for record in caplog.records if ", dead: " in record.getMessage()]


def fail(*_: object) -> None:
    """Raise what nobody expects."""
    raise RuntimeError("boom")


@pytest.mark.parametrize("transport", ["wsgi", "http"])
@pytest.mark.parametrize("propagates", [True, False])
@pytest.mark.parametrize("place", PLACES)
def test_an_exception_is_reported_once(
    sqlite_database: TestDatabase,
    tracker: Tracker,
    caplog: pytest.LogCaptureFixture,
    place: str,
    propagates: bool,
    transport: str,
) -> None:
    """At each attempt, and not again when its task is dead, which is an error of the log all
    the same.
    """
    with bench(sqlite_database.url, PROPAGATE_EXCEPTIONS=propagates) as one:
        retry = {"task_retry_limit": 1, "min_backoff_seconds": 0}
        if place == "async handler":

            @one.tasks.worker("/w", retry=retry)
            async def handler() -> None:
                fail()
        else:
            one.tasks.worker("/w", retry=retry, transactional="transactional" in place)(
                (lambda: fail()) if "handler" in place else lambda: None
            )
        if "request" in place:
            getattr(one.app, place)(fail)
        task = one.tasks.add("/w")
        with served(one.app) as url:
            options: Any = {"transport": "http", "base_url": url} if transport == "http" else {}
            for _ in range(2):
                one.runtime.drain(**options)
        assert one.tasks.get(task.id).state is State.DEAD
        assert tracker.reports == ["RuntimeError('boom')"] * 2
        assert [record.levelno for record in deaths(caplog)] == [logging.ERROR]


def test_what_is_no_reported_exception_is_an_error_of_the_log(
    on_sqlite: Bench, tracker: Tracker
) -> None:
    """The end of a task whose exception the application has handled itself, of one that failed
    for good, and of one without success.
    """
    retry = {"task_retry_limit": 0}
    on_sqlite.app.errorhandler(RuntimeError)(lambda _: ("handled", 500))
    on_sqlite.tasks.worker("/handled", endpoint="handled", retry=retry)(lambda: fail())
    on_sqlite.tasks.worker("/status", endpoint="status", retry=retry)(lambda: ("", 503))

    @on_sqlite.tasks.worker("/permanent")
    def permanent() -> None:
        raise PermanentFailure("no such user")

    for url in ("/handled", "/status", "/permanent"):
        on_sqlite.tasks.add(url)
        on_sqlite.tasks.drain()
        assert len(tracker.reports) == 1
        assert f"POST {url} attempt 1: " in tracker.reports.pop()
        assert not tracker.reports


@pytest.mark.parametrize("transport", ["wsgi", "http"])
def test_a_timeout_is_reported_once(
    sqlite_database: TestDatabase,
    tracker: Tracker,
    caplog: pytest.LogCaptureFixture,
    transport: str,
) -> None:
    """In process as the exception that ended the handler; over HTTP, where nothing of it was
    raised, as the end of its task.
    """
    over = threading.Event()
    with bench(sqlite_database.url, PROPAGATE_EXCEPTIONS=False) as one, served(one.app) as url:

        @one.tasks.worker("/w", deadline=0.3, retry={"task_retry_limit": 0})
        def handler() -> None:
            while not over.is_set():
                over.wait(0.01)

        runtime = one.runtime
        runtime.start(transport=transport, base_url=url)
        try:
            task = one.tasks.add("/w").wait(60)
            wait_until(lambda: deaths(caplog), what="the death is logged")
        finally:
            over.set()
            runtime.stop()
        assert task.last_reason == "timeout"
        (dead,) = deaths(caplog)
        assert dead.levelno == logging.ERROR
        assert "no reply within the deadline" in dead.getMessage()
        assert tracker.reports == (
            ["DeadlineExceeded('')"] if transport == "wsgi" else [dead.getMessage()]
        )


class Stuck:
    """A handler in a call that no deadline ends, until it is let go; then it raises."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def __call__(self, how: str) -> None:
        """Be the handler, or what else runs at its place."""
        try:
            self._lock.acquire()
        except DeadlineExceeded:
            if how == "the deadline":
                raise
        fail()

    def let_go(self) -> None:
        """Let it raise."""
        self._lock.release()


LEFT = pytest.mark.parametrize("how", ["the deadline", "an exception"])


def left_behind(caplog: pytest.LogCaptureFixture) -> bool:
    """Whether a thread was left behind."""
    return any("thread is left behind" in record.getMessage() for record in caplog.records)


@LEFT
@pytest.mark.parametrize("propagates", [True, False])
@pytest.mark.parametrize("place", ["handler", "before_request"])
def test_a_thread_that_was_left_behind_does_not_report_again(
    sqlite_database: TestDatabase,
    tracker: Tracker,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    propagates: bool,
    how: str,
) -> None:
    """The death of its task has been; what it raises is a warning of the log."""
    monkeypatch.setattr(in_flight, "STOP_PATIENCE", 0.1)
    stuck = Stuck()
    with bench(sqlite_database.url, PROPAGATE_EXCEPTIONS=propagates) as one:

        @one.tasks.worker("/w", deadline=0.3, retry={"task_retry_limit": 0})
        def handler() -> None:
            if place == "handler":
                stuck(how)

        if place == "before_request":
            one.app.before_request(lambda: stuck(how))
        runtime = one.runtime
        runtime.start()
        try:
            task = one.tasks.add("/w").wait(60)
            wait_until(lambda: deaths(caplog), what="the death is logged")
            stuck.let_go()
            wait_until(lambda: runtime.scheduler.dispatcher.stuck == 0, what="its thread ends")
        finally:
            runtime.stop(0)
        assert task.last_reason == "timeout"
        (dead,) = deaths(caplog)
        assert tracker.reports == [dead.getMessage()]
        late = [record for record in caplog.records if "was reported" in record.getMessage()]
        assert [record.levelno for record in late] == [logging.WARNING]


@LEFT
def test_a_thread_that_was_left_behind_reports_what_nobody_has(
    sqlite_database: TestDatabase,
    tracker: Tracker,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    """When its task goes on with another attempt."""
    monkeypatch.setattr(in_flight, "STOP_PATIENCE", 0.1)
    stuck = Stuck()
    with bench(sqlite_database.url, PROPAGATE_EXCEPTIONS=False) as one:
        later = {"min_backoff_seconds": 3600}
        one.tasks.worker("/w", deadline=0.3, retry=later)(lambda: stuck(how))
        runtime = one.runtime
        runtime.start()
        try:
            task = one.tasks.add("/w")
            wait_until(lambda: one.tasks.get(task.id).last_reason, what="its attempt is recorded")
            stuck.let_go()
            wait_until(lambda: runtime.scheduler.dispatcher.stuck == 0, what="its thread ends")
        finally:
            runtime.stop(0)
        assert tracker.reports == [
            "DeadlineExceeded('')" if how == "the deadline" else "RuntimeError('boom')"
        ]


def test_a_thread_that_is_left_behind_while_it_reports_is_the_one_that_does(
    sqlite_database: TestDatabase,
    tracker: Tracker,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The death of its task is no error for Sentry then."""
    monkeypatch.setattr(in_flight, "STOP_PATIENCE", 0.1)
    lock = threading.Lock()
    lock.acquire()

    def slow(*_: object, **__: object) -> None:
        try:
            lock.acquire()
        except DeadlineExceeded:
            pass

    with bench(sqlite_database.url, PROPAGATE_EXCEPTIONS=False) as one:
        one.tasks.worker("/w", deadline=0.3, retry={"task_retry_limit": 0})(lambda: fail())
        got_request_exception.connect(slow, one.app)
        runtime = one.runtime
        runtime.start()
        try:
            one.tasks.add("/w").wait(60)
            wait_until(lambda: deaths(caplog), what="the death is logged")
            assert left_behind(caplog)
            lock.release()
            wait_until(lambda: runtime.scheduler.dispatcher.stuck == 0, what="its thread ends")
        finally:
            runtime.stop(0)
        assert tracker.reports == ["RuntimeError('boom')"]
