"""``flask taskqueue why``."""

from __future__ import annotations

import json
from dataclasses import asdict

import click
from flask.cli import with_appcontext

from .. import diagnosis
from .current import current_runtime, explained


@click.command("why")
@click.argument("task_id", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="As JSON, with stable keys.")
@with_appcontext
def why(task_id: str, as_json: bool) -> None:
    """Say in one sentence what task ID waits for, or what became of it."""
    with explained():
        found = diagnosis.why(current_runtime(), task_id)
    if as_json:
        click.echo(json.dumps({"id": task_id, **asdict(found)}, default=lambda value: value.isoformat(), indent=2))
        return
    click.echo(found.sentence)
