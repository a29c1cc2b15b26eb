"""The rpcs that show, pause, resume and purge queues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import sqlalchemy as sa

from ..api.changes import joins_session
from ..api.statistics import statistics
from ..core.rpc.messages import Fields
from ..core.rpc.resource_names import QueueName, location_name
from ..core.rpc.wire import duration_text, timestamp_text
from ..core.settings.queue import LIMITS, QueueSettings
from ..core.times import to_micros
from ..runtime import QueueLookup
from . import tasks
from .context import Context, Reply, required
from .queue_filters import queue_filter
from .retry_config import retry_config

_MOST = 9800
FASTEST, CONCURRENT = 500.0, 1000
"""What Cloud Tasks shows for a queue without limits, and the highest rate that it takes."""


def get(context: Context, fields: Fields) -> Reply:
    """Return a queue."""
    return shown_queue(context, context.queue_of(fields), fields)


def list_all(context: Context, fields: Fields) -> Reply:
    """Return a page of queues, by name."""
    parent = context.check_parent(location_name(required(fields, "parent")))
    size, fits = tasks.page_size(fields, _MOST), queue_filter(fields.get("filter", ""))
    after = tasks.page_start(fields.get("pageToken", ""))
    runtime = context.runtime
    rows = _rows(context)
    added = runtime.store.read(
        lambda connection: {
            queue.name: queue for queue in runtime.store.added_queues.all(connection)
        }
    )
    known = {**added, **runtime.settings.queues}
    names = sorted(name for name in known if name > after)
    shown = [
        _shown(context, QueueName(parent, name), known[name], rows.get(name), fields)
        for name in names[:size]
    ]
    more = {"nextPageToken": tasks.page_token(names[size - 1])} if len(names) > size else {}
    found = [queue for queue in shown if fits(queue)]
    return ({"queues": found} if found else {}) | more


def purge(context: Context, fields: Fields) -> Reply:
    """Cancel the tasks of a queue."""
    name = context.queue_of(fields)
    work = partial(context.queue(name).purge, transactional=context.transactional)
    context.change("purge", name.queue, work)
    return shown_queue(context, name, fields)


def pause(context: Context, fields: Fields) -> Reply:
    """Pause a queue."""
    name = context.queue_of(fields)
    by = None if context.actor is None else context.actor.who
    work = partial(context.queue(name).pause, by, transactional=context.transactional)
    context.change("pause", name.queue, work)
    return {**shown_queue(context, name, fields), "state": "PAUSED"}


def resume(context: Context, fields: Fields) -> Reply:
    """Resume a queue."""
    name = context.queue_of(fields)
    work = partial(context.queue(name).resume, transactional=context.transactional)
    context.change("resume", name.queue, work)
    return {**shown_queue(context, name, fields), "state": "RUNNING"}


def shown_queue(context: Context, name: QueueName, fields: Fields) -> Reply:
    """Return a queue as its clients see it now. Raises `UnknownQueueError`."""
    settings = QueueLookup(context.runtime, context.transactional)(name.queue)
    return _shown(context, name, settings, _rows(context).get(name.queue), fields)


def _rows(context: Context) -> Mapping[str, sa.Row[Any]]:
    """Return the rows of the queues, as far as they are committed.

    Configured ones are given theirs, unless the session's transaction may be doing so: another one
    would have to wait for it.
    """
    runtime = context.runtime
    if not joins_session(runtime, context.transactional):
        runtime.see_queues()
    return runtime.store.read(
        lambda connection: {row.name: row for row in runtime.store.queues.rows(connection)}
    )


def _shown(
    context: Context,
    name: QueueName,
    settings: QueueSettings,
    row: sa.Row[Any] | None,
    fields: Fields,
) -> Reply:
    """Return a queue; its statistics only if they are asked for.

    The limits of a configured queue are those of its row, which are changed while the app runs. A
    queue that is part of a transaction has no row that can be read yet.
    """
    if row is not None and name.queue in context.runtime.settings.queues:
        settings = replace(settings, **{limit: getattr(row, limit) for limit in LIMITS})
    is_open = row is None or row.paused_at is None
    reply: Reply = {
        "name": str(name),
        "rateLimits": {
            "maxDispatchesPerSecond": FASTEST if settings.rate is None else settings.rate,
            "maxBurstSize": settings.bucket_size,
            "maxConcurrentDispatches": settings.max_concurrent or CONCURRENT,
        },
        "retryConfig": retry_config(settings.retry or context.runtime.settings.retry),
        "state": "RUNNING" if is_open and settings.rate != 0 else "PAUSED",
    }
    if row is not None and row.purged_at is not None:
        reply["purgeTime"] = timestamp_text(row.purged_at)
    if context.version == "v2":
        return reply
    reply["type"] = "PULL" if settings.is_pulled else "PUSH"
    if settings.tombstone_ttl is not None:
        reply["tombstoneTtl"] = duration_text(settings.tombstone_ttl)
    asked: frozenset[str] = fields.get("readMask", frozenset())
    if any(path.partition(".")[0] == "stats" for path in asked):
        reply["stats"] = _statistics(context, name)
    return reply


def _statistics(context: Context, name: QueueName) -> Reply:
    found = statistics(context.runtime, [name.queue])[0]
    reply: Reply = {
        "tasksCount": str(found.tasks),
        "executedLastMinuteCount": str(found.executed_last_minute),
        "concurrentDispatchesCount": str(found.in_flight),
        "effectiveExecutionRate": FASTEST if found.enforced_rate is None else found.enforced_rate,
    }
    if found.oldest_eta is not None:
        reply["oldestEstimatedArrivalTime"] = timestamp_text(to_micros(found.oldest_eta))
    return reply
