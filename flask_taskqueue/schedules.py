"""The schedules of an application: declared, stored, and what can be done with one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from .core.clock import to_datetime
from .core.schedule import Schedule
from .core.task import Task
from .runtime import Runtime
from .stored import TasksOf


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleEntry:
    """What was known of a schedule when this value was read; it does not change afterwards.

    ``next_at`` is the next fire time, None if there is none any more (``last_error`` says why).
    ``fired_at`` is the last fire time that was seen to, ``last_task_id`` the task it added.
    ``is_declared`` says whether this application's code declares it; otherwise it no longer fires
    unless other processes do. All instants are aware, in UTC.
    """

    name: str
    text: str
    timezone: str
    description: str | None
    misfire: str
    overlap: str
    next_at: datetime | None
    fired_at: datetime | None
    last_task_id: str | None
    last_error: str | None
    paused_at: datetime | None
    paused_by: str | None
    is_declared: bool
    _runtime: Runtime = field(repr=False, compare=False)

    @property
    def is_paused(self) -> bool:
        """Whether it does not fire until it is resumed."""
        return self.paused_at is not None

    def next_runs(self, count: int = 5) -> Sequence[datetime]:
        """The next so many fire times, aware, in UTC; none while it is paused or broken.

        A plain interval counts from the end of each run, so its later ones are the earliest there can be.
        """
        if self.next_at is None or self.is_paused:
            return []
        return [self.next_at, *Schedule.parse(self.text, self.timezone).next_runs(self.next_at, count - 1)][:count]

    def pause(self, by: str | None = None) -> bool:
        """Fire no more, in any process, until it is resumed; False if it was paused. ``by`` says who."""
        store = self._runtime.store
        return store.transact(lambda connection: store.schedules.pause(connection, self.name, by and by[:100]))

    def resume(self) -> bool:
        """Fire again; fire times that passed meanwhile are not missed. False if it was not paused."""
        store = self._runtime.store
        return store.transact(lambda connection: store.schedules.resume(connection, self.name))

    def run_now(self) -> Task:
        """Add its task now, whatever the schedule says."""
        store = self._runtime.store
        task_id = store.transact(lambda connection: store.schedules.run_now(connection, self.name))
        self._runtime.wake()
        return TasksOf(self._runtime).get(task_id)


def entries(runtime: Runtime) -> list[ScheduleEntry]:
    """Every schedule there is, by name."""
    declared = runtime.cron.declare()
    with runtime.store.reading() as connection:
        return [_entry(runtime, row, declared) for row in runtime.store.schedules.rows(connection)]


def entry(runtime: Runtime, name: str) -> ScheduleEntry:
    """One schedule. Raises `UnknownScheduleError`."""
    declared = runtime.cron.declare()
    with runtime.store.reading() as connection:
        return _entry(runtime, runtime.store.schedules.get(connection, name), declared)


def _entry(runtime: Runtime, row: sa.Row[Any], declared: Collection[str]) -> ScheduleEntry:
    instants: dict[str, Any] = {
        name: None if (at := getattr(row, name)) is None else to_datetime(at) for name in ("next_at", "fired_at", "paused_at")
    }
    texts = ("name", "text", "timezone", "description", "misfire", "overlap", "last_task_id", "last_error", "paused_by")
    return ScheduleEntry(**{name: getattr(row, name) for name in texts}, **instants, is_declared=row.name in declared, _runtime=runtime)
