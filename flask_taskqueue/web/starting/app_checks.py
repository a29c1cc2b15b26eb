"""The checks of a complete application, whatever the order of its extensions.

They are made at its first request, and before a dispatcher works.
"""

from __future__ import annotations

from flask import Flask
from flask.signals import request_started

from ...core.errors import ConfigurationError
from ...core.settings.app import PREFIX
from ...core.settings.queue import check_configured
from ...process.logs import get_logger
from ...runtime import Runtime
from ..rules import check_reached, check_routes, worker_rules
from ..worker import Route

_logger = get_logger()


def check_kind(app: object) -> None:
    """Raise `ConfigurationError` for an app that this extension cannot serve.

    That is one that is not Flask's, but Quart's for example, one that has a `TaskQueue` already, or
    one with ``host_matching``.
    """
    if not isinstance(app, Flask):
        kind = f"{type(app).__module__}.{type(app).__qualname__}"
        raise ConfigurationError(
            f"TaskQueue needs a Flask application, and this is a {kind}: handlers run in threads, "
            "within WSGI requests. An ASGI server can run a Flask application too"
        )
    if "taskqueue" in app.extensions:
        raise ConfigurationError(
            f"the application {app.name!r} has a TaskQueue already; make one only, TaskQueue(app, "
            "db) or TaskQueue(app) without Flask-SQLAlchemy, and call its init_app once at most"
        )
    _check_hosts(app)


def check_application(app: Flask) -> None:
    """Check what could not be known before the application was complete.

    Raises `ConfigurationError` or `UnknownQueueError` for anything that cannot work.
    """
    runtime: Runtime = app.extensions["taskqueue"]
    _check_hosts(app)
    runtime.binding.check(app)
    check_workers(app, runtime)


def _check_hosts(app: Flask) -> None:
    if app.url_map.host_matching:
        raise ConfigurationError(
            f"application {app.name!r} has host_matching=True, with which no request reaches a "
            "route that names no host, such as those of workers, task functions, health checks "
            "and the dashboard: leave host_matching out, or use subdomain_matching=True"
        )


def check_workers(app: Flask, runtime: Runtime) -> None:
    """Check that the workers of an application can work there.

    Raises `ConfigurationError` or `UnknownQueueError` for one that cannot.
    """
    check_routes(app)
    for rule, worker in worker_rules(app):
        check_reached(app, rule, runtime.settings)
        check_route(worker.route, rule.endpoint, runtime)


def check_route(route: Route, endpoint: str, runtime: Runtime) -> None:
    """Check that an application has what a worker declares.

    That is its queue and, if it is transactional, a session. Raises `UnknownQueueError` and
    `ConfigurationError`.
    """
    if route.queue is not None:
        check_configured(route.queue, runtime.settings.queues, f"worker {endpoint!r}")
    if route.transactional and runtime.binding.db is None:
        raise ConfigurationError(
            f"worker {endpoint!r} is transactional, but the queue has a database of its own, "
            "which no session shares: give TaskQueue the "
            "application's Flask-SQLAlchemy, or leave transactional out"
        )


def check_at_first_request(app: Flask) -> None:
    """Check the application at its first request, after which routes no longer change.

    Requests fail for as long as something cannot work. Settings that were changed after they were
    read, now, are named in a warning, because they have no effect.
    """
    read = _given(app)

    def check(app: Flask, **_: object) -> None:
        check_application(app)
        late = sorted(key for key, value in _given(app).items() if read.get(key) != value)
        if late:
            _logger.warning(
                "%s changed after TaskQueue was set up, which has no effect: set it before "
                "TaskQueue(app) or tasks.init_app(app)",
                ", ".join(late),
            )
        request_started.disconnect(check, app)  # a signal without listeners costs nothing

    request_started.connect(check, app, weak=False)


def _given(app: Flask) -> dict[str, object]:
    """Return the settings in an app's configuration as they are given."""
    return {key: value for key, value in app.config.items() if key.startswith(PREFIX)}
