"""The cron page, and the actions on a schedule."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from flask import g, request

from ..api.declared_schedules import DeclaredSchedule
from ..api.schedules import ScheduleEntry, entries, entry
from ..api.schedules import add as add_entry
from ..core.errors import InvalidScheduleError
from ..core.states import State
from ..core.tasks.spec import ScheduleOptions, TaskSpec
from ..runtime import Runtime
from .rendering import NOBODY, Page, PlannedAction

_FIELDS = (
    *("name", "text", "timezone", "description", "misfire", "overlap", "next_at", "fired_at"),
    *("last_task_id", "last_error", "paused_at", "paused_by", "added_at", "is_declared"),
)


def page(runtime: Runtime) -> Page:
    """Show every schedule with its next runs and the state of its last task."""
    schedules = entries(runtime)
    store = runtime.store
    with store.reading() as connection:
        ids = [schedule.last_task_id for schedule in schedules if schedule.last_task_id]
        records = store.tasks.get_all(connection, ids)
    states = {record.id: State.of(record) for record in records}
    return Page(
        template="cron.html",
        title="Cron",
        data={"schedules": [_line(schedule, states) for schedule in schedules]},
    )


def pause(runtime: Runtime) -> PlannedAction:
    """Stop the schedule from firing."""
    chosen = _chosen(runtime)
    return PlannedAction(
        "pause-cron", chosen.name, partial(chosen.pause, by=g.taskqueue_access.user or NOBODY)
    )


def resume(runtime: Runtime) -> PlannedAction:
    """Let the schedule fire again."""
    chosen = _chosen(runtime)
    return PlannedAction("resume-cron", chosen.name, chosen.resume)


def run(runtime: Runtime) -> PlannedAction:
    """Add the schedule's task now."""
    chosen = _chosen(runtime)
    return PlannedAction("run-cron", chosen.name, chosen.run_now)


def add(runtime: Runtime) -> PlannedAction:
    """Add a schedule beside those that code declares."""
    name, text, timezone, url = (_field(field) for field in ("name", "schedule", "timezone", "url"))
    if not url:
        raise InvalidScheduleError("the schedule has no URL: give that of the task that it adds")
    options: ScheduleOptions = {}
    if body := _field("json"):
        options["json"] = _document(body)
    declared = DeclaredSchedule.of(
        name,
        TaskSpec(url, **options),
        text,
        timezone or "UTC",
        description=_field("description") or None,
    )
    return PlannedAction("add-cron", f"{name}: {text}", partial(add_entry, runtime, declared, None))


def change(runtime: Runtime) -> PlannedAction:
    """Change when an added schedule fires; an empty field stays as it is."""
    chosen, text, timezone = _chosen(runtime), _field("schedule"), _field("timezone")
    do = partial(chosen.change, text or None, timezone=timezone or None)
    return PlannedAction("change-cron", f"{chosen.name}: {text} {timezone}".rstrip(), do)


def delete(runtime: Runtime) -> PlannedAction:
    """Delete an added schedule."""
    chosen = _chosen(runtime)
    return PlannedAction("delete-cron", chosen.name, chosen.delete)


def _chosen(runtime: Runtime) -> ScheduleEntry:
    """Return the schedule that the form names.

    The name may hold slashes and dots, which servers and browsers rewrite in the path of a URL.
    """
    return entry(runtime, _field("name"))


def _field(name: str) -> str:
    return request.form.get(name, "").strip()


def _document(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidScheduleError(f"the JSON body cannot be read: {error}") from error


def _line(schedule: ScheduleEntry, states: dict[str, State]) -> dict[str, Any]:
    line = {name: getattr(schedule, name) for name in _FIELDS}
    return {
        **line,
        "next_runs": list(schedule.next_runs(5)),
        "last_state": states.get(schedule.last_task_id or ""),
    }
