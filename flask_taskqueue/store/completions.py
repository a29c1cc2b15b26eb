"""Completions: the end of a task in the transaction of its handler."""

from __future__ import annotations

import threading
from typing import Any

import sqlalchemy as sa

from ..core.record import Record
from ..core.states import State
from .dialects import Dialect
from .dialects.states import is_state
from .endings import Ending, Endings
from .prepared import Prepared
from .tables import Tables
from .tally import Tally


class Completions:
    """The statements of one database. Each takes the connection whose transaction it is part of."""

    def __init__(self, tables: Tables, dialect: Dialect, endings: Endings, tally: Tally) -> None:
        task = tables.task
        mine = (task.c.id == sa.bindparam("id"), task.c.lease_id == sa.bindparam("lease"), is_state(task, State.LEASED))
        success = sa.update(task).where(*mine).values(_success(task, dialect.now))
        self._endings = endings
        self._chained = dialect.chains_changes
        self._fence = Prepared(sa.update(task).where(*mine).values(held_by=task.c.held_by))
        self._complete = Prepared(_counted(success, task, tally) if self._chained else success)

    def fence(self, connection: sa.Connection, record: Record) -> bool:
        """Whether the lease still holds, asked by writing: what follows in the transaction has the write lock."""
        return self._fence.execute(connection, {"id": record.id, "lease": record.lease_id}).rowcount == 1

    def complete(self, connection: sa.Connection, record: Record, status: int) -> bool:
        """End a lease with success, with all that follows; False if it was lost."""
        # Handlers commit at the same time: each thread counts for itself.
        source = f"{record.held_by}:{threading.get_ident()}"
        values = {"id": record.id, "lease": record.lease_id, "status": status}
        ending = [Ending(record, State.SUCCEEDED)]
        if self._chained:
            if self._complete.execute(connection, values | {"source": source}).scalar_one() != 1:
                return False
            # Its counts are this thread's own rows, for which nobody waits: they may come first.
            self._endings.let_follow(connection, ending)
        else:
            if self._complete.execute(connection, values).rowcount != 1:
                return False
            self._endings.follow(connection, ending, source)
        return True


def _success(task: sa.Table, now: sa.ColumnElement[int]) -> dict[str, Any]:
    """What a handler's own transaction makes of its task."""
    return {
        "state": State.SUCCEEDED.value,
        "due_at": None,
        "finished_at": now,
        "unique_key": None,
        "executions": task.c.executions + 1,
        "answered": task.c.answered + 1,
        "last_status": sa.bindparam("status"),
        "last_reason": "success",
        "last_error": None,
    }


def _counted(success: sa.Update, task: sa.Table, tally: Tally) -> sa.Select[Any]:
    """The same statement with what it counts; it returns how many tasks it ended."""
    ended = success.returning(task.c.queue).cte("ended")
    counts = tally.one_more(ended, State.SUCCEEDED, sa.bindparam("source", type_=sa.String))
    return sa.select(sa.func.count()).select_from(ended).add_cte(*(one.cte(f"count_{number}") for number, one in enumerate(counts)))
