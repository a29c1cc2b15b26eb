"""The statistics of queues."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from ..core.errors import UnknownQueueError
from ..core.queues.slowdowns import enforced
from ..core.queues.statistics import QueueStatistics
from ..core.times import to_datetime
from ..runtime import Runtime
from ..store import QueueActivity


def statistics(runtime: Runtime, names: Collection[str] | None = None) -> list[QueueStatistics]:
    """Return the statistics of some queues, or of all, by name. Raises `UnknownQueueError`."""
    runtime.see_queues()
    store = runtime.store
    with store.reading() as connection:
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
            enforced_rate=enforced(gates[name].rate, name, slowdowns, gates[name].now),
        )
        for name in chosen
    ]


def _statistics_of(
    row: sa.Row[Any], activity: QueueActivity, *, enforced_rate: float | None
) -> QueueStatistics:
    counts = activity.counts
    return QueueStatistics(
        queue=row.name,
        scheduled=counts.unclaimed,
        in_flight=counts.leased,
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
    )
