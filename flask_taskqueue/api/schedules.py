"""The schedules of an app, as they are stored, and what can be done with them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from ..core import signals
from ..core.errors import BadTransactionStateError, UnknownScheduleError
from ..core.schedules.schedule import Schedule
from ..core.states import Record
from ..core.tasks.task import Task
from ..core.times import to_datetime
from ..process.logs import get_logger
from ..runtime import Runtime
from .changes import make_change, named
from .tasks import Tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleEntry:
    """What was known of a schedule when this value was read; it does not change afterwards.

    ``next_at`` is the next fire time, or None if there will be none (``last_error`` says why).
    ``fired_at`` is the last fire time that was handled, and ``last_task_id`` the task it added.
    ``is_declared`` says whether this app's code declares the schedule; if not, it no longer fires
    unless other processes declare it. All datetimes are aware, in UTC.
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
        """Whether the schedule is paused, so that it does not fire until it is resumed."""
        return self.paused_at is not None

    def next_runs(self, count: int = 5) -> Sequence[datetime]:
        """Return the next ``count`` fire times, aware, in UTC; none while paused or broken.

        A plain interval counts from the end of each run, so for its later runs these are the
        earliest possible times.
        """
        if self.next_at is None or self.is_paused:
            return []
        return [
            self.next_at,
            *Schedule.parse(self.text, self.timezone).next_runs(self.next_at, count - 1),
        ][:count]

    def pause(self, by: str | None = None, *, transactional: bool | None = None) -> bool:
        """Stop firing, in every process, until it is resumed; return False if it was paused.

        ``by`` records who paused it. This method and the following ones obey the transaction rule
        of ``tasks.add`` and take ``transactional`` as it does.
        """
        schedules = self._runtime.store.schedules
        return self._change(
            lambda connection: schedules.pause(connection, self.name, by and by[:100]),
            transactional,
            "pause",
        )

    def resume(self, *, transactional: bool | None = None) -> bool:
        """Fire again; return False if it was not paused.

        Fire times that passed meanwhile do not count as missed.
        """
        schedules = self._runtime.store.schedules
        return self._change(
            lambda connection: schedules.resume(connection, self.name), transactional, "resume"
        )

    def run_now(self, *, transactional: bool | None = None) -> Task:
        """Add its task now, whatever the schedule says, and return it."""
        store, app = self._runtime.store, self._runtime.app

        def work(connection: sa.Connection) -> Record:
            return store.tasks.get(connection, store.schedules.run_now(connection, self.name))

        record, commitment = make_change(
            self._runtime, work, transactional, name=lambda record: [named(record)]
        )
        task = Task.of(record, Tasks.of(self._runtime), "added", commitment)
        signals.task_added.send(app, task=task)
        return task

    def _change(
        self, work: Callable[[sa.Connection], bool], transactional: bool | None, verb: str
    ) -> bool:
        return make_change(
            self._runtime,
            work,
            transactional,
            wakes=False,
            name=lambda _: [f"to {verb} schedule {self.name}"],
        )[0]


def entries(runtime: Runtime) -> list[ScheduleEntry]:
    """Return all schedules, sorted by name."""
    declared, _ = _declare(runtime)
    with runtime.store.reading() as connection:
        return [_entry(runtime, row, declared) for row in runtime.store.schedules.rows(connection)]


def entry(runtime: Runtime, name: str) -> ScheduleEntry:
    """Return one schedule. Raises `UnknownScheduleError`."""
    declared, refusal = _declare(runtime)
    try:
        with runtime.store.reading() as connection:
            return _entry(runtime, runtime.store.schedules.get(connection, name), declared)
    except UnknownScheduleError:
        if name in declared and refusal is not None:
            raise refusal from None
        raise


def _declare(runtime: Runtime) -> tuple[Collection[str], BadTransactionStateError | None]:
    """Return the names of the declared schedules, and why they could not be stored.

    They cannot be stored if the caller's transaction holds the only write lock.
    """
    try:
        return runtime.cron.declare(), None
    except BadTransactionStateError as refusal:
        return {one.name for one in runtime.find_schedules(())}, refusal


def _entry(runtime: Runtime, row: sa.Row[Any], declared: Collection[str]) -> ScheduleEntry:
    instants: dict[str, Any] = {
        name: None if (at := getattr(row, name)) is None else to_datetime(at)
        for name in ("next_at", "fired_at", "paused_at")
    }
    texts = (
        "name",
        "text",
        "timezone",
        "description",
        "misfire",
        "overlap",
        "last_task_id",
        "last_error",
        "paused_by",
    )
    return ScheduleEntry(
        **{name: getattr(row, name) for name in texts},
        **instants,
        is_declared=row.name in declared,
        _runtime=runtime,
    )


_logger = get_logger()
