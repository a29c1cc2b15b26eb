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
    """Say what task ID waits for, what matters first before the rest, or what became of it."""
    runtime = current_runtime()
    chosen = task_id_of(runtime, task_id)
    found = diagnosis.why(runtime, chosen)
    if as_json:
        echo_json({"id": chosen, **asdict(found), "also": found.also})
    else:
        click.echo("\n".join(found.sentences))
