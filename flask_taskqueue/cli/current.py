"""The runtime that a command works on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from flask import current_app

from ..core.errors import TaskQueueError
from ..runtime import Runtime
from .exits import Failure, failure


def current_runtime() -> Runtime:
    """The current application's runtime. Ends the command with a sentence if it has none."""
    runtime = current_app.extensions.get("taskqueue")
    if not isinstance(runtime, Runtime):
        raise Failure("the application has no task queue: call TaskQueue(app), or tasks.init_app(app)")
    return runtime


@contextmanager
def explained() -> Iterator[None]:
    """End a command with the sentence of an error, not with its traceback."""
    try:
        yield
    except TaskQueueError as error:
        raise failure(error) from error
