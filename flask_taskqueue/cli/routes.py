"""``flask taskqueue routes``."""

from __future__ import annotations

from typing import Any

import click
from flask import Flask, current_app
from flask.cli import with_appcontext
from werkzeug.routing import Rule

from ..core.durations import seconds
from ..web.worker import Worker
from .current import current_runtime
from .options import json_option
from .output import chatter, echo_json
from .table import echo_table


@click.command("routes")
@json_option
@with_appcontext
def routes(as_json: bool) -> None:
    """Show the routes at which handlers answer, and what their tasks have unless they say otherwise."""
    current_runtime()
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    found = [_document(rule, worker) for rule in app.url_map.iter_rules() if (worker := _worker(app, rule)) is not None]
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


def _worker(app: Flask, rule: Rule) -> Worker[..., Any] | None:
    worker = getattr(app.view_functions.get(rule.endpoint), "__self__", None)
    return worker if isinstance(worker, Worker) else None


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
