"""The uncommitted changes of the transaction of an app's connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import sqlalchemy as sa

from ..database.streams import refuse_stream
from .changes import JoinedChange, Level, Levels
from .start import Start
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
        self.is_within = self.has_read = self._is_undone = False
        self.thread: int = get_ident()
        self.may_commit, self.commits_alone = True, False
        """Whether the owner may commit it, and only if no other connection has changes."""
        self._writes = writes_of(connection)
        self._shared = self._locks = self._has_locked = shared
        self._doubted = self._must_look = False
        self._mark: Any = None
        self.levels = Levels(self._writes.count())
        self._due: list[Callable[[], object]] = []
        self.dropped: list[JoinedChange] = []
        """The queue's changes in savepoints that have ended without a commit.

        Whoever ended them on purpose takes them out.
        """
        # A transaction that the driver begins by itself is not there before the first change.
        self._start = Start(not self._writes.asks and self._writes.is_open())

    def has_written(self, *, ask: bool = True) -> bool:
        """Return whether the transaction holds changes that were not rolled back.

        Without ``ask``, only changes that are known without a question count.
        """
        if self.is_autocommit:
            return False
        if self._doubted or self._must_look or (ask and self.levels.innermost.unknown):
            refuse_stream(self.connection)
        self._notice_end()
        if self._look():
            return True  # nothing may be added to it
        return self.levels.have_written or (ask and self._resolve())

    @property
    def is_autocommit(self) -> bool:
        """Whether each statement is committed at once, so that nothing is held back."""
        return self._writes.is_autocommit()

    @property
    def in_savepoint(self) -> bool:
        """Whether a savepoint is open."""
        return len(self.levels) > 1

    @property
    def joined(self) -> list[JoinedChange]:
        """The queue's changes that would be committed now."""
        return self.levels.joined

    @property
    def is_undone(self) -> bool:
        """Whether the queue's changes are lost, or cannot be found, before the app's commit.

        What follows on the connection may be another transaction, or be undone at its commit.
        """
        if not self.levels.have_joined:
            return False
        self._notice_end()
        return self._writes.is_aborted() or self._look()

    def join(self, joined: JoinedChange) -> None:
        """Note a change of the queue's that was made in the transaction."""
        self.levels.innermost.written = True
        self.levels.innermost.joined.append(joined)

    def end(self, *, committed: bool) -> None:
        """Note how the transaction ended; after a commit, its follow-up functions are due."""
        for change in self.joined if committed else ():
            change.committed()
            self._due += change.then
        self.dropped.clear()
        self._begin_anew()

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
        must_begin = self._writes.let_go() and self._start.is_explicit
        try:
            yield
        finally:
            start = self._start
            if must_begin:
                start.repeat(self.connection)
            stale = self.has_made_way or (must_begin and self.has_read)
            self._begin_anew(self.joined)
            self._start, self.has_made_way = start, stale

    def before(self, statement: Statement, *, many: bool) -> None:
        """Prepare for a statement that is going to run, ``many`` times if it has several rows."""
        if self._mark is not None or (self.levels.have_joined and self._writes.is_gone()):
            self._notice_end()
        level = self.levels.innermost
        if self.levels.have_joined and self._may_end(statement):
            self._mark = self._writes.mark()
        if statement.kind is StatementKind.SAVEPOINT:
            self._resolve()
            level.noted = None
        elif self._mistakes_locks and statement.is_to_lock:
            self._resolve()
        if statement.kind is StatementKind.UNKNOWN:
            if statement.defines or not self._writes.asks:
                self._resolve()
            self._note(level, statement)
        elif statement.kind is StatementKind.CHANGE and (
            (self._mistakes_locks and self._has_locked)
            # one of its rows may fail
            or ((many or statement.ignores) and self._writes.keeps_what_failed)
        ):
            self._note(level, statement)

    def after(self, statement: Statement, cursor: Any, context: Any) -> None:
        """Note a statement that has run."""
        self._locks |= statement.locks or statement.is_to_lock
        self._has_locked |= statement.is_to_lock
        if statement.kind is StatementKind.CHANGE or statement.kind is StatementKind.UNKNOWN:
            self._changed(statement, cursor, context)
        elif statement.kind in (StatementKind.COMMIT, StatementKind.ROLLBACK):
            self.end(committed=statement.kind is StatementKind.COMMIT)
        elif statement.kind is StatementKind.BEGIN:
            self._end_if_implied(statement)
            self._start.by_statement = context.statement
        elif statement.kind is not StatementKind.READ:
            self._savepoint(statement)
        elif self._mistakes_locks and not self._locks:
            # Its words do not show what a view, an operator, a cast or ``row.function`` calls.
            self.levels.innermost.unknown = True

    def streams(self, statement: Statement, cursor: Any) -> None:
        """Note the cursor of a result that is read while its rows are used."""
        self._writes.streams(statement, cursor)

    def failed(self, statement: Statement, *, many: bool) -> None:
        """Note a statement that has failed, and may have written or committed before.

        The database is asked when somebody wants to know, as after a statement whose words do not
        show what it does. ``many`` says that it ran once for each of several rows.
        """
        if self._writes.keeps_what_failed and not self._end_if_implied(statement):
            self.levels.innermost.unknown |= many or statement.kind is StatementKind.UNKNOWN
            self._doubted = True
        if self.levels.have_joined:
            self._notice_end()

    @property
    def _mistakes_locks(self) -> bool:
        # In a transactional handler nobody asks, because all is part of its transaction.
        return self._writes.mistakes_locks and self.may_commit

    def _note(self, level: Level, statement: Statement) -> None:
        if not (level.unknown or self.levels.have_written):
            level.noted = self._writes.note(locks=self._locks or statement.is_to_lock)

    def _changed(self, statement: Statement, cursor: Any, context: Any) -> None:
        wrote = self._writes.wrote(statement, cursor, context)
        if self._end_if_implied(statement):
            return
        level = self.levels.innermost
        level.written |= bool(wrote)
        level.unknown |= wrote is None
        if statement.defines:
            self._resolve()
        self._doubted |= self._may_end(statement)

    def _may_end(self, statement: Statement) -> bool:
        return statement.kind is StatementKind.UNKNOWN and self._writes.may_end(statement)

    def _end_if_implied(self, statement: Statement) -> bool:
        if not self._writes.ends(statement):
            return False
        self.end(committed=True)
        return True

    def _resolve(self) -> bool:
        """Ask whether the innermost level has written, if its statements do not show it."""
        level = self.levels.innermost
        unfinished = not level.written and self._writes.is_unfinished()
        if not level.written and (
            level.unknown
            or unfinished
            or self._writes.count() != level.counted  # also by the driver's own cursors
        ):
            level.written = self._writes.has_written(level.counted, level.noted, locks=self._locks)
            level.unknown, level.noted = unfinished, level.noted if unfinished else None
        return level.written

    def _notice_end(self) -> None:
        """Begin anew if something has ended the transaction that did not say so."""
        if not self.levels.have_written:
            return
        if self._mark is not None:
            over = not self._writes.holds(self._mark)
        else:
            over = self._writes.is_gone() or (self._doubted and not self._writes.is_open())
        self._doubted, self._mark = False, None
        if over:
            self._begin_anew(self.joined)
            self._must_look = self.levels.have_joined
            # What was written after the end is not known.
            self.levels.innermost.written = self._writes.asks and self._writes.is_open()

    def _look(self) -> bool:
        """Return whether the queue's changes are undone, which is looked for if it is not known."""
        if self._must_look:
            self._must_look = False
            self._is_undone = any(change.is_lost() for change in self.joined)
        return self._is_undone

    def _begin_anew(self, joined: Iterable[JoinedChange] = ()) -> None:
        self.levels = Levels(self._writes.count(), joined)
        self._start, self._mark = Start(self._start.by_events), None
        self._locks = self._has_locked = self._shared
        self._doubted = self.has_made_way = self.has_read = False
        self._is_undone = self._must_look = False

    def _savepoint(self, statement: Statement) -> None:
        if statement.kind is StatementKind.SAVEPOINT:
            self.levels.begin(statement.name, self._writes.count())
        elif not (ended := self.levels.end(statement.name)):
            self._unseen_savepoint(statement)
        elif statement.kind is StatementKind.RELEASE:
            self._release(ended)
        else:
            self._roll_back(ended, statement.name)

    def _unseen_savepoint(self, statement: Statement) -> None:
        """Note the end of a driver's savepoint, or of a session within another's transaction."""
        if self._shared:
            self._begin_anew(self.joined)
        if statement.kind is StatementKind.ROLLBACK_TO:
            self._locks = self._has_locked = True
            self._must_look = self.levels.have_joined

    def _release(self, ended: Iterable[Level]) -> None:
        for level in ended:
            self.levels.innermost.absorb(level)
        if not self._writes.asks and not self._writes.is_open():
            # The outermost savepoint of SQLite, where nothing else began the transaction.
            self.end(committed=True)

    def _roll_back(self, ended: Sequence[Level], name: str) -> None:
        self._locks = self._has_locked = True
        for level in ended if self._writes.keeps_locks else ():
            self.levels.innermost.keep_as(level)
        self.dropped += [change for level in ended for change in level.joined]
        if not self.levels.innermost.written:
            self.levels.innermost.counted = self._writes.count()
        if not name.startswith("sa_savepoint_"):  # SQLAlchemy does not reuse its own
            self.levels.begin(name, self._writes.count())
