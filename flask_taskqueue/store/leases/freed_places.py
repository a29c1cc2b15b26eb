"""Places freed by a transaction of the app, which are passed on once it is committed.

Such a transaction may be as long as the app likes, and may only see what existed when it began
(REPEATABLE READ). It would overlook tasks that have begun to wait for a key since then, and anyone
else who decides on the key, or counts in the batch, would have to wait for it. So it leaves a hold
that has already run out, and whoever finds that hold lets the waiting tasks go (see `Holds`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sqlalchemy as sa

from ...core.states import Record
from ..database.dialects import Dialect
from ..database.tables import Tables

_LEFT = "taskqueue_vacancies"


class FreedPlaces:
    """A record of the places that the app's transactions free.

    ``is_own`` says whether a connection is the queue's own.
    """

    def __init__(
        self, tables: Tables, dialect: Dialect, is_own: Callable[[sa.Connection], bool]
    ) -> None:
        self._insert = dialect.insert_missing(tables.hold)
        self._is_own = is_own
        self._sees_all = dialect.locks_by_writing

    def leave(self, connection: sa.Connection, vacated: Sequence[Record]) -> bool:
        """Leave the places of cancelled tasks for later if the transaction is the app's.

        Returns whether it is.
        """
        if self._sees_all or self._is_own(connection):
            return False
        columns = ("queue", "lock_key", "lock_limit", "batch_id")
        rows = [
            {
                "task_id": record.id,
                "lease_id": "",
                "held_until": 0,
                **{name: getattr(record, name) for name in columns},
            }
            for record in vacated
            if record.lock_key is not None or record.batch_id is not None
        ]
        if rows:
            connection.execute(self._insert, rows)
            connection.info[_LEFT] = True
        return True


def has_freed_places(connection: sa.Connection) -> bool:
    """Return whether places were freed since a connection was last asked this."""
    return connection.info.pop(_LEFT, False) is True
