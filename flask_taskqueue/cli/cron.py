"""``flask taskqueue cron``: list, run, pause and resume schedules; add, change, delete them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import click
from flask.cli import AppGroup, with_appcontext

from ..api.declared_schedules import DeclaredSchedule
from ..api.schedules import ScheduleEntry, entries, entry
from ..api.schedules import add as add_entry
from .add import request_options, spec_of
from .audit import logged, user_name
from .options import current_runtime, json_option, utc_option
from .output import chatter, echo, echo_change, echo_json, echo_table, moment, task_document

cron: AppGroup = AppGroup(
    "cron", help="List, run, pause, resume, add, change and delete schedules."
)

_RULES = (
    click.option("--misfire", type=click.Choice(["run_once", "skip", "all"]), help="Missed runs."),
    click.option("--overlap", type=click.Choice(["skip", "allow"]), help="Overlapping runs."),
    click.option("--description", metavar="TEXT", help="A text for people."),
)


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
        chatter("There are no schedules.")


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


def _rules(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_RULES):
        command = option(command)
    return command


@cron.command("add")
@click.argument("name")
@click.argument("schedule")
@click.argument("url")
@click.option("--timezone", default="UTC", show_default=True, help="The clock of the schedule.")
@_rules
@request_options
@json_option
@with_appcontext
def add_schedule(
    name: str, schedule: str, url: str, timezone: str, as_json: bool, **options: Any
) -> None:
    """Add a schedule NAME that calls URL when SCHEDULE says, such as "every 10 minutes".

    Every dispatcher fires it until it is deleted.
    """
    given = {rule: options[rule] for rule in ("misfire", "overlap") if options[rule] is not None}
    spec = spec_of(url, options)
    declared = DeclaredSchedule.of(
        name, spec, schedule, timezone, description=options["description"], **given
    )
    runtime = current_runtime()
    with logged(runtime, "add-cron", f"{name}: {schedule}"):
        add_entry(runtime, declared, None)
    echo_change("add", name, True, as_json, f"Added {name}.")


@cron.command("change")
@click.argument("name")
@click.option("--schedule", help='When it fires, such as "every 10 minutes".')
@click.option("--timezone", help="The clock of the schedule.")
@_rules
@json_option
@with_appcontext
def change_schedule(name: str, as_json: bool, **given: Any) -> None:
    """Change schedule NAME, which was added rather than declared in code."""
    changes = {option: value for option, value in given.items() if value is not None}
    if not changes:
        raise click.UsageError("there is nothing to change: give at least one option")
    runtime = current_runtime()
    words = ", ".join(f"{option}={value}" for option, value in changes.items())
    with logged(runtime, "change-cron", f"{name}: {words}"):
        entry(runtime, name).change(**changes)
    echo_change("change", name, True, as_json, f"Changed {name}.")


@cron.command("delete")
@click.argument("name")
@json_option
@with_appcontext
def delete_schedule(name: str, as_json: bool) -> None:
    """Delete schedule NAME, which was added rather than declared in code.

    The tasks that it has added stay.
    """
    runtime = current_runtime()
    with logged(runtime, "delete-cron", name):
        entry(runtime, name).delete()
    echo_change("delete", name, True, as_json, f"Deleted {name}.")


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
    return "" if schedule.is_declared or schedule.added_at else "not declared here"
