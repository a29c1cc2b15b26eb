"""Cron: adds the tasks of schedules when they are due to fire."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import sqlalchemy as sa

from ..core.errors import TaskQueueError
from ..core.schedules.schedule import Schedule
from ..process.logs import get_logger
from ..store import LockedError, ScheduleDefinition, Store, Wait, Waiting, apart, refusal

_logger = get_logger()

Find = Callable[[Collection[str]], Collection[ScheduleDefinition]]
"""A function that finds the declared schedules other than those with the given names."""

Fired = Callable[[str, int], object]
"""A callback with the name of a schedule that fired and the number of tasks it added."""

_LOOK_AGAIN = 5.0
"""The seconds until schedules are looked at again: another process may have changed one."""
_SHORTEST = 0.05
_GONE = timedelta(minutes=2)
"""How late a fire time must be to show that no process declares its schedule any more.

It shows this because dispatchers are running: one whose code declared the schedule would have fired
it.
"""


class Cron:
    """The cron of one process, which fires the schedules that its application declares.

    Every other dispatcher does the same for its own. Those that were added while the app runs are
    fired by all. `tick` may be called at any time, from any number of processes.

    What fires, and when, is said by the code of the process alone. All releases of the app share
    the row of a schedule, so while several run it may hold the declaration of another one. Then the
    process stores its own again, with the fire time that it remembers.
    """

    def __init__(
        self,
        find_store: Callable[[], Store],
        find_undeclared: Find,
        fired: Fired = lambda _name, _added: None,
    ) -> None:
        self._find_store = find_store
        self._find_undeclared = find_undeclared
        self._fired = fired
        self._declared: dict[str, ScheduleDefinition] = {}
        self._next: dict[str, datetime] = {}
        """When each declared schedule fires next, where its row held these fire times last."""
        self.has_added: bool = False
        """Whether the last tick added tasks."""

    @property
    def declared(self) -> Mapping[str, ScheduleDefinition]:
        """The schedules that the application declares, by name, whatever is stored."""
        self._declared |= {
            schedule.name: schedule for schedule in self._find_undeclared(self._declared)
        }
        return self._declared

    def tick(self, now: datetime | None = None) -> float:
        """Fire the schedules that are due; return the seconds until the next tick.

        Whether a schedule is due is decided by the database's clock, or by ``now`` if it is given.
        """
        try:
            return self._tick(now)
        except (TaskQueueError, sa.exc.DBAPIError) as error:
            _logger.warning("schedules could not be looked at: %s", error)
            return _LOOK_AGAIN

    def introduce(self) -> None:
        """Store the declared schedules that have no row yet.

        What is stored differently stays, because only dispatchers of a release store what it
        declares.
        """
        instant, rows = self._look(None)
        known = {row.name for row in rows}
        for name, schedule in self.declared.items():
            if name not in known:
                introduce = partial(
                    self._store.declared_schedules.introduce,
                    definition=schedule,
                    next_at=self._next_of(schedule, instant),
                )
                self._store.transact(introduce)

    def declare(self, now: datetime | None = None) -> Collection[str]:
        """Store what is declared as it is declared now; return the names of what is declared."""
        instant, rows = self._look(now)
        self._declare(rows, instant)
        return self.declared.keys()

    @property
    def _store(self) -> Store:
        return self._find_store()

    def _tick(self, now: datetime | None) -> float:
        self.has_added = False
        instant, rows = self._look(now)
        if self._declare(rows, instant) | self._set_right(rows, instant):
            _, rows = self._look(now)
        due = {
            name: schedule
            for name, schedule in Waiting.of(rows).items()
            if schedule.next_at <= instant
        }
        for name, schedule in sorted(due.items()):
            if schedule.is_added or name in self.declared:
                self._fire(name, instant)
            elif instant - schedule.next_at > _GONE:
                pass_over = partial(self._store.schedules.pass_over, name=name, now=instant)
                self._is_done(name, pass_over, "cannot be passed over yet")
        if due:
            _, rows = self._look(now)
        return self._wait(rows, instant)

    def _look(self, now: datetime | None) -> tuple[datetime, list[sa.Row[Any]]]:
        """Return the time and the rows; remember when the declared schedules fire next."""
        schedules, declared = self._store.schedules, self.declared
        instant, rows = self._store.read(
            lambda reader: (now or schedules.now(reader), schedules.rows(reader))
        )
        waiting = Waiting.of(rows)
        for row in rows:
            schedule = declared.get(row.name)
            if schedule is None or row.paused_at is not None:
                self._next.pop(row.name, None)  # what passes during a pause is not missed
            elif row.name in waiting and (row.text, row.timezone) == (
                schedule.text,
                schedule.timezone,
            ):
                self._next[row.name] = waiting[row.name].next_at
        return instant, rows

    def _declare(self, rows: Sequence[sa.Row[Any]], instant: datetime) -> bool:
        """Store the schedules whose rows differ from their declarations; return if there are any.

        One whose row is locked or refused is stored later.
        """
        store = self._store.declared_schedules
        outdated = store.outdated({row.name: row for row in rows}, self.declared.values())
        for schedule in outdated:
            next_at = self._next_of(schedule, instant)
            declare = partial(store.declare, definition=schedule, next_at=next_at)
            if self._is_done(schedule.name, declare, "cannot be stored as it is declared, yet"):
                self._next[schedule.name] = next_at
        return bool(outdated)

    def _set_right(self, rows: Sequence[sa.Row[Any]], instant: datetime) -> bool:
        """Correct the schedules that fired while the clock was ahead; return if there are any."""
        ahead = self._store.schedules.ahead(rows, instant)
        for name in ahead:
            _logger.warning(
                "schedule %s waited for a time that a clock set since has given it; it fires at "
                "its next time again",
                name,
            )
            set_right = partial(self._store.schedules.set_right, name=name, now=instant)
            self._is_done(name, set_right, "cannot be set right yet")
        return bool(ahead)

    def _next_of(self, schedule: ScheduleDefinition, instant: datetime) -> datetime:
        """Return when a schedule fires next: as remembered, or the first time from now on."""
        return self._next.get(schedule.name) or Schedule.parse(
            schedule.text, schedule.timezone
        ).next_after(instant)

    def _wait(self, rows: Sequence[sa.Row[Any]], instant: datetime) -> float:
        """Return the seconds until the next schedule is due, or others may have changed one."""
        waits = [
            (schedule.next_at - instant).total_seconds()
            for name, schedule in Waiting.of(rows).items()
            if schedule.is_added or name in self.declared
        ]
        return max(_SHORTEST, min([_LOOK_AGAIN, *(wait if wait > 0 else 1.0 for wait in waits)]))

    def _fire(self, name: str, instant: datetime) -> None:
        """Fire one schedule, unless what that needs is locked or refused."""
        store, schedule = self._store, self.declared.get(name)
        fire: Callable[[sa.Connection], int] = (
            partial(store.schedules.fire, name=name, now=instant)
            if schedule is None
            else partial(
                store.declared_schedules.fire,
                definition=schedule,
                now=instant,
                next_at=self._next_of(schedule, instant),
            )
        )
        counts: list[int] = []
        fired = self._is_done(
            name, lambda connection: counts.append(fire(connection)), "cannot fire yet"
        )
        if fired and (added := counts[-1]):
            self.has_added = True
            _logger.info("schedule %s added %d tasks", name, added)
            self._fired(name, added)

    def _is_done(self, name: str, work: Callable[[sa.Connection], object], otherwise: str) -> bool:
        """Do something of one schedule; return False, and log it, if it is locked or refused.

        It is done later then, and what concerns the other schedules is done now.
        """
        refused: list[Exception] = []
        try:
            with apart(refused.append):
                self._store.transact(work, wait=Wait.BRIEFLY)
        except LockedError as error:
            refused.append(error)
        for why in refused:
            _logger.warning("schedule %s %s: %s", name, otherwise, refusal(why) or why)
        return not refused
