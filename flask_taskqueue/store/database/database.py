"""The database: its engine, its transactions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import Enum, auto
from functools import cached_property, partial
from typing import TypeVar

import sqlalchemy as sa

from ...core.diagnosis.finding import Finding
from ...core.errors import (
    ConfigurationError,
    TablesMissingError,
    TablesOutdatedError,
    TablesTooNewError,
    TransientError,
)
from ...process.interrupts import shielded
from .dialects import Dialect, dialect_of, is_in_memory
from .refusals import LockedError, MovedError
from .schema import CURRENT, Schema, SchemaChange, SchemaVersion
from .tables import Tables
from .transaction import RetriedTransaction
from .write_lock import NoTurns, Turn, WriteLock

Result = TypeVar("Result")
Work = Callable[[sa.Connection], Result]
_TRIES = 6
_LOCK_PATIENCE = 20.0
"""Seconds that a transaction waits, in turns, for what another one has locked."""
_AUTOCOMMIT = (
    "the application's engine commits each statement at once (AUTOCOMMIT), so that neither a "
    "task and the rows it needs, nor a handler's "
    "changes and the end of its task, can be committed together: remove it from "
    "SQLALCHEMY_ENGINE_OPTIONS (or the bind's options), or give "
    "the queue a database of its own with TASKQUEUE_DATABASE_URI"
)
_IN_USE = (
    "another transaction, of the application perhaps, has locked what this one was to change, "
    "and keeps it"
)
_CROWDED = "no connection to the database became free: all that the pool may have are in use"
_UNSURE = "; the answer to a commit was lost, so that what was asked for may have been done"


class Wait(Enum):
    """What a transaction does about the locks of others."""

    PATIENTLY = auto()
    """It is tried again for twenty seconds, for whoever asked for it waits too."""
    BRIEFLY = auto()
    """It waits for a moment, as long as transactions like itself take, and is given up with
    `LockedError`.
    """
    NOT = auto()
    """It is given up with `LockedError` at once."""


class Database:
    """The engine and the tables, with transactions that are tried again when they fail in passing.

    An in-memory database is one connection; it is shared with the application's engine. Any other
    gets an engine of the queue's own, which connects as the application's does, so that its
    settings (isolation, write-ahead log, disk synchronisation) neither depend on the application's
    nor change them.
    """

    def __init__(self, tables: Tables, source: sa.Engine | sa.URL, *, create: bool) -> None:
        url = source.url if isinstance(source, sa.Engine) else source
        self.tables = tables
        self.dialect: Dialect = dialect_of(url)
        refusal = self.dialect.refusal(source) if isinstance(source, sa.Engine) else None
        if refusal is not None:
            raise ConfigurationError(str(refusal))
        self.in_memory = is_in_memory(url)
        self.own_engine = not (self.in_memory and isinstance(source, sa.Engine))
        self.engine = (
            source
            if isinstance(source, sa.Engine) and self.in_memory
            else self.dialect.create_engine(source)
        )
        self._reading = self.engine.execution_options(taskqueue_reading=True)
        shared_file = self.dialect.locks_by_writing and not self.in_memory
        self.write_lock: Turn = WriteLock(lambda: self.file) if shared_file else NoTurns()
        self.schema = Schema(tables, self.dialect)
        self.stamp: SchemaVersion | None = None
        """What the tables said of themselves when they were last looked at."""
        self.around: Callable[[], AbstractContextManager[object]] = nullcontext
        """What to be within while something is written: where there is one writer only, the
        caller's own transaction makes way.
        """
        self._create = create
        self._ready = self._complete = self._doubted = False
        self._shared = source if isinstance(source, sa.Engine) else None
        if self._shared is not None and "AUTOCOMMIT" in _levels(self._shared):
            raise ConfigurationError(_AUTOCOMMIT)
        self._opening = threading.Lock()

    @cached_property
    def file(self) -> str:
        """The path of the file that holds the tables, as the database itself says. Raises
        `ConfigurationError` if there is none.
        """
        with self._connected() as connection:
            file = self.dialect.file(connection)
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
        tries: int = _TRIES,
        wait: Wait = Wait.PATIENTLY,
        done: Work[Result | None] = lambda _: None,
    ) -> Result:
        """Run ``work`` in a transaction and commit; run it again, whole, when it fails in passing.

        So ``work`` may run several times; it must do nothing but SQL, and may ask for it by
        `MovedError`. Where the answer to a commit was lost, ``done`` first looks for what ``work``
        has committed already, for up to twenty seconds. Raises `TransientError` when it keeps
        failing, `LockedError` when it would have to ``wait`` longer than it may for what another
        transaction has locked, `TablesMissingError` when the tables are not there.
        """
        self.open()
        return self._run(work, tries, wait, done)

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Within this `TransientError` is raised for what fails in passing in a transaction of
        the caller's own, which is lost by it.
        """
        try:
            yield
        except sa.exc.DBAPIError as error:
            passes = (
                error.connection_invalidated
                or self.dialect.is_transient(error)
                or self.dialect.is_stale(error)
            )
            if passes or _is_unasked(error):
                raise TransientError(
                    "the session's transaction was refused, roll it back: "
                    f"{type(error.orig).__name__}"
                ) from error
            raise
        except sa.exc.TimeoutError as error:
            raise TransientError(_CROWDED) from error

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection to read from, in a transaction that takes no write lock."""
        self.open()
        try:
            with self._reading.begin() as connection:
                yield connection
        except sa.exc.DBAPIError as error:
            self._raise_if_final(error, True)
        except sa.exc.TimeoutError as error:
            raise TransientError(_CROWDED) from error

    def open(self) -> None:
        """See once that the tables are there and not of an earlier version; add what is missing
        where that is allowed.
        """
        if self._ready:
            return
        with self._opening:
            if not self._ready:
                self._find_tables()
                self._ready = True

    def open_within(self, connection: sa.Connection) -> None:
        """As `open`, for a transaction of the caller's own, which the tables become part of
        where it holds the only write lock.
        """
        if self._ready or not (self.dialect.locks_by_writing and self._create and self.missing()):
            self.open()
        else:
            self.schema.upgrade(connection)

    def missing(self) -> list[SchemaChange]:
        """What of the tables is not in the database. Raises `TransientError`."""
        with self._connected() as connection:
            return self.schema.missing(connection)

    def upgrade(self) -> list[SchemaChange]:
        """Add to the tables what is missing, one process at a time; what it was.

        Raises `TablesOutdatedError` when the database does not allow it.
        """
        try:
            changes = self._run(self.schema.upgrade, _TRIES)
            self.stamp = self._run(self.schema.stamp, _TRIES)
        except (sa.exc.DBAPIError, TransientError) as error:
            refusal = error if isinstance(error, sa.exc.DBAPIError) else error.__cause__
            if not isinstance(refusal, sa.exc.DBAPIError) or (
                refusal is not error and not self.dialect.is_read_only(refusal)
            ):
                raise
            raise TablesOutdatedError(
                f"the database does not let the tables be changed ({refusal.orig}); flask "
                "taskqueue upgrade --sql prints the statements"
            ) from error
        return changes

    def mark(self) -> None:
        """Let the tables, if they have been found complete, say of which version they are."""
        self.open()
        if self._complete and (self.stamp is None or self.stamp.is_behind):
            self._run(self.schema.mark, _TRIES)
            self.stamp, self._complete = CURRENT, False

    def refuse_unfit(self) -> None:
        """Raise where dispatchers of this version must not work: `TablesTooNewError`, or
        `ConfigurationError` without transactions.
        """
        self.refuse_if_too_new()
        if self._shared is not None and not self.in_memory:
            with self._connected(self._shared) as connection:
                if self.dialect.commits_by_itself(connection):
                    raise ConfigurationError(_AUTOCOMMIT)

    def refuse_if_too_new(self) -> None:
        """Raise `TablesTooNewError` if dispatchers of this version must not work with these
        tables.
        """
        self.open()
        if self.stamp is not None and self.stamp.is_too_new:
            raise TablesTooNewError(
                f"the tables are of version {self.stamp.version} and need dispatchers of "
                f"version {self.stamp.oldest}, "
                f"this is version {CURRENT.version}: run the newer Flask-TaskQueue"
            )

    def findings(self) -> list[Finding]:
        """What whoever runs dispatchers on this database should know; an error means that none
        can run.
        """
        return self.dialect.findings(self.engine, self._shared)

    def reset(self) -> None:
        """Forget every connection without closing it: after a fork they are the parent's."""
        self._opening = threading.Lock()
        self.write_lock.reset()
        if self.own_engine:
            self.engine.dispose(close=False)

    def close(self) -> None:
        """Close every connection of the queue's own engine."""
        if self.own_engine:
            self.engine.dispose()

    def _run(
        self,
        work: Work[Result],
        tries: int,
        wait: Wait = Wait.PATIENTLY,
        done: Work[Result | None] = lambda _: None,
    ) -> Result:
        course = RetriedTransaction(tries)
        while True:
            counted = True
            try:
                return self._run_once(
                    partial(course.run, work), wait, done if course.unsure else None
                )
            except sa.exc.DBAPIError as error:
                counted = self._counts(error, wait, course)
            except MovedError as error:
                if course.is_used_up:
                    raise TransientError("what the transaction looked at kept changing") from error
            except sa.exc.TimeoutError as error:
                raise TransientError(_CROWDED) from error
            course.pause(counted=counted)

    def _counts(self, error: sa.exc.DBAPIError, wait: Wait, course: RetriedTransaction) -> bool:
        """Whether a failure is one of the tries, of which there are few; raises if there is no
        other.
        """
        patient = wait is Wait.PATIENTLY and course.seconds <= _LOCK_PATIENCE
        if self.dialect.is_locked(error):
            if not patient:
                raise LockedError(_IN_USE) from error
            return False
        if patient and self.dialect.is_deadlock(error):
            return False
        self._raise_if_final(error, course.is_last(error), course.unsure)
        return True

    def _run_once(self, work: Work[Result], wait: Wait, done: Work[Result | None] | None) -> Result:
        with shielded(), self.around(), self.write_lock, self.engine.begin() as connection:
            with self.dialect.at_once(connection) if wait is Wait.NOT else nullcontext():
                found = None if done is None else done(connection)
                return work(connection) if found is None else found

    def _find_tables(self) -> None:
        self.stamp = self._read_stamp()
        if self.stamp is not None and not self.stamp.is_behind and not self._doubted:
            return
        missing = self.missing()
        if missing and self._create:
            self.upgrade()
        elif lacking := [change for change in missing if change.kind != "index"]:
            raise self._lack(lacking)
        self._complete, self._doubted = not missing, False

    def _read_stamp(self) -> SchemaVersion | None:
        try:
            with self._connected() as connection:
                return self.schema.stamp(connection)
        except sa.exc.DBAPIError as error:
            if self.dialect.is_missing(error):
                return None
            raise

    def _lack(self, lacking: Sequence[SchemaChange]) -> TablesMissingError:
        if [change.name for change in lacking] == [table.name for table in self.tables.all]:
            return TablesMissingError(
                f"the database has no table {self.tables.task.name}; create it with: flask "
                "taskqueue init-db "
                "(or db.create_all(), or flask db migrate and flask db upgrade)"
            )
        return TablesOutdatedError(
            f"the tables in the database are of an earlier version, {lacking[0]} is missing; "
            "run: flask taskqueue upgrade "
            "(or flask db migrate and flask db upgrade)"
        )

    @contextmanager
    def _connected(self, engine: sa.Engine | None = None) -> Iterator[sa.Connection]:
        """A connection to look with, before the tables are known to be there; of the queue's
        own engine unless another is given.
        """
        try:
            with (engine or self._reading).begin() as connection:
                yield connection
        except sa.exc.DBAPIError as error:
            if self.dialect.is_missing(error):
                raise
            raise TransientError(
                f"the database cannot be reached: {type(error.orig).__name__}"
            ) from error
        except sa.exc.TimeoutError as error:
            raise TransientError(_CROWDED) from error

    def _raise_if_final(self, error: sa.exc.DBAPIError, last: bool, unsure: bool = False) -> None:
        if self.dialect.is_missing(error) and self._ready:
            self._ready, self._doubted = False, True
            self.open()
        elif not (
            error.connection_invalidated
            or self.dialect.is_transient(error)
            or (unsure and _is_unasked(error))
        ):
            if _is_unasked(error):
                raise TransientError(
                    f"the database cannot be reached: {type(error.orig).__name__}"
                ) from error
            raise error
        if last:
            raise TransientError(
                f"the database keeps refusing: {type(error.orig).__name__}"
                + (_UNSURE if unsure else "")
            ) from error


def _is_unasked(error: sa.exc.DBAPIError) -> bool:
    """Whether the database was not even reached."""
    return error.statement is None and isinstance(error, sa.exc.OperationalError)


def _levels(engine: sa.Engine) -> Collection[object]:
    """The isolation levels that an engine was made with, as far as it tells without a
    connection.
    """
    return engine.get_execution_options().get("isolation_level"), getattr(
        engine.dialect, "_on_connect_isolation_level", None
    )
