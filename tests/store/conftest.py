"""A store on each database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue.core.names import lease_id, task_id
from flask_taskqueue.core.settings.queue import QueueSettings
from flask_taskqueue.core.states import Record
from flask_taskqueue.core.tasks.request import TaskRequest
from flask_taskqueue.core.tasks.spec import NewTask
from flask_taskqueue.store import NOT_KEPT, Database, DispatcherEntry, Store, StoredReply, Tables
from tests.databases import TestDatabase


@pytest.fixture
def store(database: TestDatabase) -> Iterator[Store]:
    """A store on each database, with its tables empty but for the queues default and mail."""
    with open_store(database) as one:
        yield one


@contextmanager
def open_store(database: TestDatabase) -> Iterator[Store]:
    """A store whose tables are made where they are missing, and empty but for the queues
    default and mail.
    """
    tables = Tables.join(sa.MetaData(), "taskqueue_")
    opened = Database(tables, sa.make_url(database.url), create=True)
    opened.open()
    store = Store(opened, [QueueSettings(name="default"), QueueSettings(name="mail")])
    store.ensure_queues()
    yield store
    opened.close()


def add(store: Store, **fields: Any) -> Record:
    """Store a task."""
    request = fields.pop("request", TaskRequest("POST", "/w", {}, b"body"))
    new = NewTask(id=task_id(), request=request, **fields)
    return store.transact(lambda connection: store.inserts.add(connection, new))[0]


def claim(store: Store, limit: int = 1, *, lease: float = 30, held_by: str = "me") -> list[Record]:
    """Lease due tasks, from all lanes in their order."""

    def work(connection: sa.Connection) -> list[Record]:
        taken: list[Record] = []
        lanes = store.claims.lanes(connection)
        for lane in lanes.due():
            limited = lane.queue in lanes.gates
            wanted = limit - len(taken)
            how = {
                "lease_id": lease_id(),
                "held_by": held_by,
                "lease": lease,
                "limited": limited,
                "slowdowns": dict(lanes.slowdowns),
            }
            taken += store.claims.claim(connection, lane, wanted, **how)
        return taken

    return store.transact(work)


def take_over(store: Store, *, lease: float = 30) -> Record | None:
    """Lease a task whose lease ran out."""

    def work(connection: sa.Connection) -> Record | None:
        for lane in store.claims.lanes(connection).expired():
            found = store.claims.takeovers.take_over(
                connection, lane, lease_id=lease_id(), held_by="other", lease=lease
            )
            if found is not None:
                return found
        return None

    return store.transact(work)


def get(store: Store, task: str) -> Record:
    """A task's row."""
    with store.reading() as connection:
        return store.search.get(connection, task)


def complete(
    store: Store, record: Record, status: int = 204, reply: StoredReply = NOT_KEPT
) -> bool | None:
    """What a transactional handler does: begin, and commit the end of its attempt."""

    def work(connection: sa.Connection) -> bool | None:
        mark = store.completions.begin(connection, record)
        return mark is not None and store.completions.complete(
            connection, record, status, mark, reply
        )

    return store.transact(work)


def sighting(
    dispatcher_id: str = "one", *, queues: tuple[str, ...] | None = None, in_flight: int = 0
) -> DispatcherEntry:
    """What a dispatcher says of itself."""
    return DispatcherEntry(
        id=dispatcher_id,
        host="web-1",
        pid=4711,
        version="1.0",
        transport="wsgi",
        queues=queues,
        concurrency=8,
        in_flight=in_flight,
    )


def see(store: Store, seen: DispatcherEntry) -> None:
    """A dispatcher says that it is there."""
    store.transact(lambda connection: store.dispatchers.see(connection, seen))
