"""The route by which a page of the app shows how far a task has come."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Flask, Response, jsonify, url_for

from ..core.errors import ConfigurationError, TaskQueueError
from ..core.security.progress_tokens import progress_token, task_of_token
from ..core.states import State
from ..core.tasks.task import Progress, progress_report
from ..runtime import Runtime

BLUEPRINT = "taskqueue_progress"
_UNKNOWN: dict[str, Any] = {"state": "unknown", "done": 0, "total": None, "note": None}


def mount(app: Flask, runtime: Runtime) -> None:
    """Register the route if the settings ask for it."""
    if not runtime.settings.progress:
        return
    blueprint = Blueprint(BLUEPRINT, __name__)

    def progress(token: str) -> tuple[Response, int]:
        return _report(runtime, token)

    blueprint.add_url_rule(f"{runtime.settings.progress_url}/<token>", "progress", progress)
    blueprint.after_request(_not_kept)
    app.register_blueprint(blueprint)


def progress_url(runtime: Runtime, task_id: str) -> str:
    """Return the URL of a task's progress; see `TaskQueue.progress_url`."""
    if not runtime.settings.progress:
        raise ConfigurationError(
            "the route that shows the progress of tasks is closed: set TASKQUEUE_PROGRESS = True"
        )
    return url_for(f"{BLUEPRINT}.progress", token=progress_token(runtime.secrets, task_id))


def _report(runtime: Runtime, token: str) -> tuple[Response, int]:
    """Return the progress of the token's task.

    A script that asks goes on until ``finished`` is true: also for a task that is gone, but not
    while the database is away.
    """
    task_id = task_of_token(runtime.secrets, token)
    if task_id is None:
        return _unknown(404)
    store = runtime.store
    try:
        row = store.read(lambda connection: store.tasks.progress_of(connection, task_id))
    except TaskQueueError:
        return _unknown(503)
    if row is None:
        return _unknown(404)
    return jsonify(progress_report(State(row.state), Progress.stored(row.progress))), 200


def _unknown(status: int) -> tuple[Response, int]:
    return jsonify(_UNKNOWN | {"finished": status == 404}), status


def _not_kept(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response
