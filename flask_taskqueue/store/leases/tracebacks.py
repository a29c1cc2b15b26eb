"""Tracebacks that are written by the processes that serve attempts over HTTP.

Such a process knows the traceback, and the dispatcher that waits for its reply knows how the
attempt ended. Each writes a row of its own under the key of the attempt, so neither has to wait for
the other, and whoever reads finds them together.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from ...core.errors import TaskQueueError, TransientError
from ...core.security.encryption import Encryption
from ...core.states import Record, State
from ...process.logs import get_logger
from ...process.tracing import untraced
from ..database.database import Database
from ..database.dialects.claims import is_state
from ..database.dialects.transactions import BRIEF
from ..database.prepared import Prepared

_logger = get_logger()

_LONGEST = 1.0
"""The most seconds that are waited for the turn to write, where writers take turns."""


class Tracebacks:
    """A writer of tracebacks, each in a short transaction of its own."""

    def __init__(self, database: Database, encryption: Encryption) -> None:
        self._database = database
        self._encrypt = encryption.encrypt_text
        task, table = database.tables.task, database.tables.traceback
        text = sa.bindparam("text", type_=sa.Text)
        rows = sa.select(task.c.id, task.c.attempts, task.c.lease_id, text).where(
            task.c.id == sa.bindparam("id"),
            task.c.lease_id == sa.bindparam("lease"),
            is_state(task, State.LEASED),
        )
        insert = database.dialect.insert_missing(table)
        self._insert = Prepared(
            insert.from_select([column.name for column in table.c], rows, include_defaults=False)
        )

    def keep(self, record: Record, text: str) -> bool:
        """Store the traceback of an attempt while its lease holds; return whether it was.

        It locks no task and waits for none, only briefly for another writer on SQLite: a traceback
        is not worth a reply that comes too late. What fails is logged and not tried again. A
        database in memory keeps none, because its only connection is the app's too.
        """
        if self._database.in_memory:
            return False
        values = {"id": record.id, "lease": record.lease_id, "text": self._encrypt(text)}
        try:
            return self._keep(values)
        except (TaskQueueError, sa.exc.SQLAlchemyError) as error:
            _logger.info("the traceback of task %s could not be stored: %s", record.id, error)
            return False

    def _keep(self, values: Mapping[str, Any]) -> bool:
        database = self._database
        if not database.write_lock.acquire(until=time.monotonic() + _LONGEST):
            raise TransientError("others took too long to write")
        try:
            brief = database.engine.execution_options(**{BRIEF: True})
            with untraced(), database.around(), brief.begin() as connection:
                return self._insert.execute(connection, values).rowcount == 1
        finally:
            database.write_lock.release()


def with_tracebacks(attempt: sa.Table, traceback: sa.Table) -> sa.Select[Any]:
    """Return the statement that reads attempts, each with its traceback, whoever has written it.

    An attempt that succeeded after all has none.
    """
    same = [mine == traceback.c[mine.name] for mine in attempt.primary_key.columns]
    text = sa.func.coalesce(attempt.c.traceback, traceback.c.traceback).label("traceback")
    columns = [text if column is attempt.c.traceback else column for column in attempt.c]
    return sa.select(*columns).select_from(
        attempt.outerjoin(traceback, sa.and_(*same, attempt.c.reason != "success"))
    )
