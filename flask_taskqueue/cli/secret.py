"""``flask taskqueue webhook-secret``."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from ..core.signatures import whsec
from .current import current_runtime
from .options import json_option
from .output import echo_json


@click.command("webhook-secret")
@json_option
@with_appcontext
def webhook_secret(as_json: bool) -> None:
    """Print the secret by which other hosts verify deliveries (Standard Webhooks)."""
    secret = whsec(current_runtime().keys.webhook[0])
    if as_json:
        echo_json({"secret": secret})
    else:
        click.echo(secret)
