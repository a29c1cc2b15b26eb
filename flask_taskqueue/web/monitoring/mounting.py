"""Monitoring routes, which tell machines how the queue is doing."""

from __future__ import annotations

from importlib.util import find_spec

from flask import Blueprint, Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from ...core.errors import ConfigurationError, TaskQueueError
from ...runtime import Runtime
from ..access import asked, has_token
from . import health
from .health import Probe

BLUEPRINT = "taskqueue_monitoring"
_CLOSED = (
    "closed: set TASKQUEUE_METRICS_TOKEN, and give it as a bearer token, or "
    "TASKQUEUE_METRICS_ACCESS\n"
)


def mount(app: Flask, runtime: Runtime) -> None:
    """Register the monitoring routes that the settings ask for.

    Raises `ConfigurationError` for metrics without prometheus-client.
    """
    settings = runtime.settings
    blueprint = Blueprint(BLUEPRINT, __name__)
    blueprint.after_request(_not_kept)
    if settings.metrics:
        if find_spec("prometheus_client") is None:
            raise ConfigurationError(
                "TASKQUEUE_METRICS needs prometheus-client: pip install "
                "'Flask-TaskQueue[prometheus]'"
            )
        blueprint.add_url_rule(settings.metrics_url, "metrics", lambda: _metrics(runtime))
    if settings.health:
        at, probe = settings.health_url, Probe(runtime)
        blueprint.add_url_rule(f"{at}/live", "live", lambda: _answer(health.Health()))
        blueprint.add_url_rule(
            f"{at}/ready", "ready", lambda: _answer(probe.ask(lambda: health.ready(runtime)))
        )
        blueprint.add_url_rule(
            f"{at}/dispatcher", "dispatcher", lambda: _answer(_dispatching(runtime, probe))
        )
    if settings.metrics or settings.health:
        app.register_blueprint(blueprint)


def _dispatching(runtime: Runtime, probe: Probe) -> health.Health:
    try:
        in_detail = _is_open(runtime)
    except HTTPException:  # it sends those to a login who may not see the metrics
        in_detail = False
    return probe.ask(
        lambda: health.dispatching(
            runtime, runtime.settings.health_max_latency, in_detail=in_detail
        )
    )


def _metrics(runtime: Runtime) -> Response:
    """Return the metrics if the request may see them."""
    from .metrics import exposition

    if not _is_open(runtime):
        if runtime.settings.metrics_token is not None:
            return Response(
                "the token is missing or wrong\n",
                401,
                {"WWW-Authenticate": "Bearer"},
                mimetype="text/plain",
            )
        return Response(_CLOSED, 403, mimetype="text/plain")
    try:
        body, content_type = exposition(runtime, request.headers.get("Accept", ""))
    except TaskQueueError as error:
        return Response(f"{error}\n", 503, mimetype="text/plain")
    return Response(body, content_type=content_type)


def _is_open(runtime: Runtime) -> bool:
    """Return whether the request has the token or is let in by the app's function."""
    token, access = runtime.settings.metrics_token, runtime.settings.metrics_access
    if token is not None and has_token(request, token):
        return True
    return access is not None and asked(access, "TASKQUEUE_METRICS_ACCESS") is True


def _answer(found: health.Health) -> tuple[Response, int]:
    return jsonify(found.document), 200 if found.ok else 503


def _not_kept(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response
