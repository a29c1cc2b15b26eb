"""``flask taskqueue init-db``."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from .current import current_runtime, explained


@click.command("init-db")
@with_appcontext
def init_db() -> None:
    """Create the queue's tables that are missing; harmless when they are there."""
    with explained():
        runtime = current_runtime()
        created = runtime.store.database.create_tables()
        runtime.store.ensure_queues()
    click.echo(f"Created {', '.join(created)}." if created else "The tables are there already.")
