"""``flask taskqueue prune``."""

from __future__ import annotations

from datetime import timedelta

import click
from flask.cli import with_appcontext

from ..core.counts import count
from ..engine.janitor import Retention
from .current import current_runtime
from .options import Duration, dry_run_option, json_option, yes_option
from .output import confirm, echo_changes, progress


@click.command("prune")
@click.option("--older-than", type=Duration(), help="Those that ended so long ago, such as 7d.  [default: as the settings keep them]")
@dry_run_option
@yes_option
@json_option
@with_appcontext
def prune(older_than: timedelta | None, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Forget finished tasks with their attempts, as the janitor does, or those that ended longer ago than you say.

    A name that is kept from being taken again (tombstone_ttl) stays as long as its queue says.
    """
    runtime = current_runtime()
    keep = None if older_than is None else older_than.total_seconds()
    kept = Retention.of(runtime.settings, keep=keep)
    with runtime.store.reading() as connection:
        matched = runtime.store.history.count(connection, keep_succeeded=kept.succeeded, keep_dead=kept.dead, tombstones=kept.tombstones)
    forgotten = 0
    if matched and not dry_run:
        confirm(f"This will forget {count(matched, 'finished task')}. Continue?", yes=yes)
        with progress(matched, "prune") as told:
            for some in runtime.prune(keep=keep):
                forgotten += some
                told(some)
    echo_changes("prune", matched=matched, changed=forgotten, dry_run=dry_run, as_json=as_json, verb="forget", past="Forgot")
