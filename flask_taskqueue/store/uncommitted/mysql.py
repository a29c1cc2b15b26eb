"""What MariaDB and MySQL know of a transaction: how many rows its session has changed."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ..database.streams import note_stream
from .functions import MYSQL
from .statement import Statement, StatementKind
from .writes import ask

_COMMITTING = set(
    "alter analyze cache check create drop flush grant lock optimize rename repair revoke "
    "truncate unlock".split()
)
_REMAINING = set(
    "select with values table insert update delete replace show explain describe desc do load "
    "use".split()
)
"""The first words of statements after which the transaction goes on, whatever they call."""
_MARK = "taskqueue_mark"
"""A savepoint, which ends with its transaction."""
_COUNTERS = ("Handler_delete", "Handler_update", "Handler_write")


class MySQLWrites:
    """The writes of a transaction, exact on MariaDB.

    MySQL counts rows of temporary tables among those that were written, so inserts are left out
    there.
    """

    asks = True
    names = MYSQL
    mistakes_locks = False
    keeps_what_failed = keeps_locks = True

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._counters = (
            _COUNTERS if getattr(connection.dialect, "is_mariadb", False) else _COUNTERS[:2]
        )

    def is_autocommit(self) -> bool:
        driver: Any = self._connection.connection.dbapi_connection
        return bool(getattr(driver, "get_autocommit", bool)())

    def count(self) -> int:
        return 0

    def note(self, *, locks: bool) -> Any:
        return self._handled()

    def wrote(self, statement: Statement, cursor: Any, context: Any) -> bool | None:
        if statement.kind is StatementKind.CHANGE:
            # A trigger may have written before a row failed that IGNORE leaves out.
            return cursor.rowcount != 0 or (None if statement.ignores else False)
        return True if cursor.description is None and cursor.rowcount > 0 else None

    def ends(self, statement: Statement) -> bool:
        if statement.kind is StatementKind.BEGIN:
            return True
        commits = statement.keyword in _COMMITTING and not statement.is_temporary
        executes = statement.keyword == "analyze" and statement.writes
        return commits and not executes and not self._in_transaction()

    def has_written(self, counted: int, noted: Any, *, locks: bool) -> bool:
        return noted is not None and self._handled() != noted and self.is_open()

    def streams(self, statement: Statement, cursor: Any) -> None:
        note_stream(self._connection, cursor)  # nothing else can run before all is read

    def is_unfinished(self) -> bool:
        return False

    def is_open(self) -> bool:
        return self._in_transaction() is not False

    def is_gone(self) -> bool:
        return False

    def is_aborted(self) -> bool:
        return False

    def may_end(self, statement: Statement) -> bool:
        return not statement.is_clear or statement.keyword not in _REMAINING

    def mark(self) -> Any:
        return ask(self._connection, f"SAVEPOINT {_MARK}")

    def holds(self, mark: Any) -> bool:
        return ask(self._connection, f"RELEASE SAVEPOINT {_MARK}") is not None

    def may_lock(self, file: str) -> bool:
        return False

    def let_go(self) -> bool:
        return False

    def _in_transaction(self) -> bool | None:
        answer = ask(self._connection, "SELECT @@in_transaction")
        return bool(answer[0][0]) if answer else None  # MySQL has no such variable

    def _handled(self) -> Any:
        names = ", ".join(f"'{name}'" for name in self._counters)
        return ask(self._connection, f"SHOW SESSION STATUS WHERE Variable_name IN ({names})")
