"""Tracebacks that the process writes which served an attempt over HTTP, on each database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from flask_taskqueue.core.delivery.outcome import Outcome
from flask_taskqueue.core.states import Record, State
from flask_taskqueue.store import AttemptResult, Store
from flask_taskqueue.store.database.transaction import close_engine
from tests.databases import TestDatabase
from tests.store.conftest import add, claim, open_store

FAILURE = Outcome(State.SCHEDULED, "failure", 500, "boom", delay=0.0)
DEATH = Outcome(State.DEAD, "failure", 500, "boom")
SUCCESS = Outcome(State.SUCCEEDED, "success", 204)


def end(store: Store, record: Record, outcome: Outcome) -> None:
    """Record how an attempt ended."""
    result = AttemptResult(record, outcome, 0.1)
    store.transact(lambda connection: store.recording.record(connection, [result]))


def shown(store: Store, record: Record) -> list[str | None]:
    """The tracebacks of a task's attempts that have ended."""
    with store.reading() as connection:
        rows = store.finished_tasks.attempts(connection, record.id)
        return [row.traceback for row in rows]


def stored(store: Store) -> int:
    """The number of stored tracebacks."""
    with store.reading() as connection:
        count = sa.select(sa.func.count()).select_from(store.database.tables.traceback)
        return connection.scalar(count) or 0


def test_each_attempt_has_its_own(store: Store) -> None:
    """Whatever is written of the same delivery again changes nothing."""
    add(store)
    for text in ("first", "second"):
        (record,) = claim(store)
        assert store.tracebacks.keep(record, text)
        assert not store.tracebacks.keep(record, "again")
        end(store, record, FAILURE)
    assert shown(store, record) == ["first", "second"]


def test_only_the_lease_may_write_it(store: Store) -> None:
    """Not one that has ended, nor one that another has taken the place of, though the attempt
    has the same number.
    """
    add(store)
    (given_back,) = claim(store)
    pair = given_back.lease
    store.transact(lambda connection: store.leases.release(connection, [pair]))
    assert not store.tracebacks.keep(given_back, "late")
    (record,) = claim(store)
    assert record.attempts == given_back.attempts
    assert not store.tracebacks.keep(given_back, "late")
    end(store, record, DEATH)
    assert not store.tracebacks.keep(record, "late")
    assert (shown(store, record), stored(store)) == ([None], 0)


def test_a_success_shows_none(store: Store) -> None:
    """Although the process that served it has written one."""
    add(store)
    (record,) = claim(store)
    assert store.tracebacks.keep(record, "of a teardown function")
    end(store, record, SUCCESS)
    assert shown(store, record) == [None]


@pytest.mark.parametrize("outcome", [FAILURE, DEATH])
def test_it_is_forgotten_with_its_attempt(store: Store, outcome: Outcome) -> None:
    """When newer attempts have taken its place in the log, or the task is forgotten."""
    add(store)
    short = Store(store.database, [], keep_attempts=1)
    (record,) = claim(store)
    store.tracebacks.keep(record, "first")
    end(short, record, outcome)
    assert stored(store) == 1
    if outcome is FAILURE:
        (record,) = claim(store)
        end(short, record, DEATH)
    else:
        store.transact(
            lambda connection: store.finished_tasks.prune(
                connection, keep_succeeded=0, keep_dead=0, tombstones={}
            )
        )
    assert stored(store) == 0


@contextmanager
def locked(database: TestDatabase, task: sa.Table, task_id: str) -> Iterator[None]:
    """A transaction of the app has locked a task: on SQLite, all there is."""
    engine = sa.create_engine(database.url)
    with engine.connect() as connection:
        if database.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(sa.select(task).where(task.c.id == task_id).with_for_update())
        yield
        connection.rollback()
    close_engine(engine)


def test_no_transaction_of_the_app_is_waited_for(database: TestDatabase) -> None:
    """On SQLite, where it has locked all there is, the traceback is given up after a second, and
    what uses the connection next waits as long as ever.
    """
    with open_store(database) as store:
        add(store)
        (record,) = claim(store)
        sent: list[str] = []
        sa.event.listen(
            store.database.engine, "before_cursor_execute", lambda *told: sent.append(told[2])
        )
        with locked(database, store.database.tables.task, record.id):
            kept = store.tracebacks.keep(record, "text")
        assert kept is (database.name != "sqlite")
        if database.name == "sqlite":
            before, begin, after = sent
            assert begin == "BEGIN IMMEDIATE"
            assert (before, after) == ("PRAGMA busy_timeout=1000", "PRAGMA busy_timeout=10000")
        end(store, record, DEATH)
        assert shown(store, record) == ["text" if kept else None]
