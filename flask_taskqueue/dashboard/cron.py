"""The page of schedules, and what can be done with one."""

from __future__ import annotations

from functools import partial
from typing import Any

from flask import g

from ..api.schedules import ScheduleEntry, entries, entry
from ..core.states import State
from ..runtime import Runtime
from .rendering import Deed, Page

_FIELDS = (
    *("name", "text", "timezone", "description", "misfire", "overlap", "next_at", "fired_at"),
    *("last_task_id", "last_error", "paused_at", "paused_by", "is_declared"),
)


def page(runtime: Runtime) -> Page:
    """Every schedule, when it fires next and what became of its last task."""
    found = entries(runtime)
    store = runtime.store
    with store.reading() as connection:
        last = {
            one.id: one
            for one in store.tasks.get_all(
                connection, [one.last_task_id for one in found if one.last_task_id]
            )
        }
    states = {task_id: State(record.state) for task_id, record in last.items()}
    return Page(
        template="cron.html",
        title="Cron",
        data={"schedules": [_line(one, states) for one in found]},
    )


def pause(runtime: Runtime, name: str) -> Deed:
    """Fire it no more."""
    return Deed(
        "pause-cron",
        name,
        partial(
            entry(runtime, name).pause, by=g.taskqueue_access.user or "somebody on the dashboard"
        ),
    )


def resume(runtime: Runtime, name: str) -> Deed:
    """Fire it again."""
    return Deed("resume-cron", name, entry(runtime, name).resume)


def run(runtime: Runtime, name: str) -> Deed:
    """Add its task now."""
    return Deed("run-cron", name, entry(runtime, name).run_now)


def _line(one: ScheduleEntry, states: dict[str, State]) -> dict[str, Any]:
    line = {name: getattr(one, name) for name in _FIELDS}
    return {
        **line,
        "next_runs": list(one.next_runs(5)),
        "last_state": states.get(one.last_task_id or ""),
    }
