"""The schedules of an app, as they are stored, and what can be done with them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

import sqlalchemy as sa

from ..core.errors import BadTransactionStateError, InvalidScheduleError, UnknownScheduleError
from ..core.names import task_id
from ..core.schedules.schedule import Misfire, Overlap, Schedule
from ..core.states import Record
from ..core.tasks.spec import SpecLike, TaskSpec
from ..core.tasks.task import Task
from ..core.times import to_datetime
from ..runtime import QueueLookup, Runtime
from .changes import make_change, named, send_added
from .declared_schedules import DeclaredSchedule
from .tasks import Tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleEntry:
    """What was known of a schedule when this value was read; it does not change afterwards.

    ``next_at`` is the next fire time, or None if there will be none (``last_error`` says why).
    ``fired_at`` is the last fire time that was handled, and ``last_task_id`` the task it added.
    ``is_declared`` says whether this app's code declares the schedule; ``added_at`` is when
    ``tasks.add_schedule`` added it. If neither, it no longer fires unless other processes declare
    it. All datetimes are aware, in UTC.
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
    added_at: datetime | None
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
        store, new_id = self._runtime.store, task_id()
        declared = self._runtime.cron.declared.get(self.name)

        def work(connection: sa.Connection) -> Record:
            store.schedules.run_now(
                connection, self.name, new_id, None if declared is None else declared.task
            )
            return store.tasks.get(connection, new_id)

        record, commitment = make_change(
            self._runtime,
            work,
            transactional,
            name=lambda record: [named(record)],
            done=lambda connection: next(iter(store.tasks.get_all(connection, [new_id])), None),
        )
        task = Task.of(record, Tasks.of(self._runtime), "added", commitment)
        send_added(self._runtime, task)
        return task

    def change(
        self,
        schedule: str | None = None,
        *,
        timezone: str | None = None,
        task: SpecLike | None = None,
        misfire: Misfire | None = None,
        overlap: Overlap | None = None,
        description: str | None = None,
        transactional: bool | None = None,
    ) -> None:
        """Change what is given; get the schedule again to see it.

        ``task`` is the task that it adds, as an item of a list (see `SpecLike`). If the text or the
        time zone changes, the fire times are counted from now on. Raises what
        ``tasks.add_schedule`` raises, `InvalidScheduleError` for a schedule that was declared in
        code, and `UnknownScheduleError` if it was deleted.
        """
        changed = DeclaredSchedule.of(
            self.name,
            TaskSpec() if task is None else TaskSpec.of(task),
            self.text if schedule is None else schedule,
            self.timezone if timezone is None else timezone,
            misfire=cast(Misfire, misfire or self.misfire),
            overlap=cast(Overlap, overlap or self.overlap),
            description=description,
        )
        given = {"misfire": misfire, "overlap": overlap, "description": description}
        changes: dict[str, Any] = {
            name: value for name, value in given.items() if value is not None
        }
        if schedule is not None or timezone is not None:
            changes |= {"text": changed.schedule.text, "timezone": changed.schedule.timezone}
        if task is not None:
            find_queue = QueueLookup(self._runtime, transactional)
            changes["task"] = changed.definition(self._runtime.new_task, find_queue).task
        added = self._runtime.store.added_schedules

        def work(connection: sa.Connection) -> bool:
            added.change(connection, self.name, changes)
            return True

        self._change(work, transactional, "change")

    def delete(self, *, transactional: bool | None = None) -> None:
        """Delete the schedule; the tasks that it has added stay.

        Raises `InvalidScheduleError` for a schedule that was declared in code, and
        `UnknownScheduleError` if it was deleted already.
        """
        added = self._runtime.store.added_schedules

        def work(connection: sa.Connection) -> bool:
            added.delete(connection, self.name)
            return True

        self._change(work, transactional, "delete")

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


def add(runtime: Runtime, declared: DeclaredSchedule, transactional: bool | None) -> None:
    """Store a schedule beside those that are declared; see `TaskQueue.add_schedule`."""
    if declared.name in _introduce(runtime)[0]:
        raise InvalidScheduleError(
            f"schedule {declared.name!r} is declared in the code: choose another name, or "
            "change the code"
        )
    definition = declared.definition(runtime.new_task, QueueLookup(runtime, transactional))

    def work(connection: sa.Connection) -> None:
        runtime.store.added_schedules.add(connection, definition)

    make_change(
        runtime,
        work,
        transactional,
        wakes=False,
        name=lambda _: [f"to add schedule {declared.name}"],
    )


def entries(runtime: Runtime) -> list[ScheduleEntry]:
    """Return all schedules, sorted by name."""
    declared, _ = _introduce(runtime)
    return runtime.store.read(
        lambda connection: [
            _entry(runtime, row, declared) for row in runtime.store.schedules.rows(connection)
        ]
    )


def entry(runtime: Runtime, name: str) -> ScheduleEntry:
    """Return one schedule. Raises `UnknownScheduleError`."""
    declared, refusal = _introduce(runtime)
    try:
        return runtime.store.read(
            lambda connection: _entry(
                runtime, runtime.store.schedules.get(connection, name), declared
            )
        )
    except UnknownScheduleError:
        if name in declared and refusal is not None:
            raise refusal from None
        raise


def _introduce(runtime: Runtime) -> tuple[Collection[str], BadTransactionStateError | None]:
    """Store the declared schedules that have no row; return the names of all that are declared.

    Also return why that could not be done: the caller's transaction holds the only write lock.
    """
    declared = runtime.cron.declared.keys()
    try:
        runtime.cron.introduce()
    except BadTransactionStateError as refusal:
        return declared, refusal
    return declared, None


def _entry(runtime: Runtime, row: sa.Row[Any], declared: Collection[str]) -> ScheduleEntry:
    instants: dict[str, Any] = {
        name: None if (at := getattr(row, name)) is None else to_datetime(at)
        for name in ("next_at", "fired_at", "paused_at", "added_at")
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
