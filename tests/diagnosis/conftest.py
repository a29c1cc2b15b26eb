"""An application with queues of each kind, and hands to put its tasks into any situation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue import PermanentFailure, Task, Why
from flask_taskqueue.core.names import lease_id
from flask_taskqueue.store import DispatcherEntry, Store
from tests.apps import Bench, bench
from tests.databases import TestDatabase

QUEUES: dict[str, Any] = {
    "mail": {"rate": "1/h", "bucket_size": 1},
    "single": {"max_concurrent": 1},
    "stopped": {"rate": "0"},
}


@dataclass
class Ward:
    """An application whose tasks are looked at."""

    bench: Bench

    @property
    def store(self) -> Store:
        """The application's store."""
        store: Store = self.bench.store
        return store

    def add(self, what: str = "good", **options: Any) -> Task:
        """A task."""
        return self.bench.tasks.add("/work", {"what": what}, **options)

    def why(self, task: Task) -> Why:
        """What it waits for."""
        return self.bench.tasks.why(task)

    def see(self, identity: str = "one", **fields: Any) -> None:
        """Have a dispatcher say that it is there."""
        known = {
            "host": "web1",
            "pid": 4711,
            "version": "1",
            "transport": "wsgi",
            "queues": None,
            "concurrency": 8,
            "in_flight": 0,
        }
        sighting = DispatcherEntry(id=identity, **(known | fields))
        self.store.transact(lambda connection: self.store.dispatchers.see(connection, sighting))

    def pause(self, queue: str = "default", by: str | None = None) -> None:
        """Pause a queue, and ask no dispatcher: those that are said to be there do not answer."""
        self.store.transact(lambda connection: self.store.queues.pause(connection, queue, by))

    def stop(self, queue: str = "default") -> None:
        """Give a queue the rate 0, likewise."""
        self.store.transact(
            lambda connection: self.store.queues.configure(connection, queue, {"rate": 0})
        )

    def claim(
        self, queue: str = "default", most: int = 1, *, held_by: str = "one", lease: float = 30
    ) -> list[str]:
        """Lease tasks of a queue, within its limits; their ids."""

        def work(connection: sa.Connection) -> list[str]:
            lanes = self.store.claims.lanes(connection, [queue])
            how: dict[str, Any] = {
                "lease_id": lease_id(),
                "held_by": held_by,
                "lease": lease,
                "limited": queue in lanes.gates,
            }
            how["slowdowns"] = dict(lanes.slowdowns)
            return [
                record.id
                for lane in lanes.due()
                for record in self.store.claims.claim(connection, lane, most, **how)
            ]

        return self.store.transact(work)

    def change(self, task: Task, **values: Any) -> None:
        """Write into a task's row."""
        table = self.store.database.tables.task
        self.store.transact(
            lambda connection: connection.execute(
                sa.update(table).where(table.c.id == task.id).values(values)
            )
        )

    def now(self) -> int:
        """The database's clock."""
        with self.store.reading() as connection:
            return int(connection.scalar(sa.select(self.store.database.dialect.now)) or 0)


@pytest.fixture
def ward(database: TestDatabase) -> Iterator[Ward]:
    """An application on each database."""
    with opened(database, QUEUES) as one:
        yield one


@contextmanager
def opened(database: TestDatabase, queues: dict[str, Any]) -> Iterator[Ward]:
    """An application with these queues."""
    hosts = ["*.example"]
    with bench(database.url, TASKQUEUE_QUEUES=queues, TASKQUEUE_ALLOWED_HOSTS=hosts) as one:

        @one.tasks.worker("/work")
        def work(what: str) -> str:
            if what == "bad":
                raise PermanentFailure("the address does not exist")
            if what == "later":
                raise ValueError("not yet")
            return what

        one.store.ensure_queues()
        yield Ward(one)
