"""The queues page, and the actions on a queue."""

from __future__ import annotations

from functools import partial
from typing import Any

from flask import g, request

from ..api.queue import Queue
from ..api.statistics import queue_counts
from ..core.errors import ConfigurationError
from ..runtime import Runtime
from .overview import queue_lines
from .rendering import NOBODY, Page, PlannedAction

_LIMITS = ("rate", "bucket_size", "max_concurrent", "rate_per_key", "bucket_size_per_key")


def page(runtime: Runtime) -> Page:
    """Show every queue with its limits."""
    store = runtime.store
    runtime.see_queues()
    with store.reading() as connection:
        lines = queue_lines(runtime, connection, queue_counts(runtime, connection))
    configured = sorted(runtime.settings.queues)
    return Page(
        template="queues.html", title="Queues", data={"queues": lines, "configured": configured}
    )


def pause(runtime: Runtime, queue: str) -> PlannedAction:
    """Pause a queue."""
    return PlannedAction(
        "pause",
        queue,
        partial(Queue(queue, runtime).pause, by=g.taskqueue_access.user or NOBODY),
    )


def resume(runtime: Runtime, queue: str) -> PlannedAction:
    """Resume a queue."""
    return PlannedAction("resume", queue, Queue(queue, runtime).resume)


def purge(runtime: Runtime, queue: str) -> PlannedAction:
    """Cancel a queue's tasks that have not ended."""
    return PlannedAction("purge", queue, Queue(queue, runtime).purge)


def requeue_dead(runtime: Runtime, queue: str) -> PlannedAction:
    """Requeue a queue's dead tasks."""
    return PlannedAction(
        "requeue", f"dead tasks of queue {queue}", Queue(queue, runtime).requeue_dead
    )


def configure(runtime: Runtime, queue: str) -> PlannedAction:
    """Change a queue's limits: an empty field means no limit, a missing one stays as it is."""
    limits = {
        name: _limit(name, request.form[name].strip()) for name in _LIMITS if name in request.form
    }
    changes = ", ".join(f"{name}={value}" for name, value in limits.items())
    return PlannedAction(
        "configure", f"{queue}: {changes}", partial(Queue(queue, runtime).configure, **limits)
    )


def _limit(name: str, text: str) -> Any:
    if not text:
        return None
    if name in ("rate", "rate_per_key"):
        return text
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ConfigurationError(
            f"{name} is {text[:40]!r}; it must be a whole number, or empty for no limit"
        )
    return int(text)
