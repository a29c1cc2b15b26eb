"""The queues page, and the actions on a queue."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from flask import g, request

from ..api import added_queues, receivers
from ..api.queue import Queue
from ..api.statistics import queue_counts
from ..core.errors import ConfigurationError
from ..core.settings.queue import QueueSettings
from ..runtime import Runtime
from .overview import queue_lines
from .rendering import NOBODY, Page, PlannedAction

_LIMITS = ("rate", "bucket_size", "max_concurrent", "rate_per_key", "bucket_size_per_key")
_SETTINGS = ("priority", "deadline", "retry", "target", "tombstone_ttl")


def page(runtime: Runtime) -> Page:
    """Show every queue with its limits."""
    store = runtime.store
    runtime.see_queues()
    with store.reading() as connection:
        lines = queue_lines(runtime, connection, queue_counts(runtime, connection))
        added = {queue.name: _settings(queue) for queue in store.added_queues.all(connection)}
    configured = sorted(runtime.settings.queues)
    data = {"queues": lines, "configured": configured, "added": added}
    return Page(template="queues.html", title="Queues", data=data)


def add(runtime: Runtime) -> PlannedAction:
    """Add a queue beside those that are configured."""
    name, given = request.form.get("name", "").strip(), _given(request.form)
    changes = ", ".join(f"{setting}={value}" for setting, value in given.items())
    return PlannedAction(
        "add-queue",
        f"{name}: {changes}" if changes else name,
        partial(added_queues.add_queue, runtime, name, given, None, origin="dashboard"),
    )


def change(runtime: Runtime, queue: str) -> PlannedAction:
    """Change settings of an added queue: an empty field means the default."""
    given = {name: None for name in _SETTINGS if name in request.form} | _given(request.form)
    changes = ", ".join(f"{setting}={value}" for setting, value in given.items())
    return PlannedAction(
        "change-queue",
        f"{queue}: {changes}",
        partial(added_queues.change_queue, runtime, queue, given, None),
    )


def delete(runtime: Runtime, queue: str) -> PlannedAction:
    """Delete an added queue and cancel its tasks."""
    return PlannedAction(
        "delete-queue", queue, partial(added_queues.delete_queue, runtime, queue, None)
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


def close_circuit(runtime: Runtime, target: str) -> PlannedAction:
    """Send tasks to a receiver that keeps failing again at once."""
    return PlannedAction("close-circuit", target, partial(receivers.close_circuit, runtime, target))


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


def _settings(queue: QueueSettings) -> dict[str, Any]:
    """Return the settings of an added queue beside its limits, as its form shows them."""
    known = {name: getattr(queue, name) for name in _SETTINGS}
    return known | {"retry": None if queue.retry is None else queue.retry.to_json()}


def _given(form: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings in a form whose fields are not empty."""
    texts = {name: form.get(name, "").strip() for name in (*_LIMITS, *_SETTINGS)}
    return {name: _setting(name, text) for name, text in texts.items() if text}


def _setting(name: str, text: str) -> Any:
    if name in _LIMITS:
        return _limit(name, text)
    if name not in ("priority", "retry"):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{name} cannot be read as JSON: {error}") from error


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
