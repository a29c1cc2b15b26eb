"""``flask taskqueue rotate-keys``."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from ..store import Rotated
from .current import current_runtime


@click.command("rotate-keys")
@with_appcontext
def rotate_keys() -> None:
    """Encrypt what tasks hold with the newest of TASKQUEUE_ENCRYPTION_KEYS, where it is plain or of an older one."""
    runtime = current_runtime()
    if not runtime.vault.seals:
        raise click.ClickException("there are no TASKQUEUE_ENCRYPTION_KEYS to encrypt with")
    total = sum(runtime.store.sealed.rotate(runtime.store.database), Rotated())
    click.echo(f"{total.changed} rows are encrypted with the newest key now.")
    if total.unreadable:
        raise click.ClickException(f"{total.unreadable} rows are of other keys than TASKQUEUE_ENCRYPTION_KEYS; they were left as they are")
