"""What PostgreSQL knows of a transaction: it has a number once it has written or locked a row."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from .functions import POSTGRESQL
from .statement import CHANGES, Statement
from .writes import ask

_NUMBER = "SELECT txid_current_if_assigned() IS NOT NULL"
_LOCKS = """
SELECT EXISTS (
    SELECT 1 FROM pg_locks AS held LEFT JOIN pg_class AS relation ON relation.oid = held.relation
    WHERE held.pid = pg_backend_pid() AND held.locktype = 'relation' AND held.granted AND (
        held.mode IN (
            'ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock',
            'AccessExclusiveLock'
        )
        OR held.mode = 'RowExclusiveLock' AND relation.relkind <> 'S'
            AND pg_stat_get_xact_tuples_inserted(held.relation)
            + pg_stat_get_xact_tuples_updated(held.relation)
            + pg_stat_get_xact_tuples_deleted(held.relation) > 0
    )
)
"""
"""The question whether a transaction holds what only a write leaves.

Its number may have another reason (a row lock, a savepoint that was rolled back).
"""

_COUNTED = """
SELECT sum(
    pg_stat_get_xact_tuples_inserted(oid)
    + pg_stat_get_xact_tuples_updated(oid)
    + pg_stat_get_xact_tuples_deleted(oid)
)
FROM pg_class WHERE relkind IN ('r', 'p', 'm', 't')
"""
"""The rows of all tables, the catalog's and those of rolled back savepoints too.

The server may also count those of earlier transactions, for seconds. So only the growth of this
number is significant.
"""

_WHICH = "SELECT txid_current()"
_IDLE, _FAILED = 0, 3
"""The states of a connection without a transaction, and in one that has failed, as libpq says."""

_NO_ROWS = {"move", "fetch"}


class PostgreSQLWrites:
    """The writes of a transaction, exactly, by one question to the transaction itself."""

    asks = True
    names = POSTGRESQL
    one_result = False
    mistakes_locks = True
    keeps_what_failed = keeps_locks = False

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def is_autocommit(self) -> bool:
        return bool(getattr(self._connection.connection.dbapi_connection, "autocommit", False))

    def count(self) -> int:
        return 0

    def note(self, *, locks: bool) -> Any:
        return ask(self._connection, _COUNTED) if locks else None

    def wrote(self, statement: Statement, cursor: Any, context: Any) -> bool | None:
        changes = statement.is_clear and statement.keyword in CHANGES
        counts = changes or (cursor.description is None and statement.keyword not in _NO_ROWS)
        return True if counts and cursor.rowcount > 0 else None

    def ends(self, statement: Statement) -> bool:
        return False

    def has_written(self, counted: int, noted: Any, *, locks: bool) -> bool:
        if not self.is_open():
            return False
        if noted is not None:
            return bool(ask(self._connection, _COUNTED) != noted)
        return not locks or self._says(_LOCKS)

    def is_unfinished(self) -> bool:
        return False

    def is_open(self) -> bool:
        return self._says(_NUMBER)

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
