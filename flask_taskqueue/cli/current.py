"""The runtime that a command works on."""

from __future__ import annotations

from flask import current_app

from ..runtime import Runtime
from .exits import Failure


def current_runtime() -> Runtime:
    """The current application's runtime. Ends the command with a sentence if it has none."""
    runtime = current_app.extensions.get("taskqueue")
    if not isinstance(runtime, Runtime):
        raise Failure("the application has no task queue: call TaskQueue(app), or tasks.init_app(app)")
    return runtime
