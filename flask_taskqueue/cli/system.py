"""``flask taskqueue doctor``, ``health``, ``routes`` and ``webhook-secret``."""

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
from ..core.diagnosis.facts import Finding
from ..core.durations import seconds
from ..core.errors import ConfigurationError
from ..core.times import plural
from ..web.monitoring.health import Probe, dispatching
from ..web.rules import worker_rules
from ..web.worker import Worker
from .options import FAILED, UNAVAILABLE, current_runtime, json_option
from .output import chatter, echo, echo_json, echo_table

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
    """Check for what keeps tasks from running, and say what to do; exit code 1 for problems.

    Each worker route gets a ping: a delivery that passes the app's hooks but reaches no handler.
    """
    findings = diagnosis.findings(current_runtime())
    problems = sum(finding.level == "error" for finding in findings)
    if as_json:
        echo_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            _show(finding)
        warnings = sum(finding.level == "warning" for finding in findings)
        echo(f"{plural(problems, 'problem')}, {plural(warnings, 'warning')}.")
    if problems:
        raise click.exceptions.Exit(FAILED)


def _show(finding: Finding) -> None:
    mark, colour = _MARKS[finding.level]
    echo(finding.text, mark=f"{click.style(mark, fg=colour)} ")
    if finding.remedy:
        place = f"  (docs: {finding.anchor})" if finding.anchor else ""
        echo(f"  → {finding.remedy}{place}")


@click.command("health")
@click.option(
    "--max-latency",
    help='How long a due task may wait, such as "5m".  [default: TASKQUEUE_HEALTH_MAX_LATENCY]',
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document with stable keys.")
@with_appcontext
def health(max_latency: str | None, as_json: bool) -> None:
    """Check whether tasks are attempted in time.

    Exit code 0 if they are, 1 if one waits too long, 69 without a dispatcher or a database.
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
    result = Probe(runtime).ask(lambda: dispatching(runtime, limit, in_detail=True))
    if as_json:
        echo(json.dumps(result.document, indent=2))
    elif result.ok:
        echo(
            f"ok: dispatchers {result.dispatchers}, the oldest due task has waited "
            f"{result.oldest_due_seconds:g} s"
        )
    if not as_json:
        for problem in (*result.problems, *(f"warning: {text}" for text in result.warnings)):
            chatter(problem)
    sys.exit(0 if result.ok else FAILED if result.reached else UNAVAILABLE)


@click.command("routes")
@json_option
@with_appcontext
def routes(as_json: bool) -> None:
    """List the worker routes with the defaults for their tasks."""
    current_runtime()
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    documents = [_document(rule, worker) for rule, worker in worker_rules(app)]
    documents.sort(key=lambda document: str(document["rule"]))
    if as_json:
        echo_json(documents)
    elif documents:
        rows = [
            (
                document["rule"],
                ", ".join(document["methods"]),
                document["queue"] or "-",
                "-" if document["deadline"] is None else f"{document['deadline']:g} s",
                "transactional" if document["transactional"] else "-",
                document["handler"],
            )
            for document in documents
        ]
        echo_table(("ROUTE", "METHODS", "QUEUE", "DEADLINE", "MODE", "HANDLER"), rows)
    else:
        chatter("The app declares no worker routes.")


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
    """Print the secret with which TARGET, a URL or host:port, verifies deliveries.

    Deliveries are signed as Standard Webhooks says.
    """
    if target is None:
        raise click.UsageError(
            "each receiver has its own secret: give the URL that tasks are sent to, "
            "such as flask taskqueue webhook-secret https://example.com/hook"
        )
    secret = signatures.webhook_secret(current_runtime().keys.webhook, target)
    if as_json:
        echo_json({"secret": secret})
    else:
        echo(secret)
