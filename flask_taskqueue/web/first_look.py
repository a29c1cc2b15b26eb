"""A look at an application that is whole: at its first request, and before a dispatcher works."""

from __future__ import annotations

from collections.abc import Mapping

from flask import Flask
from flask.signals import request_started

from ..core.queue_settings import QueueSettings, check_configured
from ..runtime import Runtime
from .rules import check_routes, worker_of


def check_application(app: Flask) -> None:
    """Raise `ConfigurationError` or `UnknownQueueError` for what cannot work and could not be known before."""
    runtime: Runtime = app.extensions["taskqueue"]
    runtime.binding.check(app)
    check_routes(app)
    check_queues(app, runtime.settings.queues)


def check_queues(app: Flask, queues: Mapping[str, QueueSettings]) -> None:
    """Raise `UnknownQueueError` if a worker of an application is for a queue that is not configured."""
    for rule in app.url_map.iter_rules():
        worker = worker_of(app, rule)
        if worker is not None and worker.route.queue is not None:
            check_configured(worker.route.queue, queues, f"worker {rule.endpoint!r}")


def check_at_first_request(app: Flask) -> None:
    """Look at the first request, and again when there are more routes. A request fails as long as something cannot work."""
    right: list[int] = []

    def check(app: Flask, **_: object) -> None:
        rules = len(app.url_map._rules)
        if right != [rules]:
            check_application(app)
            right[:] = [rules]

    request_started.connect(check, app, weak=False)
