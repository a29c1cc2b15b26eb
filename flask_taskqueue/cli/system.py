"""``flask taskqueue webhook-secret``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Any

import click
from flask import Flask, current_app
from flask.cli import with_appcontext
from werkzeug.routing import Rule

from .. import diagnosis
from ..core.delivery import signatures
from ..core.diagnosis.finding import Finding
from ..core.durations import seconds
from ..core.errors import ConfigurationError
from ..core.humanize import count
from ..web.health import Probe, dispatching
from ..web.rules import worker_rules
from ..web.worker import Worker
from .options import FAILED, UNAVAILABLE, current_runtime, json_option
from .output import chatter, echo_json, echo_table

_MARKS = {
    "ok": ("✓", "green"),
    "info": ("i", "blue"),
    "warning": ("!", "yellow"),
    "error": ("✕", "red"),
}


@click.command("doctor")
@json_option
@with_appcontext
def doctor(as_json: bool) -> None:
    """Look for what keeps tasks from running, with what to do about it; exit code 1 when something
    does.

    Each worker route gets a delivery that passes the application's hooks and that no handler sees.
    """
    found = diagnosis.findings(current_runtime())
    problems = sum(one.level == "error" for one in found)
    if as_json:
        echo_json([asdict(one) for one in found])
    else:
        for one in found:
            _show(one)
        click.echo(
            f"{count(problems, 'problem')}, "
            f"{count(sum(one.level == 'warning' for one in found), 'warning')}."
        )
    if problems:
        raise click.exceptions.Exit(FAILED)


def _show(finding: Finding) -> None:
    mark, colour = _MARKS[finding.level]
    click.echo(f"{click.style(mark, fg=colour)} {finding.text}")
    if finding.remedy:
        place = f"  (docs: {finding.anchor})" if finding.anchor else ""
        click.echo(f"  → {finding.remedy}{place}")


@click.command("health")
@click.option(
    "--max-latency",
    help='How long a due task may wait, such as "5m".  [default: TASKQUEUE_HEALTH_MAX_LATENCY]',
)
@click.option("--json", "as_json", is_flag=True, help="As JSON, with stable keys.")
@with_appcontext
def health(max_latency: str | None, as_json: bool) -> None:
    """Say whether tasks are attempted in time: exit code 0, 1 if one waits too long, 69 without
    a dispatcher or a database.
    """
    runtime = current_runtime()
    try:
        limit = (
            runtime.settings.health_max_latency
            if max_latency is None
            else seconds(max_latency, what="--max-latency")
        )
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
    found = Probe(runtime).ask(lambda: dispatching(runtime, limit, in_detail=True))
    if as_json:
        click.echo(json.dumps(found.document, indent=2))
    elif found.ok:
        click.echo(
            f"ok: dispatchers {found.dispatchers}, the oldest due task has waited "
            f"{found.oldest_due_seconds:g} s"
        )
    for problem in (
        () if as_json else (*found.problems, *(f"warning: {one}" for one in found.warnings))
    ):
        click.echo(problem, err=True)
    sys.exit(0 if found.ok else FAILED if found.reached else UNAVAILABLE)


@click.command("routes")
@json_option
@with_appcontext
def routes(as_json: bool) -> None:
    """Show the routes at which handlers answer, and what their tasks have unless they say
    otherwise.
    """
    current_runtime()
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    found = [_document(rule, worker) for rule, worker in worker_rules(app)]
    found.sort(key=lambda one: str(one["rule"]))
    if as_json:
        echo_json(found)
    elif found:
        rows = [
            (
                one["rule"],
                ", ".join(one["methods"]),
                one["queue"] or "-",
                "-" if one["deadline"] is None else f"{one['deadline']:g} s",
                "transactional" if one["transactional"] else "-",
                one["handler"],
            )
            for one in found
        ]
        echo_table(("ROUTE", "METHODS", "QUEUE", "DEADLINE", "MODE", "HANDLER"), rows)
    else:
        chatter("No handlers are declared.")


def _document(rule: Rule, worker: Worker[..., Any]) -> dict[str, Any]:
    route, function = worker.route, worker.function
    return {
        "rule": rule.rule,
        "methods": sorted(set(rule.methods or ()) - {"HEAD"}),
        "endpoint": rule.endpoint,
        "queue": route.queue,
        "deadline": None if route.deadline is None else seconds(route.deadline, what="deadline"),
        "transactional": route.transactional,
        "async": worker.is_async,
        "handler": f"{function.__module__}.{getattr(function, '__qualname__', '')}",
    }


@click.command("webhook-secret")
@click.argument("target", required=False)
@json_option
@with_appcontext
def webhook_secret(target: str | None, as_json: bool) -> None:
    """Print the secret by which TARGET, a URL or host:port, verifies deliveries (Standard
    Webhooks).
    """
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
