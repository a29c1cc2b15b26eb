"""The database: its engine and its transactions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import cached_property, partial
from typing import TypeVar

import sqlalchemy as sa

from ...core.diagnosis.facts import Finding
from ...core.errors import ConfigurationError, TransientError
from ...process.interrupts import shielded
from ...process.tracing import untraced
from .dialects import Dialect, dialect_of, is_in_memory
from .dialects.unreadable_texts import UnreadableTextError, make_readable, strictly
from .schema import CURRENT, Schema, SchemaChange, SchemaVersion
from .streams import refuse_stream
from .tables import Tables
from .transaction import (
    AUTOCOMMIT,
    CROWDED,
    RetriedTransaction,
    Wait,
    close_engine,
    in_callers_transaction,
    refuse_unfit_engine,
    unreachable,
)
from .write_lock import NoWriteTurns, WriteLock, WriteTurn

Result = TypeVar("Result")
Work = Callable[[sa.Connection], Result]
TRIES = 6


class Database:
    """The engine and the tables, with transactions that are retried after temporary failures.

    An in-memory database is one connection; it is shared with the app's engine. Any other database
    gets an engine of the queue's own, which connects as the app's does, so that its settings
    (isolation, write-ahead log, disk synchronisation) neither depend on the app's nor change them.
    """

    def __init__(self, tables: Tables, source: sa.Engine | sa.URL, *, create: bool) -> None:
        url = source.url if isinstance(source, sa.Engine) else source
        self.tables = tables
        self.dialect: Dialect = dialect_of(url)
        self._shared = source if isinstance(source, sa.Engine) else None
        if self._shared is not None:
            refuse_unfit_engine(self._shared, self.dialect)
        self.in_memory: bool = is_in_memory(url)
        self.own_engine: bool = not (self.in_memory and isinstance(source, sa.Engine))
        self.engine: sa.Engine = (
            self._shared if self._shared and self.in_memory else self.dialect.create_engine(source)
        )
        self._begin = self.engine.begin
        self._reading = self.engine.execution_options(taskqueue_reading=True)
        shared_file = self.dialect.locks_by_writing and not self.in_memory
        self.write_lock: WriteTurn = WriteLock(lambda: self.file) if shared_file else NoWriteTurns()
        self.schema: Schema = Schema(tables, self.dialect)
        self.stamp: SchemaVersion | None = None
        """The version that the tables had when they were last looked at."""
        self.around: Callable[[], AbstractContextManager[object]] = nullcontext
        """The context of all writing, where the caller's transaction makes way for one writer."""
        self._create = create
        self._ready = self._complete = self._must_recheck = False
        self._opening = threading.Lock()

    @cached_property
    def file(self) -> str:
        """Return the path of the file that holds the tables, as the database itself reports it.

        Raises `ConfigurationError` if there is none.
        """
        file = self._look(self.dialect.file)
        if not file:
            raise ConfigurationError(
                "the database's URL names a file, but connections lead to a database in "
                "memory: let the URL say so"
            )
        return file

    def transact(
        self,
        work: Work[Result],
        *,
        tries: int = TRIES,
        wait: Wait = Wait.PATIENTLY,
        done: Work[Result | None] = lambda _: None,
    ) -> Result:
        """Run ``work`` in a transaction and commit; run all of it again after a temporary failure.

        So ``work`` may run several times; it must do nothing but SQL, and may ask for another run
        by raising `MovedError`. If the answer to a commit was lost, ``done`` first looks for what
        ``work`` has already committed, for up to twenty seconds. Raises `TransientError` if it
        keeps failing, `LockedError` if it would have to ``wait`` longer than allowed for a lock of
        another transaction, and `TablesMissingError` if the tables are not there.
        """
        self.open()
        return self._run(work, tries, wait, done)

    def joined(self) -> AbstractContextManager[None]:
        """Raise `TransientError` in this block for failures that end the caller's transaction."""
        return in_callers_transaction(self.dialect)

    def read(self, work: Work[Result]) -> Result:
        """Run ``work``, which only reads, and all of it again after a temporary failure.

        Raises as `transact`. Nobody has to be told that a connection was closed while it lay idle.
        """
        self.open()
        return self._read(work, self._reading)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """Yield a connection to read from, in a transaction that takes no write lock.

        A temporary failure is raised as `TransientError`, for a caller that tries again itself.
        """
        self.open()
        try:
            with untraced(), self._reading.begin() as connection:
                yield connection
        except sa.exc.DBAPIError as error:
            self._counts(error, Wait.BRIEFLY, RetriedTransaction(1))
        except sa.exc.TimeoutError as error:
            raise TransientError(CROWDED) from error

    def open(self) -> None:
        """Check once that the tables are there and up to date.

        Missing parts are added if that is allowed.
        """
        if self._ready:
            return
        with self._opening:
            if not self._ready:
                self._find_tables()
                self._ready = True

    def open_within(self, connection: sa.Connection) -> None:
        """Check as `open` does, from within a transaction of the caller's own.

        If that transaction holds the only write lock, the tables become part of it. Raises
        `BadTransactionStateError` if its connection is busy with a streamed result.
        """
        refuse_stream(connection)
        if self._ready or not (self.dialect.locks_by_writing and self._create and self.missing()):
            self.open()
        else:
            self.schema.upgrade(connection)

    def missing(self) -> list[SchemaChange]:
        """Return the parts of the tables that the database lacks. Raises `TransientError`."""
        return self._look(self.schema.missing)

    def upgrade(self) -> list[SchemaChange]:
        """Add the missing parts to the tables, one process at a time, and return them.

        Raises `TablesOutdatedError` if the database does not allow it.
        """
        try:
            changes = self._run(self.schema.upgrade, TRIES)
            self.stamp = self._run(self.schema.stamp, TRIES)
        except (sa.exc.DBAPIError, TransientError) as error:
            self.schema.refuse_unchangeable(error)
            raise
        return changes

    def mark(self) -> None:
        """Store the version of the tables if they have been found complete."""
        self.open()
        if self._complete and (self.stamp is None or self.stamp.is_behind):
            self._run(self.schema.mark, TRIES)
            self.stamp, self._complete = CURRENT, False

    def refuse_unfit(self) -> None:
        """Raise if dispatchers of this version must not work on this database.

        Raises `TablesTooNewError`, or `ConfigurationError` if the database has no transactions.
        """
        self.refuse_if_too_new()
        if self._shared is not None and not self.in_memory:
            if self._look(self.dialect.commits_by_itself, self._shared):
                raise ConfigurationError(AUTOCOMMIT)
        with untraced():
            for finding in self.dialect.unsafe_tables(self.engine, self.tables.all):
                raise ConfigurationError(str(finding))

    def refuse_if_too_new(self) -> None:
        """Raise `TablesTooNewError` if dispatchers of this version must not use these tables."""
        self.open()
        if self.stamp is not None and self.stamp.is_too_new:
            raise self.stamp.too_new_error()

    def findings(self) -> list[Finding]:
        """Return what operators of dispatchers should know; an error means that none can run."""
        with untraced():
            found = self.dialect.findings(self.engine, self._shared)
            return found + self.dialect.unsafe_tables(self.engine, self.tables.all)

    def reset(self) -> None:
        """Forget every connection without closing it; after a fork they are the parent's."""
        self._opening = threading.Lock()
        self.write_lock.reset()
        if self.own_engine:
            self.engine.dispose(close=False)

    def close(self) -> None:
        """Close every connection of the queue's own engine, one in use when it is given back."""
        if self.own_engine:
            close_engine(self.engine)

    def _run(
        self,
        work: Work[Result],
        tries: int,
        wait: Wait = Wait.PATIENTLY,
        done: Work[Result | None] = lambda _: None,
    ) -> Result:
        def run_once(connection: sa.Connection, transaction: RetriedTransaction) -> Result:
            with self.dialect.at_once(connection) if wait is Wait.NOT else nullcontext():
                found = done(connection) if transaction.unsure else None
                return transaction.run(work, connection) if found is None else found

        def run_readable(transaction: RetriedTransaction) -> Result:
            with suppress(UnreadableTextError), self._writing() as connection, strictly(connection):
                return run_once(connection, transaction)
            with self._writing() as connection:
                make_readable(connection, self.tables.all)
                return run_once(connection, transaction)

        return self._retried(run_readable, tries, wait)

    @contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        with shielded(), untraced(), self.around(), self.write_lock, self._begin() as connection:
            yield connection

    def _retried(
        self, run_once: Callable[[RetriedTransaction], Result], tries: int, wait: Wait
    ) -> Result:
        transaction = RetriedTransaction(tries)
        counts = partial(self._counts, wait=wait, transaction=transaction)
        return transaction.repeat(partial(run_once, transaction), counts)

    def _counts(
        self, error: sa.exc.DBAPIError, wait: Wait, transaction: RetriedTransaction
    ) -> bool:
        """Return whether a failure uses up one of the tries; raise it if there is no other try."""
        if transaction.was_locked_out(error, wait, self.dialect):
            return False
        passes = self.dialect.is_transient(error)
        if self.dialect.is_missing(error) and self._ready:
            self._ready, self._must_recheck, passes = False, True, True
            self.open()
        transaction.raise_if_final(error, passes=passes)
        return True

    def _find_tables(self) -> None:
        self.stamp = self._read_stamp()
        if self.stamp is not None and not self.stamp.is_behind and not self._must_recheck:
            return
        missing = self.missing()
        if missing and self._create:
            self.upgrade()
        elif lacking := [change for change in missing if change.kind != "index"]:
            raise self.schema.lacking_error(lacking)
        self._complete, self._must_recheck = not missing, False

    def _read_stamp(self) -> SchemaVersion | None:
        try:
            return self._look(self.schema.stamp)
        except sa.exc.DBAPIError as error:
            if self.dialect.is_missing(error):
                return None
            raise

    def _look(self, work: Work[Result], engine: sa.Engine | None = None) -> Result:
        """Run ``work``, which looks before the tables are known to be there.

        It gets a connection of the queue's own engine unless another engine is given.
        """
        try:
            return self._read(work, engine or self._reading)
        except sa.exc.DBAPIError as error:
            if self.dialect.is_missing(error):
                raise
            raise unreachable(error) from error

    def _read(self, work: Work[Result], engine: sa.Engine) -> Result:
        def read_once(transaction: RetriedTransaction) -> Result:
            with untraced(), engine.begin() as connection:
                transaction.working = True
                return work(connection)

        return self._retried(read_once, TRIES, Wait.PATIENTLY)
