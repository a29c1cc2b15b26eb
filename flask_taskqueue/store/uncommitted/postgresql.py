"""What PostgreSQL knows of a transaction: it has a number once it has written or locked a row."""

from __future__ import annotations

from typing import Any
from weakref import ReferenceType, ref

import sqlalchemy as sa

from .functions import POSTGRESQL
from .statement import CHANGES, Statement, StatementKind
from .writes import ask

_OPEN = """
SELECT txid_current_if_assigned() IS NOT NULL
    OR EXISTS (SELECT FROM pg_foreign_table) AND EXISTS (
        SELECT FROM pg_locks JOIN pg_foreign_table ON ftrelid = relation
        WHERE pid = pg_backend_pid() AND mode = 'RowExclusiveLock'
    )
"""
"""The question whether a transaction has written or locked a row.

What it writes in a foreign table gives it no number.
"""

_COUNTS = "SELECT current_setting('track_counts')::bool"
"""The question whether the server counts rows, without which nothing below proves anything."""

_COUNTED = """
    pg_stat_get_xact_tuples_inserted(pg_class.oid)
    + pg_stat_get_xact_tuples_updated(pg_class.oid)
    + pg_stat_get_xact_tuples_deleted(pg_class.oid)
"""
"""How many rows of a table were written, the catalog's and those of rolled back savepoints too.

The server may also count those of earlier transactions, for seconds. So only the growth of this
number is a proof.
"""

_ALL_COUNTED = f"""
SELECT pg_class.oid, {_COUNTED} FROM pg_class
WHERE relkind IN ('r', 'p', 'm', 't') AND {_COUNTED} > 0
UNION ALL
SELECT relation, 1 FROM pg_locks JOIN pg_foreign_table ON ftrelid = relation
WHERE pid = pg_backend_pid() AND mode = 'RowExclusiveLock'
ORDER BY 1
"""

_WROTE = f"""
WITH held AS (
    SELECT mode, relkind, {_COUNTED} AS counted
    FROM pg_locks LEFT JOIN pg_class ON pg_class.oid = relation
    WHERE pid = pg_backend_pid() AND locktype = 'relation' AND granted
)
SELECT NOT EXISTS (
    SELECT FROM held
    WHERE mode = 'RowShareLock' OR mode = 'RowExclusiveLock' AND relkind = 'S'
) OR EXISTS (
    SELECT FROM held
    WHERE mode IN (
        'ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
        'AccessExclusiveLock'
    )
    OR mode = 'RowExclusiveLock' AND (relkind = 'f' OR counted > 0)
) OR EXISTS (SELECT FROM pg_class WHERE oid < 16384 AND relkind = 'r' AND {_COUNTED} > 0)
"""
"""The question whether a transaction that has a number may have it for more than a row lock.

It has not if it holds such a lock or has used a sequence, holds no lock that only a write takes,
and no row of a table that it may have written to is counted, nor any of the catalog, whose locks
are let go at once.
"""

_WHICH = "SELECT txid_current()"
_IDLE, _FAILED = 0, 3
"""The states of a connection without a transaction, and in one that has failed, as libpq says."""

_NO_ROWS = {"move", "fetch"}


class PostgreSQLWrites:
    """The writes of a transaction, exactly, by one question to the transaction itself."""

    asks = True
    names = POSTGRESQL
    mistakes_locks = True
    keeps_what_failed = keeps_locks = False

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._streams: list[ReferenceType[Any]] = []

    def is_autocommit(self) -> bool:
        return bool(getattr(self._connection.connection.dbapi_connection, "autocommit", False))

    def count(self) -> int:
        return 0

    def note(self, *, locks: bool) -> Any:
        return ask(self._connection, _ALL_COUNTED) if locks else None

    def wrote(self, statement: Statement, cursor: Any, context: Any) -> bool | None:
        changes = statement.is_clear and statement.keyword in CHANGES
        counts = changes or (cursor.description is None and statement.keyword not in _NO_ROWS)
        return True if counts and cursor.rowcount > 0 else None

    def ends(self, statement: Statement) -> bool:
        return False

    def has_written(self, counted: int, noted: Any, *, locks: bool) -> bool:
        if not self.is_open():
            return False
        if not locks or not self._says(_COUNTS):
            return True
        if noted is not None:
            return bool(ask(self._connection, _ALL_COUNTED) != noted)
        return self._says(_WROTE)

    def streams(self, statement: Statement, cursor: Any) -> None:
        if statement.kind is StatementKind.UNKNOWN or not statement.locks:
            self._streams.append(ref(cursor))

    def is_unfinished(self) -> bool:
        # The server calls the functions of a row when it is fetched; SQLAlchemy closes the cursor
        # at the last one.
        found = ((stream, stream()) for stream in self._streams)
        self._streams = [
            stream for stream, cursor in found if cursor is not None and not cursor.closed
        ]
        return bool(self._streams)

    def is_open(self) -> bool:
        return self._says(_OPEN)

    def is_gone(self) -> bool:
        return self._status() == _IDLE

    def is_aborted(self) -> bool:
        return self._status() == _FAILED

    def may_end(self, statement: Statement) -> bool:
        return not statement.is_clear  # it may be several

    def mark(self) -> Any:
        return (ask(self._connection, _WHICH),)

    def holds(self, mark: Any) -> bool:
        return bool(mark == self.mark())

    def may_lock(self, file: str) -> bool:
        return False

    def let_go(self) -> bool:
        return False

    def _status(self) -> int | None:
        driver: Any = self._connection.connection.dbapi_connection
        status: int | None = getattr(getattr(driver, "info", None), "transaction_status", None)
        return status

    def _says(self, question: str) -> bool:
        answer = ask(self._connection, question)
        return bool(answer and answer[0][0])
