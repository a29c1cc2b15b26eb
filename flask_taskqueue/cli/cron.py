"""``flask taskqueue cron list``, ``run``, ``pause``, ``resume``."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import click
from flask.cli import AppGroup, with_appcontext

from ..api.schedules import ScheduleEntry, entries, entry
from .audit import logged, user_name
from .options import current_runtime, json_option, utc_option
from .output import chatter, echo, echo_change, echo_json, echo_table, moment, task_document

cron: AppGroup = AppGroup("cron", help="List, run, pause and resume schedules.")


@cron.command("list")
@json_option
@utc_option
@with_appcontext
def list_schedules(as_json: bool, in_utc: bool) -> None:
    """List the schedules with their next and last runs.

    With --json each has its next five runs.
    """
    schedules = entries(current_runtime())
    if as_json:
        echo_json([_document(schedule) for schedule in schedules])
    elif schedules:
        rows = [
            (
                schedule.name,
                schedule.text,
                schedule.timezone,
                moment(schedule.next_at, in_utc),
                moment(schedule.fired_at, in_utc),
                _state(schedule),
            )
            for schedule in schedules
        ]
        echo_table(("NAME", "SCHEDULE", "TIME ZONE", "NEXT", "LAST", ""), rows)
    else:
        chatter("No schedules are declared.")


@cron.command("run")
@click.argument("name")
@json_option
@with_appcontext
def run_schedule(name: str, as_json: bool) -> None:
    """Add the task of schedule NAME now."""
    runtime = current_runtime()
    with logged(runtime, "run-cron", name):
        task = entry(runtime, name).run_now()
    if as_json:
        echo_json(task_document(task))
    else:
        echo(f"Added task {task.id}.")


@cron.command("pause")
@click.argument("name")
@json_option
@with_appcontext
def pause_schedule(name: str, as_json: bool) -> None:
    """Stop schedule NAME from firing, in every process."""
    runtime = current_runtime()
    with logged(runtime, "pause-cron", name):
        changed = entry(runtime, name).pause(by=user_name())
    echo_change(
        "pause",
        name,
        changed,
        as_json,
        f"Paused {name}." if changed else f"{name} was already paused.",
    )


@cron.command("resume")
@click.argument("name")
@json_option
@with_appcontext
def resume_schedule(name: str, as_json: bool) -> None:
    """Let schedule NAME fire again, from now on."""
    runtime = current_runtime()
    with logged(runtime, "resume-cron", name):
        changed = entry(runtime, name).resume()
    echo_change(
        "resume",
        name,
        changed,
        as_json,
        f"Resumed {name}." if changed else f"{name} was not paused.",
    )


def _document(schedule: ScheduleEntry) -> dict[str, Any]:
    known = {
        field.name: getattr(schedule, field.name)
        for field in fields(schedule)
        if not field.name.startswith("_")
    }
    return {**known, "next_runs": list(schedule.next_runs())}


def _state(schedule: ScheduleEntry) -> str:
    if schedule.last_error:
        return f"broken: {schedule.last_error}"
    if schedule.is_paused:
        return "paused" + (f" by {schedule.paused_by}" if schedule.paused_by else "")
    return "" if schedule.is_declared else "not declared here"
