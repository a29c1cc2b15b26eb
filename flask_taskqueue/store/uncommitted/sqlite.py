"""What SQLite knows of a transaction: its driver counts rows, the file's header counts tables."""

from __future__ import annotations

import os
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine.cursor import FullyBufferedCursorFetchStrategy
from sqlalchemy.engine.interfaces import ExecuteStyle

from .functions import SQLITE
from .statement import Statement
from .writes import ask

_PROBE = "taskqueue_probe"
_HEADER = ("schema_version", "user_version", "application_id")


class SQLiteWrites:
    """The writes of a transaction, exact for rows without a question.

    Tables are compared with their state before the first statement that may change them.
    """

    asks = False
    names = SQLITE
    mistakes_locks = False
    keeps_what_failed = keeps_locks = False

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._driver: Any = connection.connection.dbapi_connection

    def is_autocommit(self) -> bool:
        # A recipe for transactions may begin one all the same.
        return not self.is_open() and (
            self._connection.get_execution_options().get("isolation_level") == "AUTOCOMMIT"
            or getattr(self._driver, "isolation_level", "") is None
            or getattr(self._driver, "autocommit", None) is True
        )

    def count(self) -> int:
        return int(self._driver.total_changes)

    def note(self, *, locks: bool) -> Any:
        return self._headers()

    def wrote(self, statement: Statement, cursor: Any, context: Any) -> bool | None:
        if (
            statement.writes
            and cursor.description is not None
            and context.execute_style is not ExecuteStyle.INSERTMANYVALUES
        ):
            # SQLite counts the changes of a statement with RETURNING only when its rows have been
            # fetched.
            context.cursor_fetch_strategy = FullyBufferedCursorFetchStrategy(
                cursor, initial_buffer=cursor.fetchall()
            )
        return None

    def ends(self, statement: Statement) -> bool:
        return False

    def has_written(self, counted: int, noted: Any, *, locks: bool) -> bool:
        if not self.is_open():
            return False
        return (
            self.count() != counted
            or (noted is not None and self._headers() != noted)
            or self.is_unfinished()
        )

    def streams(self, statement: Statement, cursor: Any) -> None:
        pass  # what it writes is counted

    def is_unfinished(self) -> bool:
        # No savepoint begins while a statement writes, such as one of a driver's own cursor with
        # RETURNING whose rows are not all fetched.
        return self.is_open() and (
            ask(self._connection, f"SAVEPOINT {_PROBE}") is None
            or ask(self._connection, f"RELEASE SAVEPOINT {_PROBE}") is None
        )

    def is_open(self) -> bool:
        return bool(self._driver.in_transaction)

    def is_gone(self) -> bool:
        return not self.is_open()

    def is_aborted(self) -> bool:
        return False

    def may_end(self, statement: Statement) -> bool:
        return False  # whatever ended it, `is_gone` tells

    def mark(self) -> Any:
        return None

    def holds(self, mark: Any) -> bool:
        return self.is_open()

    def may_lock(self, file: str) -> bool:
        return self.is_open() and file in self._files()

    def let_go(self) -> bool:
        # If the app has written something that SQLite does not count, it must not be undone.
        self._driver.commit()
        return not self.is_open()

    def _files(self) -> set[str]:
        """Return the files that the connection has open, including those that it has attached."""
        return {
            os.path.realpath(row[2])
            for row in ask(self._connection, "PRAGMA database_list") or ()
            if row[2]
        }

    def _headers(self) -> Any:
        names = {
            row[1].replace('"', '""') for row in ask(self._connection, "PRAGMA database_list") or ()
        } | {"temp"}
        return [
            ask(self._connection, f'PRAGMA "{name}".{field}')
            for name in sorted(names)
            for field in _HEADER
        ]
