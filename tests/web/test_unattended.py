"""What is added where no dispatcher is alive is told of."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.apps import Bench, bench
from tests.databases import TestDatabase


@pytest.fixture
def alone(database: TestDatabase) -> Iterator[Bench]:
    """An application on each database that is not under test, in a process that serves nothing."""
    with bench(database.url, TESTING=False) as one:
        yield one


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was said about it."""
    return [
        record.getMessage()
        for record in caplog.records
        if "no dispatcher is alive" in record.getMessage() and record.levelno == logging.WARNING
    ]


def test_the_first_task_that_nobody_sees_to_is_told_of(
    alone: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """By its name, with what to do, once."""
    task = alone.tasks.add("/w")
    (said,) = warnings(caplog)
    assert task.id in said
    assert "flask taskqueue run" in said
    alone.tasks.add("/w")
    alone.tasks.add_many([])
    assert len(warnings(caplog)) == 1


def test_it_is_told_of_after_the_commit_of_what_it_is_part_of(
    alone: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """Not before, and not if it is rolled back."""
    counter = alone.db.session.get(alone.Counter, 1)
    counter.count += 1
    alone.tasks.add("/w")
    alone.db.session.rollback()
    counter.count += 1
    task = alone.tasks.add("/w")
    assert warnings(caplog) == []
    alone.db.session.commit()
    (said,) = warnings(caplog)
    assert task.id in said


def test_nothing_is_said_where_a_dispatcher_is_alive(
    alone: Bench, database: TestDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """In whatever process; the database says so."""
    with bench(database.url) as other:
        other.runtime.start()
        try:
            with alone.app.app_context():
                alone.tasks.add("/w")
        finally:
            other.runtime.stop()
    assert warnings(caplog) == []


def test_nothing_is_said_where_the_process_drains(
    alone: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """It sees to its tasks itself."""
    alone.tasks.drain()
    alone.tasks.add("/w")
    assert warnings(caplog) == []


def test_nothing_is_said_under_test(on_sqlite: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """There nothing runs by itself."""
    on_sqlite.tasks.worker("/w")(lambda: None).add()
    assert warnings(caplog) == []


def test_a_bulk_of_tasks_is_told_of_by_its_number(
    sqlite_database: TestDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    """With ``off`` as well."""
    with bench(sqlite_database.url, TESTING=False, TASKQUEUE_DISPATCHER="off") as one:
        handler = one.tasks.worker("/w")(lambda: None)
        one.tasks.add_many(handler.spec() for _ in range(3))
    assert "3 tasks" in warnings(caplog)[0]
