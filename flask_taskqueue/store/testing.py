"""The database of a test, with a clock that can be put forward."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import sqlalchemy as sa

from ..core.states import Lease, Record, State
from ..core.times import duration_micros
from .database.database import Database, Work
from .database.dialects import Dialect
from .database.dialects.claims import is_state, taken
from .database.tables import Tables
from .database.transaction import Wait
from .queues.pull_queues import is_pulled

Result = TypeVar("Result")


class DatabaseForTests(Database):
    """A database with one caller, whose thread also runs the handlers, and no dispatcher beside it.

    ``isolated`` returns the connection of a test that is going to be rolled back, or None. If there
    is one, everything happens on it, within savepoints.
    """

    def __init__(
        self,
        tables: Tables,
        source: sa.Engine | sa.URL,
        *,
        create: bool,
        isolated: Callable[[], sa.Connection | None],
    ) -> None:
        super().__init__(tables, source, create=create)
        self.in_memory = True  # that is, one connection at a time, and nobody to tell of new tasks
        self.dialect: Dialect = _later(self.dialect, lambda: self.ahead)
        self.ahead = 0
        """The microseconds by which the clock is put forward."""
        self._isolated = isolated

    @property
    def is_isolated(self) -> bool:
        """Whether the test is going to be rolled back."""
        return self._isolated() is not None

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        connection = self._isolated()
        if connection is None:
            with super().reading() as reader:
                yield reader
            return
        self.open()
        yield connection

    def now(self) -> int:
        """Return the clock's time, in microseconds since 1970."""
        with self.reading() as connection:
            return int(connection.execute(sa.select(self.dialect.now)).scalar_one())

    def clear(self) -> None:
        """Delete everything but the version of the tables."""

        def work(connection: sa.Connection) -> None:
            for table in self.tables.all:
                if table is not self.tables.schema:
                    connection.execute(sa.delete(table))

        self.transact(work)

    def take(self, task_id: str, *, lease_id: str, held_by: str, lease: float) -> Record | None:
        """Lease a scheduled task, whatever it waits for, but not one of a pull queue.

        Returns None if it leases none.
        """
        task = self.tables.task
        claim = (
            sa.update(task)
            .where(task.c.id == task_id, task.c.state == State.SCHEDULED.value)
            .where(~is_pulled(self.tables))
            .values(taken(task, self.dialect.now))
        )
        how = {"new_lease": lease_id, "holder": held_by, "period": duration_micros(lease)}

        def work(connection: sa.Connection) -> Record | None:
            if connection.execute(claim, how).rowcount != 1:
                return None
            return Record._make(
                connection.execute(sa.select(task).where(task.c.id == task_id)).one()
            )

        return self.transact(work)

    def end_lease(self, lease: Lease) -> None:
        """Let a lease run out now, also that of a task with a unique key."""
        task = self.tables.task
        mine = (task.c.id == lease[0], task.c.lease_id == lease[1], is_state(task, State.LEASED))
        ended = sa.update(task).where(*mine).values(due_at=self.dialect.now)
        self.transact(lambda connection: connection.execute(ended))

    def _run(
        self,
        work: Work[Result],
        tries: int,
        wait: Wait = Wait.PATIENTLY,
        done: Work[Result | None] = lambda _: None,
    ) -> Result:
        connection = self._isolated()
        if connection is None:
            return super()._run(work, tries, wait, done)
        with connection.begin_nested():
            return work(connection)

    def _read(self, work: Work[Result], engine: sa.Engine) -> Result:
        connection = self._isolated()
        if connection is None:
            return super()._read(work, engine)
        with connection.begin_nested():
            return work(connection)


def _later(dialect: Dialect, ahead: Callable[[], int]) -> Dialect:
    """Return the same dialect with a clock that is ahead by a number of microseconds."""
    kind: type[Dialect] = type(dialect)

    class Later(kind):  # type: ignore[valid-type, misc]
        @property
        def now(self) -> sa.ColumnElement[int]:
            clock: sa.ColumnElement[int] = super().now
            return clock + sa.bindparam("ahead", callable_=ahead, type_=sa.BigInteger)

    return Later()
