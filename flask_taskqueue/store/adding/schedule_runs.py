"""Runs: the tasks that a schedule has added, by fire time or by hand, while they may be live."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sa

from ...core.schedules.schedule import LastRun
from ...core.states import FINISHED, Record, State
from ...core.times import to_datetime
from ...process.logs import get_logger
from ..database.dialects import Dialect
from ..database.dialects.claims import is_state
from ..database.tables import Tables
from ..database.task_tables import ended

_logger = get_logger()

_LAST = 20
"""The number of ended runs that are kept, because a dead one may be requeued."""
_MOST = 1000


class ScheduleRuns:
    """The runs of a schedule whose row the transaction has locked."""

    def __init__(
        self, tables: Tables, dialect: Dialect, replaced: Callable[[sa.Connection, Record], object]
    ) -> None:
        """Call ``replaced`` with each task whose place another takes."""
        self._task = tables.task
        self._now = dialect.now
        self._replaced = replaced

    def of(self, connection: sa.Connection, schedule: sa.Row[Any]) -> list[Record]:
        """Return the known tasks that a schedule has added, oldest first."""
        ids = schedule.runs.split() if schedule.runs else [schedule.last_task_id]
        rows = connection.execute(
            sa.select(self._task).where(self._task.c.id.in_(ids)).order_by(self._task.c.id)
        )
        return [Record._make(row) for row in rows]

    def replace_failed(
        self, connection: sa.Connection, schedule: sa.Row[Any], runs: Sequence[Record]
    ) -> bool:
        """Cancel the failed runs that wait to be tried again; return whether that was possible.

        If one of them is being taken at this moment, nothing is changed.
        """
        task, ids = self._task, [run.id for run in runs if _has_failed(run)]
        waits = sa.or_(is_state(task, State.SCHEDULED), is_state(task, State.FORWARDED))
        mine = sa.and_(task.c.id.in_(ids), waits)
        rows = connection.execute(
            sa.select(task).where(mine).order_by(task.c.id).with_for_update(skip_locked=True)
        )
        failed = [Record._make(row) for row in rows]
        if len(failed) != len(ids):
            return False
        changes = ended(State.CANCELLED, self._now, last_reason="replaced")
        connection.execute(sa.update(task).where(mine).values(changes))
        for run in failed:
            _logger.warning(
                "schedule %s: task %s failed %d times and is replaced by the next",
                schedule.name,
                run.id,
                run.attempts,
            )
            self._replaced(connection, run)
        return True


def last_run(runs: Sequence[Record]) -> LastRun:
    """Return what these runs mean for the next one."""
    live = [run for run in runs if run.state not in FINISHED]
    failed = [run for run in live if _has_failed(run)]
    ended = [run.finished_at for run in runs if run.finished_at is not None]
    return LastRun(
        is_live=len(failed) < len(live),
        has_failed=bool(failed),
        finished_at=to_datetime(max(ended)) if ended else None,
    )


def noted(runs: Sequence[Record], added: Sequence[str]) -> str:
    """Return the text in which these runs, and those just added, are stored."""
    live = {run.id for run in runs if run.state not in FINISHED}
    known = [*(run.id for run in runs), *added]
    return " ".join(
        [run_id for run_id in known if run_id in live or run_id in known[-_LAST:]][-_MOST:]
    )


def _has_failed(run: Record) -> bool:
    """Return whether a run has failed and waits to be tried again."""
    return run.state in (State.SCHEDULED, State.FORWARDED) and run.last_reason is not None
