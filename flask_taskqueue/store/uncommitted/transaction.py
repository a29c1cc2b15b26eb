"""The uncommitted changes of the transaction of an app's connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import sqlalchemy as sa

from ..database.streams import note_stream, refuse_stream
from .changes import JoinedChange, Level
from .statement import Statement, StatementKind
from .writes import writes_of


class TrackedTransaction:
    """A tracker of the statements of one connection, from a transaction's start to its end.

    Whether a statement has written is known from its row count. If that does not tell, the database
    is asked: once, before a savepoint begins or when somebody wants to know.
    """

    def __init__(
        self,
        connection: sa.Connection,
        together: Sequence[TrackedTransaction] = (),
        owner: object = None,
        *,
        shared: bool,
    ) -> None:
        self.connection = connection
        self.owner = owner
        # One with execution options has its events.
        self.engine: sa.Engine = getattr(connection.engine, "_proxied", connection.engine)
        self.together = together
        self.has_made_way = False
        """Whether the transaction was ended and begun again after the app had read in it."""
        self.has_read = self._has_failed = self._is_undone = False
        self.thread: int = get_ident()
        self.may_commit = True
        """Whether the owner of the connection may commit it."""
        self._writes = writes_of(connection)
        self._shared = self._locks = shared
        self._doubted = False
        self._levels = [Level(self._writes.count())]
        self._due: list[Callable[[], object]] = []
        self.dropped: list[JoinedChange] = []
        """The queue's changes in savepoints that have ended without a commit.

        Whoever ended them on purpose takes them out.
        """
        # A transaction that the driver begins by itself is not there before the first change.
        self._begun_by_events = not self._writes.asks and self._writes.is_open()
        self._begun_by: str | None = None

    def has_written(self, *, ask: bool = True) -> bool:
        """Return whether the transaction holds changes that were not rolled back.

        Without ``ask``, only changes that are known without a question count.
        """
        if self.is_autocommit:
            return False
        if self._doubted or (ask and self._levels[-1].unknown):
            refuse_stream(self.connection)
        if any(level.written for level in self._levels):
            if (self._doubted or not self._writes.asks) and not self._writes.is_open():
                self.clear()
            self._doubted = False
        return any(level.written for level in self._levels) or (ask and self._resolve())

    @property
    def is_autocommit(self) -> bool:
        """Whether each statement is committed at once, so that nothing is held back."""
        return self._writes.is_autocommit()

    @property
    def in_savepoint(self) -> bool:
        """Whether a savepoint is open."""
        return len(self._levels) > 1

    @property
    def joined(self) -> list[JoinedChange]:
        """The queue's changes that would be committed now."""
        return [change for level in self._levels for change in level.joined]

    @property
    def is_undone(self) -> bool:
        """Whether the database has undone the queue's changes, because a statement failed.

        What follows on the connection may be another transaction, or be undone at its commit.
        """
        return self._is_undone or (
            self._has_failed and bool(self.joined) and not self._writes.is_open()
        )

    def join(self, joined: JoinedChange) -> None:
        """Note a change of the queue's that was made in the transaction."""
        self._levels[-1].written = True
        self._levels[-1].joined.append(joined)

    def end(self, *, committed: bool) -> None:
        """Note how the transaction ended; after a commit, its follow-up functions are due."""
        for change in self.joined if committed else ():
            change.committed()
            self._due += change.then
        self.dropped.clear()
        self._begin_anew()

    def clear(self) -> None:
        """Begin anew, because the connection's transaction ends now.

        The session knows what happened to the queue's changes.
        """
        self._begin_anew(self.joined)

    def take_due(self) -> list[Callable[[], object]]:
        """Return the functions due after a commit, each only once."""
        due, self._due = self._due, []
        return list(dict.fromkeys(due))

    def may_lock(self, file: str) -> bool:
        """Return whether the transaction may keep others from writing to this file."""
        return self._writes.may_lock(file)

    @contextmanager
    def making_way(self) -> Iterator[None]:
        """End the transaction, which must hold no changes, and begin it again afterwards.

        It begins again in the same way. The session does not notice: none of its objects expires.
        So what it changes afterwards must not be committed (`has_made_way`), because it may rest on
        what was read before.
        """
        must_begin = self._writes.let_go() and (self._begun_by_events or self._begun_by is not None)
        try:
            yield
        finally:
            begun_by = self._begun_by
            if must_begin:
                self._begin_again()
            stale = self.has_made_way or (must_begin and self.has_read)
            self.clear()
            self._begun_by, self.has_made_way = begun_by, stale

    def before(self, statement: Statement) -> None:
        """Prepare for a statement that is going to run."""
        level = self._levels[-1]
        if statement.kind is StatementKind.SAVEPOINT:
            self._resolve()
            level.noted = None
        elif statement.kind is StatementKind.UNKNOWN:
            if statement.defines or not self._writes.asks:
                self._resolve()
            self._note(level)
        elif statement.kind is StatementKind.CHANGE and self._writes.keeps_what_failed:
            self._note(level)  # several rows, of which one may fail

    def after(self, statement: Statement, cursor: Any, context: Any) -> None:
        """Note a statement that has run."""
        if statement.kind is StatementKind.READ:
            self._locks |= statement.locks
        elif statement.kind is StatementKind.CHANGE or statement.kind is StatementKind.UNKNOWN:
            self._changed(statement, cursor, context)
        elif statement.kind in (StatementKind.COMMIT, StatementKind.ROLLBACK):
            self.end(committed=statement.kind is StatementKind.COMMIT)
        elif statement.kind is StatementKind.BEGIN:
            self._end_if_implied(statement)
            self._begun_by = context.statement
        else:
            self._savepoint(statement)

    def streams(self, cursor: Any) -> None:
        """Note the cursor of a result that is read while its rows are used."""
        if self._writes.one_result:
            note_stream(self.connection, cursor)

    def failed(self, statement: Statement, *, many: bool) -> None:
        """Note a statement that has failed, and may have written or committed before.

        The database is asked when somebody wants to know, as after a statement whose words do not
        show what it does. ``many`` says that it ran once for each of several rows.
        """
        self._has_failed = True
        if self._writes.keeps_what_failed and not self._end_if_implied(statement):
            self._levels[-1].unknown |= many or statement.kind is StatementKind.UNKNOWN
            self._doubted = True
            self._is_undone |= bool(self.joined) and not self._writes.is_open()

    def _note(self, level: Level) -> None:
        if not (level.unknown or level.written):
            level.noted = self._writes.note(locks=self._locks)

    def _changed(self, statement: Statement, cursor: Any, context: Any) -> None:
        wrote = self._writes.wrote(statement, cursor, context)
        if self._end_if_implied(statement):
            return
        level = self._levels[-1]
        level.written |= bool(wrote)
        level.unknown |= wrote is None
        if statement.defines:
            self._resolve()
        self._locks |= statement.locks
        self._doubted |= statement.kind is StatementKind.UNKNOWN and cursor.description is None

    def _end_if_implied(self, statement: Statement) -> bool:
        if not self._writes.ends(statement):
            return False
        self.end(committed=True)
        return True

    def _resolve(self) -> bool:
        """Ask whether the innermost level has written, if its statements do not show it."""
        level = self._levels[-1]
        if not level.written and (
            level.unknown or self._writes.count() != level.counted
        ):  # also by the driver's own cursors
            level.written = self._writes.has_written(level.counted, level.noted, locks=self._locks)
            level.unknown, level.noted = False, None
        return level.written

    def _begin_again(self) -> None:
        try:
            try:
                self._begin_as_before()
            except sa.exc.OperationalError:
                # A result that is still being read keeps what it reads from, which is too old to
                # be written to, as BEGIN IMMEDIATE asks; but reading on is possible.
                self.connection.exec_driver_sql("BEGIN")
        except BaseException as error:
            self.connection.invalidate(error)  # without a transaction it must not be used
            raise

    def _begin_as_before(self) -> None:
        if self._begun_by_events:
            self.connection.dispatch.begin(self.connection)
            self.connection.dialect.do_begin(self.connection.connection)
        else:
            self.connection.exec_driver_sql(self._begun_by or "")

    def _begin_anew(self, joined: Iterable[JoinedChange] = ()) -> None:
        self._levels = [Level(self._writes.count(), joined=list(joined))]
        self._begun_by = None
        self._locks = self._shared
        self._doubted = self.has_made_way = self.has_read = False
        self._has_failed = self._is_undone = False

    def _savepoint(self, statement: Statement) -> None:
        if statement.kind is StatementKind.SAVEPOINT:
            self._levels.append(Level(self._writes.count(), name=statement.name))
            return
        places = [
            place
            for place, level in enumerate(self._levels)
            if place and level.name == statement.name
        ]
        if not places:
            self.clear()  # the savepoint that is the session's whole transaction
            return
        ended = self._levels[places[-1] :]
        del self._levels[places[-1] :]
        if statement.kind is StatementKind.RELEASE:
            self._merge(ended)
            if not self._writes.asks and not self._writes.is_open():
                self.end(
                    committed=True
                )  # the outermost savepoint of SQLite, where nothing else began the transaction
            return
        self._locks = True
        self.dropped += [change for level in ended for change in level.joined]
        if not self._levels[-1].written:
            self._levels[-1].counted = self._writes.count()
        if not statement.name.startswith("sa_savepoint_"):  # SQLAlchemy does not reuse its own
            self._levels.append(Level(self._writes.count(), name=statement.name))

    def _merge(self, ended: list[Level]) -> None:
        below = self._levels[-1]
        for level in ended:
            below.written |= level.written
            below.unknown |= level.unknown
            below.noted = level.noted if below.noted is None else below.noted
            below.joined += level.joined
