"""The statistics of queues, and how many of their tasks wait, run and have ended."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from ..core.errors import UnknownQueueError
from ..core.queues.slowdowns import enforced
from ..core.queues.statistics import QueueStatistics
from ..core.times import to_datetime
from ..runtime import Runtime
from ..store import CAP, QueueActivity, QueueCounts, Store


def statistics(runtime: Runtime, names: Collection[str] | None = None) -> list[QueueStatistics]:
    """Return the statistics of some queues, or of all, by name. Raises `UnknownQueueError`."""
    runtime.see_queues()
    return runtime.store.read(lambda reader: _statistics(runtime.store, reader, names))


def _statistics(
    store: Store, connection: sa.Connection, names: Collection[str] | None
) -> list[QueueStatistics]:
    rows = {row.name: row for row in store.queues.rows(connection)}
    chosen = sorted(rows) if names is None else list(names)
    for name in chosen:
        if name not in rows:
            raise UnknownQueueError(
                f"there is no queue {name!r}; there are {', '.join(sorted(rows))}"
            )
    counted = store.statistics.of(connection, chosen)
    gates = store.queues.gates(connection, chosen)
    slowdowns = store.slowdowns.active(connection)
    return [
        _statistics_of(
            rows[name],
            counted[name],
            enforced_rate=enforced(gate.rate, name, slowdowns, gate.now)
            if gate
            else rows[name].rate,
        )
        for name, gate in ((name, gates.get(name)) for name in chosen)
    ]


def _statistics_of(
    row: sa.Row[Any], activity: QueueActivity, *, enforced_rate: float | None
) -> QueueStatistics:
    counts = activity.counts
    return QueueStatistics(
        queue=row.name,
        scheduled=counts.unclaimed,
        in_flight=counts.leased,
        forwarded=counts.forwarded,
        waiting_for_key=counts.waiting,
        succeeded=counts.succeeded,
        dead=counts.dead,
        cancelled=counts.cancelled,
        oldest_eta=None if counts.first_due_at is None else to_datetime(counts.first_due_at),
        executed_last_minute=activity.last_minute,
        executed_last_hour=activity.last_hour,
        failed_last_hour=activity.failed_last_hour,
        rate=row.rate,
        bucket_size=row.bucket_size,
        max_concurrent=row.max_concurrent,
        rate_per_key=row.rate_per_key,
        bucket_size_per_key=row.bucket_size_per_key,
        enforced_rate=enforced_rate,
        paused_at=None if row.paused_at is None else to_datetime(row.paused_at),
        paused_by=row.paused_by,
        mode="pull" if row.mode == "pull" else "push",
    )


def queue_counts(runtime: Runtime, connection: sa.Connection) -> dict[str, QueueCounts]:
    """Count the tasks of every queue, by name.

    The dashboard, the commands and the checks all show these numbers. Tasks that have not ended are
    counted up to the cap. Those of pull queues wait for no dispatcher: none is the oldest due.
    """
    store = runtime.store
    live, ended = store.backlog.of(connection), store.counters.ended(connection)
    rows, nothing = list(store.queues.rows(connection)), QueueCounts()
    pulled = {row.name for row in rows if row.mode == "pull"}
    found = {row.name: live.get(row.name, nothing) + ended.get(row.name, nothing) for row in rows}
    return {
        name: replace(counts, due_since=None) if name in pulled else counts
        for name, counts in found.items()
    }


def total(counts: Mapping[str, QueueCounts], paused: Collection[str]) -> QueueCounts:
    """Return the counts of all queues together.

    Tasks of the ``paused`` queues are counted, but wait on purpose: they are never the oldest due.
    """
    return sum(
        (
            replace(found, due_since=None) if name in paused else found
            for name, found in counts.items()
        ),
        QueueCounts(),
    )


def capped(value: int) -> str:
    """Format a number of tasks that is counted only up to the cap."""
    return f"{CAP:,}+" if value >= CAP else f"{value:,}"
