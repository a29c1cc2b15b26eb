"""An exception is reported once, whoever looks: Flask's signal, the application's log and the
extension's own.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest
from flask import got_request_exception

from flask_taskqueue import PermanentFailure, State
from tests.apps import Bench, bench, served
from tests.databases import TestDatabase

LAST: ContextVar[BaseException | None] = ContextVar("last", default=None)


PLACES = ("handler", "async handler", "transactional handler", "before_request", "teardown_request")


class Tracker(logging.Handler):
    """Collects what is wrong as Sentry's SDK does: Flask's signal, and errors of the log but
    for an exception just seen in its context.
    """

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.reports: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            self.reports.append(record.getMessage())
        else:
            self.see(None, error)

    def see(self, _app: Any, exception: BaseException, **_: Any) -> None:
        """An exception."""
        if LAST.get() is not exception:
            LAST.set(exception)
            self.reports.append(repr(exception))


@pytest.fixture
def tracker() -> Iterator[Tracker]:
    """Listens to all loggers."""
    one, root = Tracker(), logging.getLogger()
    root.addHandler(one)
    got_request_exception.connect(one.see)
    yield one
    root.removeHandler(one)
    got_request_exception.disconnect(one.see)


def fail(*_: object) -> None:
    """Raise what nobody expects."""
    raise RuntimeError("boom")


@pytest.mark.parametrize("transport", ["wsgi", "http"])
@pytest.mark.parametrize("propagates", [True, False])
@pytest.mark.parametrize("place", PLACES)
def test_an_exception_is_reported_once(
    sqlite_database: TestDatabase, tracker: Tracker, place: str, propagates: bool, transport: str
) -> None:
    """At each attempt, and not again when its task is dead."""
    if transport == "http" and (propagates or place in ("before_request", "teardown_request")):
        pytest.skip("the server answers for the application, and no view tells of it")
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
