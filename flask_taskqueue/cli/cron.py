"""``flask taskqueue cron list``, ``run``, ``pause``, ``resume``."""

from __future__ import annotations

import getpass
import json
from dataclasses import fields
from datetime import datetime
from typing import Any

import click
from flask.cli import AppGroup, with_appcontext

from ..schedules import ScheduleEntry, entries, entry
from .current import current_runtime, explained
from .table import echo_table

cron = AppGroup("cron", help="Schedules: look, run now, pause, resume.")


@cron.command("list")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with stable keys and the next five runs.")
@with_appcontext
def list_schedules(as_json: bool) -> None:
    """Show each schedule, when it fires next and when it did last."""
    with explained():
        found = entries(current_runtime())
    if as_json:
        click.echo(json.dumps([_document(one) for one in found], default=lambda value: value.isoformat(), indent=2))
    elif found:
        rows = [(one.name, one.text, one.timezone, _time(one.next_at), _time(one.fired_at), _state(one)) for one in found]
        echo_table(("NAME", "SCHEDULE", "TIME ZONE", "NEXT", "LAST", ""), rows)
    else:
        click.echo("No schedules are declared.")


@cron.command("run")
@click.argument("name")
@with_appcontext
def run_schedule(name: str) -> None:
    """Add the task of schedule NAME now."""
    with explained():
        task = entry(current_runtime(), name).run_now()
    click.echo(f"Added task {task.id}.")


@cron.command("pause")
@click.argument("name")
@with_appcontext
def pause_schedule(name: str) -> None:
    """Fire schedule NAME no more, in any process."""
    with explained():
        changed = entry(current_runtime(), name).pause(by=getpass.getuser())
    click.echo(f"{name} is paused." if changed else f"{name} was paused already.")


@cron.command("resume")
@click.argument("name")
@with_appcontext
def resume_schedule(name: str) -> None:
    """Fire schedule NAME again, from now on."""
    with explained():
        changed = entry(current_runtime(), name).resume()
    click.echo(f"{name} goes on." if changed else f"{name} was not paused.")


def _document(one: ScheduleEntry) -> dict[str, Any]:
    known = {field.name: getattr(one, field.name) for field in fields(one) if not field.name.startswith("_")}
    return {**known, "next_runs": list(one.next_runs())}


def _time(instant: datetime | None) -> str:
    return "-" if instant is None else f"{instant:%Y-%m-%d %H:%M:%S}Z"


def _state(one: ScheduleEntry) -> str:
    if one.last_error:
        return f"broken: {one.last_error}"
    if one.is_paused:
        return "paused" + (f" by {one.paused_by}" if one.paused_by else "")
    return "" if one.is_declared else "not declared here"
