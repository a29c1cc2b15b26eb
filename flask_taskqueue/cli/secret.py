"""``flask taskqueue webhook-secret``."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from ..core import signatures
from .current import current_runtime
from .options import json_option
from .output import echo_json


@click.command("webhook-secret")
@click.argument("target", required=False)
@json_option
@with_appcontext
def webhook_secret(target: str | None, as_json: bool) -> None:
    """Print the secret by which TARGET, a URL or host:port, verifies deliveries (Standard Webhooks)."""
    if target is None:
        raise click.UsageError(
            "each receiver has a secret of its own: name the URL that tasks are sent to, "
            "such as flask taskqueue webhook-secret https://example.com/hook"
        )
    secret = signatures.webhook_secret(current_runtime().keys.webhook, target)
    if as_json:
        echo_json({"secret": secret})
    else:
        click.echo(secret)
