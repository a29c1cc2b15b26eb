"""Schedules: what is added when, and which fire times have been handled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from ...core.errors import InvalidScheduleError, UnknownQueueError, UnknownScheduleError
from ...core.names import is_token
from ...core.schedules.schedule import Firing, LastRun, Schedule, decide
from ...core.security.encryption import Encryption
from ...core.states import Record
from ...core.tasks.packed import unpack
from ...core.tasks.spec import NewTask
from ...core.times import duration_micros, to_datetime, to_micros
from ...process.logs import get_logger
from ..database.dialects import Dialect
from ..database.tables import Tables
from ..queues.deleted_queues import refuse_deleted
from .inserts import Inserts
from .schedule_runs import ScheduleRuns, last_run, noted

_logger = get_logger()

_KEPT = timedelta(days=30)
_NEVER = datetime.max.replace(tzinfo=UTC)
_OVERTAKEN = timedelta(seconds=10)
"""How far the clock may have gone on since a time was read."""


class Waiting(NamedTuple):
    """When a schedule fires next, and whether it was added while the app runs."""

    next_at: datetime
    is_added: bool

    @classmethod
    def of(cls, rows: Iterable[sa.Row[Any]]) -> dict[str, Waiting]:
        """Return when each schedule fires next, without those that are paused or broken."""
        return {
            row.name: cls(to_datetime(row.next_at), row.added_at is not None)
            for row in rows
            if row.paused_at is None and row.next_at is not None
        }


def _next_after(row: sa.Row[Any], instant: datetime) -> datetime:
    """Return when a stored schedule fires after an instant; never, if it cannot be read."""
    with suppress(InvalidScheduleError):  # perhaps the schedule of a later version
        return Schedule.parse(row.text, row.timezone).next_after(instant)
    return _NEVER


class Schedules:
    """A store that also fires schedules; each method joins the transaction of its connection."""

    def __init__(
        self, tables: Tables, dialect: Dialect, inserts: Inserts, encryption: Encryption
    ) -> None:
        self._tables = tables
        self._schedule = tables.schedule
        self._fire = tables.fire
        self._task = tables.task
        self._now = dialect.now
        self._inserts = inserts
        self._encryption = encryption
        self._runs = ScheduleRuns(
            tables,
            dialect,
            lambda connection, record: inserts.conflicts.replaced(connection, record, False),
        )
        self._insert_fire = dialect.insert_missing(tables.fire).execution_options(
            preserve_rowcount=True
        )

    def now(self, connection: sa.Connection) -> datetime:
        """Return the time by the database's clock."""
        return to_datetime(connection.execute(sa.select(self._now)).scalar_one())

    def rows(self, connection: sa.Connection) -> list[sa.Row[Any]]:
        """Return the row of every schedule."""
        return list(connection.execute(sa.select(self._schedule).order_by(self._schedule.c.name)))

    def get(self, connection: sa.Connection, name: str) -> sa.Row[Any]:
        """Return the row of a schedule. Raises `UnknownScheduleError`."""
        found = sa.select(self._schedule).where(self._schedule.c.name == name)
        row = connection.execute(found).one_or_none() if is_token(name) else None
        if row is None:
            raise UnknownScheduleError(f"there is no schedule {name!r}")
        return row

    def fire(self, connection: sa.Connection, name: str, now: datetime) -> int:
        """Fire a schedule whose time has come; return how many tasks were added.

        Its row is locked, and each fire time has a row of its own that is inserted with the task,
        so only one dispatcher adds it, however many there are. If the schedule cannot be used, the
        error is stored in its row.
        """
        schedule = self._schedule
        open_row = sa.and_(
            schedule.c.name == name,
            schedule.c.paused_at.is_(None),
            schedule.c.next_at <= to_micros(now),
        )
        row = connection.execute(
            sa.select(schedule).where(open_row).with_for_update(skip_locked=True)
        ).one_or_none()
        if row is None:
            return 0
        mine = sa.update(schedule).where(schedule.c.name == name)
        try:
            runs = self._runs.of(connection, row)
            firing = self._decide(connection, row, now, runs)
            tasks = [self._add(connection, row, at) for at in firing.fires]
        except (InvalidScheduleError, UnknownQueueError, ValueError, TypeError) as error:
            _logger.error("schedule %s does not fire any more: %s", name, error)
            connection.execute(mine.values(next_at=None, last_error=str(error)[:1000]))
            return 0
        changes: dict[str, Any] = {"next_at": to_micros(firing.next_at)}
        added = [task_id for task_id in tasks if task_id is not None]
        if added:
            changes |= {
                "fired_at": to_micros(firing.fires[-1]),
                "last_task_id": added[-1],
                "runs": noted(runs, added),
            }
        connection.execute(mine.values(changes))
        return len(added)

    def set_right(self, connection: sa.Connection, name: str, now: datetime) -> None:
        """Have a schedule that is ahead (see `ahead`) fire at its next time from now on."""
        schedule = self._schedule
        row = connection.execute(
            sa.select(schedule).where(schedule.c.name == name).with_for_update(skip_locked=True)
        ).one_or_none()
        if row is not None and self.ahead([row], now):
            next_at = to_micros(Schedule.parse(row.text, row.timezone).next_after(now))
            connection.execute(
                sa.update(schedule).where(schedule.c.name == name).values(next_at=next_at)
            )

    def ahead(self, rows: Sequence[sa.Row[Any]], now: datetime) -> list[str]:
        """Return which schedules wait for a time beyond their next one.

        They fired, or were stored, while the clock was ahead. ``now`` may have been read some
        seconds ago.
        """
        latest = now + _OVERTAKEN
        waiting = Waiting.of(rows)
        return [
            row.name
            for row in rows
            if row.name in waiting and waiting[row.name].next_at > _next_after(row, latest)
        ]

    def pass_over(self, connection: sa.Connection, name: str, now: datetime) -> None:
        """Skip the fire times of a schedule that passed while no code declared it.

        With ``misfire="all"`` they are kept.
        """
        schedule = self._schedule
        late = (
            schedule.c.name == name,
            schedule.c.paused_at.is_(None),
            schedule.c.next_at <= to_micros(now),
            schedule.c.misfire != "all",
        )
        row = connection.execute(
            sa.select(schedule).where(*late).with_for_update(skip_locked=True)
        ).one_or_none()
        if row is None:
            return
        with suppress(InvalidScheduleError):  # perhaps the schedule of a later version
            next_at = to_micros(Schedule.parse(row.text, row.timezone).next_after(now))
            connection.execute(
                sa.update(schedule).where(schedule.c.name == name).values(next_at=next_at)
            )

    def run_now(
        self, connection: sa.Connection, name: str, task_id: str, task: str | None = None
    ) -> None:
        """Add a schedule's task now, with this id, whatever its fire times.

        ``task`` is the task (see `pack`) that the caller's code declares, if it declares one.
        Raises `UnknownQueueError` if the queue was deleted.
        """
        self.get(connection, name)
        mine = self._schedule.c.name == name
        row = connection.execute(sa.select(self._schedule).where(mine).with_for_update()).one()
        new = replace(self._new(row, None, task), id=task_id)
        refuse_deleted(connection, self._tables, new.queue)
        self._inserts.add(connection, new)
        runs = noted(self._runs.of(connection, row), [new.id])
        connection.execute(
            sa.update(self._schedule).where(mine).values(last_task_id=new.id, runs=runs)
        )

    def pause(self, connection: sa.Connection, name: str, by: str | None) -> bool:
        """Stop firing a schedule; return False if it was paused already."""
        self.get(connection, name)
        going = sa.and_(self._schedule.c.name == name, self._schedule.c.paused_at.is_(None))
        return (
            connection.execute(
                sa.update(self._schedule).where(going).values(paused_at=self._now, paused_by=by)
            ).rowcount
            == 1
        )

    def resume(self, connection: sa.Connection, name: str) -> bool:
        """Fire a schedule again; return False if it was not paused.

        It counts from now on: fire times that passed during the pause do not count as missed.
        """
        row = self.get(connection, name)
        next_at = to_micros(Schedule.parse(row.text, row.timezone).next_after(self.now(connection)))
        paused = sa.and_(self._schedule.c.name == name, self._schedule.c.paused_at.is_not(None))
        changes = {"paused_at": None, "paused_by": None, "next_at": next_at, "last_error": None}
        return (
            connection.execute(sa.update(self._schedule).where(paused).values(changes)).rowcount
            == 1
        )

    def prune(self, connection: sa.Connection) -> int:
        """Forget fire times older than thirty days; return how many."""
        old = self._fire.c.fire_at < self._now - duration_micros(_KEPT.total_seconds())
        return connection.execute(sa.delete(self._fire).where(old)).rowcount

    def _decide(
        self, connection: sa.Connection, row: sa.Row[Any], now: datetime, runs: Sequence[Record]
    ) -> Firing:
        """Decide what to do now.

        Runs that have failed are replaced, unless one of them is being attempted at this moment.
        """

        def of(last: LastRun) -> Firing:
            schedule, due = Schedule.parse(row.text, row.timezone), to_datetime(row.next_at)
            return decide(
                schedule, due=due, now=now, misfire=row.misfire, overlap=row.overlap, last=last
            )

        firing = of(last_run(runs))
        if firing.replaces and not self._runs.replace_failed(connection, row, runs):
            return of(LastRun(is_live=True))
        return firing

    def _add(self, connection: sa.Connection, row: sa.Row[Any], at: datetime) -> str | None:
        """Add the task of one fire time and return its id.

        Returns None if the task exists already, or if its name or unique_key is taken.
        """
        new = self._new(row, at)
        refuse_deleted(connection, self._tables, new.queue)
        fire = {"schedule": row.name, "fire_at": to_micros(at), "task_id": new.id}
        if connection.execute(self._insert_fire, fire).rowcount != 1:
            return None
        return next(
            iter(self._inserts.add_following(connection, [new], f"schedule {row.name}")), None
        )

    def _new(self, row: sa.Row[Any], at: datetime | None, task: str | None = None) -> NewTask:
        tasks: Sequence[NewTask] = unpack(task or self._encryption.decrypt_text(row.task))
        if len(tasks) != 1:
            raise InvalidScheduleError(
                f"schedule {row.name!r} holds {len(tasks)} tasks; it must be one"
            )
        return replace(tasks[0], eta=at, schedule=row.name)
