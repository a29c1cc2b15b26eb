"""The database: its engine, its transactions."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import sqlalchemy as sa

from ..core.errors import TablesMissingError, TransientError
from .dialects import Dialect, dialect_of, is_in_memory
from .tables import Tables
from .write_lock import WriteLock, write_lock

Result = TypeVar("Result")
_TRIES = 6


class Database:
    """The engine and the tables, with transactions that are tried again when they fail in passing.

    An in-memory database is one connection; it is shared with the application's engine. Any other
    gets an engine of the queue's own, so that its settings (isolation, write-ahead log, disk
    synchronisation) neither depend on the application's nor change them.
    """

    def __init__(self, tables: Tables, source: sa.Engine | sa.URL, connect_args: dict[str, object], *, create: bool) -> None:
        url = source.url if isinstance(source, sa.Engine) else source
        self.tables = tables
        self.dialect: Dialect = dialect_of(url)
        self.in_memory = is_in_memory(url)
        self.own_engine = not (self.in_memory and isinstance(source, sa.Engine))
        self.engine = source if isinstance(source, sa.Engine) and self.in_memory else self.dialect.create_engine(url, connect_args)
        self._reading = self.engine.execution_options(taskqueue_reading=True)
        self.write_lock = write_lock(url, self.in_memory)
        self._create = create
        self._ready = False
        self._opening = threading.Lock()

    def transact(self, work: Callable[[sa.Connection], Result], *, tries: int = _TRIES) -> Result:
        """Run ``work`` in a transaction and commit; run it again, whole, when it fails in passing.

        So ``work`` may run several times; it must do nothing but SQL. Raises `TransientError`
        when it keeps failing, `TablesMissingError` when the tables are not there.
        """
        self.open()
        for attempt in range(1, tries + 1):
            try:
                with self.write_lock, self.engine.begin() as connection:
                    return work(connection)
            except sa.exc.DBAPIError as error:
                self._raise_if_final(error, attempt == tries)
            time.sleep(random.uniform(0.2, 1) * min(0.01 * 2**attempt, 0.5))
        raise AssertionError("unreachable")

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection to read from, in a transaction that takes no write lock."""
        self.open()
        try:
            with self._reading.begin() as connection:
                yield connection
        except sa.exc.DBAPIError as error:
            self._raise_if_final(error, True)

    def open(self) -> None:
        """See once that the tables are there, and create them where that is allowed."""
        if self._ready:
            return
        with self._opening:
            if not self._ready:
                self._find_tables()
                self._ready = True

    def create_tables(self) -> list[str]:
        """Create the tables that are missing, and return their names."""
        missing = self._missing()
        try:
            self.tables.task.metadata.create_all(self.engine, tables=self.tables.all)
        except sa.exc.DBAPIError:
            if self._missing():  # somebody else did not create them meanwhile
                raise
        return missing

    def reset(self) -> None:
        """Forget every connection without closing it: after a fork they are the parent's."""
        self._opening = threading.Lock()
        if isinstance(self.write_lock, WriteLock):
            self.write_lock.reset()
        if self.own_engine:
            self.engine.dispose(close=False)

    def close(self) -> None:
        """Close every connection of the queue's own engine."""
        if self.own_engine:
            self.engine.dispose()

    def _missing(self) -> list[str]:
        inspector = sa.inspect(self._reading)
        return [table.name for table in self.tables.all if not inspector.has_table(table.name)]

    def _find_tables(self) -> None:
        try:
            missing = self._missing()
            if missing and self._create:
                self.create_tables()
                missing = []
        except sa.exc.DBAPIError as error:
            raise TransientError(f"the database cannot be reached: {type(error.orig).__name__}") from error
        if missing:
            raise TablesMissingError(
                f"the database has no table {missing[0]}; create it with: flask taskqueue init-db "
                "(or db.create_all(), or flask db migrate and flask db upgrade)"
            )

    def _raise_if_final(self, error: sa.exc.DBAPIError, last: bool) -> None:
        if self.dialect.is_missing_table(error):
            self._ready = False
            self.open()
        elif not (error.connection_invalidated or self.dialect.is_transient(error)):
            raise error
        if last:
            raise TransientError(f"the database keeps refusing: {type(error.orig).__name__}") from error
