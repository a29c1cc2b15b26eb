"""The cron page, and the actions on a schedule."""

from __future__ import annotations

from functools import partial
from typing import Any

from flask import g

from ..api.schedules import ScheduleEntry, entries, entry
from ..core.states import State
from ..runtime import Runtime
from .rendering import NOBODY, Page, PlannedAction

_FIELDS = (
    *("name", "text", "timezone", "description", "misfire", "overlap", "next_at", "fired_at"),
    *("last_task_id", "last_error", "paused_at", "paused_by", "is_declared"),
)


def page(runtime: Runtime) -> Page:
    """Show every schedule with its next runs and the state of its last task."""
    schedules = entries(runtime)
    store = runtime.store
    with store.reading() as connection:
        ids = [schedule.last_task_id for schedule in schedules if schedule.last_task_id]
        records = store.tasks.get_all(connection, ids)
    states = {record.id: State(record.state) for record in records}
    return Page(
        template="cron.html",
        title="Cron",
        data={"schedules": [_line(schedule, states) for schedule in schedules]},
    )


def pause(runtime: Runtime, name: str) -> PlannedAction:
    """Stop the schedule from firing."""
    return PlannedAction(
        "pause-cron",
        name,
        partial(entry(runtime, name).pause, by=g.taskqueue_access.user or NOBODY),
    )


def resume(runtime: Runtime, name: str) -> PlannedAction:
    """Let the schedule fire again."""
    return PlannedAction("resume-cron", name, entry(runtime, name).resume)


def run(runtime: Runtime, name: str) -> PlannedAction:
    """Add the schedule's task now."""
    return PlannedAction("run-cron", name, entry(runtime, name).run_now)


def _line(schedule: ScheduleEntry, states: dict[str, State]) -> dict[str, Any]:
    line = {name: getattr(schedule, name) for name in _FIELDS}
    return {
        **line,
        "next_runs": list(schedule.next_runs(5)),
        "last_state": states.get(schedule.last_task_id or ""),
    }
