"""``flask taskqueue cron list``, ``run``, ``pause``, ``resume``."""

from __future__ import annotations

import getpass
from dataclasses import fields
from typing import Any

import click
from flask.cli import AppGroup, with_appcontext

from ..api.schedules import ScheduleEntry, entries, entry
from .options import current_runtime, json_option, utc_option
from .output import chatter, echo_change, echo_json, echo_table, moment, task_document

cron = AppGroup("cron", help="Schedules: look, run now, pause, resume.")


@cron.command("list")
@json_option
@utc_option
@with_appcontext
def list_schedules(as_json: bool, in_utc: bool) -> None:
    """Show each schedule, when it fires next and when it did last; as JSON with the next five
    runs.
    """
    found = entries(current_runtime())
    if as_json:
        echo_json([_document(one) for one in found])
    elif found:
        rows = [
            (
                one.name,
                one.text,
                one.timezone,
                moment(one.next_at, in_utc),
                moment(one.fired_at, in_utc),
                _state(one),
            )
            for one in found
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
    task = entry(current_runtime(), name).run_now()
    if as_json:
        echo_json(task_document(task))
    else:
        click.echo(f"Added task {task.id}.")


@cron.command("pause")
@click.argument("name")
@json_option
@with_appcontext
def pause_schedule(name: str, as_json: bool) -> None:
    """Fire schedule NAME no more, in any process."""
    changed = entry(current_runtime(), name).pause(by=getpass.getuser())
    echo_change(
        "pause",
        name,
        changed,
        as_json,
        f"{name} is paused." if changed else f"{name} was paused already.",
    )


@cron.command("resume")
@click.argument("name")
@json_option
@with_appcontext
def resume_schedule(name: str, as_json: bool) -> None:
    """Fire schedule NAME again, from now on."""
    changed = entry(current_runtime(), name).resume()
    echo_change(
        "resume",
        name,
        changed,
        as_json,
        f"{name} goes on." if changed else f"{name} was not paused.",
    )


def _document(one: ScheduleEntry) -> dict[str, Any]:
    known = {
        field.name: getattr(one, field.name)
        for field in fields(one)
        if not field.name.startswith("_")
    }
    return {**known, "next_runs": list(one.next_runs())}


def _state(one: ScheduleEntry) -> str:
    if one.last_error:
        return f"broken: {one.last_error}"
    if one.is_paused:
        return "paused" + (f" by {one.paused_by}" if one.paused_by else "")
    return "" if one.is_declared else "not declared here"
