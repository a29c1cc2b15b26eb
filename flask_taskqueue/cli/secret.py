"""``flask taskqueue webhook-secret``."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from ..core.signatures import whsec
from .current import current_runtime


@click.command("webhook-secret")
@with_appcontext
def webhook_secret() -> None:
    """Print the secret by which other hosts verify deliveries (Standard Webhooks)."""
    click.echo(whsec(current_runtime().keys.webhook[0]))
