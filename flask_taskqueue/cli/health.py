"""``flask taskqueue health``."""

from __future__ import annotations

import json
import sys

import click
from flask.cli import with_appcontext

from ..core.durations import seconds
from ..core.errors import ConfigurationError
from ..web.health import dispatching
from ..web.probe import Probe
from .current import current_runtime
from .exits import FAILED, UNAVAILABLE


@click.command("health")
@click.option("--max-latency", help='How long a due task may wait, such as "5m".  [default: TASKQUEUE_HEALTH_MAX_LATENCY]')
@click.option("--json", "as_json", is_flag=True, help="As JSON, with stable keys.")
@with_appcontext
def health(max_latency: str | None, as_json: bool) -> None:
    """Say whether tasks are attempted in time: exit code 0, 1 if one waits too long, 69 without a dispatcher or a database."""
    runtime = current_runtime()
    try:
        limit = runtime.settings.health_max_latency if max_latency is None else seconds(max_latency, what="--max-latency")
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
    found = Probe(runtime).ask(lambda: dispatching(runtime, limit, in_detail=True))
    if as_json:
        click.echo(json.dumps(found.document, indent=2))
    elif found.ok:
        click.echo(f"ok: dispatchers {found.dispatchers}, the oldest due task has waited {found.oldest_due_seconds:g} s")
    for problem in () if as_json else (*found.problems, *(f"warning: {one}" for one in found.warnings)):
        click.echo(problem, err=True)
    sys.exit(0 if found.ok else FAILED if found.reached else UNAVAILABLE)
