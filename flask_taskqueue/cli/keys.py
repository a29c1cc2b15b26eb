"""``flask taskqueue rotate-keys``."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from ..store import Rotated
from .current import current_runtime
from .options import json_option
from .output import echo_json


@click.command("rotate-keys")
@json_option
@with_appcontext
def rotate_keys(as_json: bool) -> None:
    """Encrypt what tasks hold with the newest of TASKQUEUE_ENCRYPTION_KEYS, where it is plain or of an older one."""
    runtime = current_runtime()
    if not runtime.vault.seals:
        raise click.ClickException("there are no TASKQUEUE_ENCRYPTION_KEYS to encrypt with")
    runtime.store.ensure_queues()
    total = sum(runtime.store.sealed.rotate(runtime.store.database), Rotated())
    if as_json:
        echo_json({"encrypted": total.changed, "unreadable": total.unreadable})
    else:
        click.echo(f"{total.changed} rows are encrypted with the newest key now.")
    if total.unreadable:
        raise click.ClickException(f"{total.unreadable} rows are of other keys than TASKQUEUE_ENCRYPTION_KEYS; they were left as they are")
