"""``flask taskqueue why``."""

from __future__ import annotations

from dataclasses import asdict

import click
from flask.cli import with_appcontext

from .. import diagnosis
from .current import current_runtime
from .ids import task_id_of
from .options import json_option
from .output import echo_json


@click.command("why")
@click.argument("task_id", metavar="ID")
@json_option
@with_appcontext
def why(task_id: str, as_json: bool) -> None:
    """Say in one sentence what task ID waits for, or what became of it."""
    runtime = current_runtime()
    chosen = task_id_of(runtime, task_id)
    found = diagnosis.why(runtime, chosen)
    if as_json:
        echo_json({"id": chosen, **asdict(found)})
    else:
        click.echo(found.sentence)
