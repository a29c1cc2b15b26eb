"""The statistics of queues."""

from __future__ import annotations

from collections.abc import Collection

from ..core.errors import UnknownQueueError
from ..core.queues.slowdowns import enforced
from ..core.queues.statistics import QueueStatistics
from ..core.times import to_datetime
from ..runtime import Runtime


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
        QueueStatistics(
            queue=name,
            scheduled=counted[name].counts.unclaimed,
            in_flight=counted[name].counts.leased,
            waiting_for_key=counted[name].counts.waiting,
            succeeded=counted[name].counts.succeeded,
            dead=counted[name].counts.dead,
            cancelled=counted[name].counts.cancelled,
            oldest_eta=None
            if counted[name].counts.first_due_at is None
            else to_datetime(counted[name].counts.first_due_at or 0),
            executed_last_minute=counted[name].last_minute,
            executed_last_hour=counted[name].last_hour,
            failed_last_hour=counted[name].failed_last_hour,
            rate=rows[name].rate,
            bucket_size=rows[name].bucket_size,
            max_concurrent=rows[name].max_concurrent,
            enforced_rate=enforced(gates[name].rate, name, slowdowns, gates[name].now),
            paused_at=None if rows[name].paused_at is None else to_datetime(rows[name].paused_at),
            paused_by=rows[name].paused_by,
        )
        for name in chosen
    ]
