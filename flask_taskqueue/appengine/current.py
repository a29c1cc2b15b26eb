"""The app whose queue is meant."""

from __future__ import annotations

from flask import current_app, has_app_context

from ..runtime import Runtime


def current_runtime() -> Runtime:
    """Return the queue of the current application.

    Raises RuntimeError outside of an application context, and if `TaskQueue` was not set up there.
    """
    if not has_app_context():
        raise RuntimeError(
            "outside of an application context it is not known which application's queue is "
            "meant: use 'with app.app_context():'"
        )
    runtime = current_app.extensions.get("taskqueue")
    if not isinstance(runtime, Runtime):
        raise RuntimeError(
            f"application {current_app.name!r} has no task queue: call TaskQueue(app), or "
            "tasks.init_app(app)"
        )
    return runtime
