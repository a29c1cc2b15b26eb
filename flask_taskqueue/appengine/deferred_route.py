"""The route that makes deferred calls: a worker's, so that only deliveries reach it."""

from __future__ import annotations

from flask import Flask, request

from ..api.adding import add_task
from ..api.tasks import Tasks
from ..engine.own_address import own_subdomain
from ..runtime import Runtime
from ..web.parsed_rules import bound_rule
from ..web.rules import BLUEPRINT, check_new
from ..web.worker import Route, Worker
from .deferred_calls import DeferredCalls

URL = "/_ah/queue/deferred"
_ENDPOINT = "appengine.deferred"


def mount(app: Flask, runtime: Runtime) -> None:
    """Register the route, once, for an app that defers calls.

    Raises `ConfigurationError` if the app has a route of its own there.
    """
    if is_mounted(app):
        return
    calls = DeferredCalls(runtime)

    def deferred_call() -> str:
        calls.run(request.get_data())
        return "Success"

    route = Route(rule=URL, endpoint=_ENDPOINT)
    worker = Worker(
        deferred_call, route, Tasks.of(runtime), lambda spec: add_task(runtime, spec, None)
    )
    endpoint = f"{BLUEPRINT}.{_ENDPOINT}"
    check_new(app, bound_rule(URL, route.methods, endpoint, app.url_map))
    app.add_url_rule(
        URL,
        endpoint,
        worker.view,
        methods=list(route.methods),
        provide_automatic_options=False,
        subdomain=own_subdomain(app, runtime.settings),
    )


def is_mounted(app: Flask) -> bool:
    """Return whether an app has the route."""
    return f"{BLUEPRINT}.{_ENDPOINT}" in app.view_functions
