"""Whether anything is left over that nobody needs: locks, tasks that wait for nothing, counts
of what is not there.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from flask_taskqueue.core.queues.rates import bucket_key

from .history import History, Row


def unneeded_locks(history: History) -> Iterator[str]:
    """Rows of keys that no task has which has not ended; queues keep their buckets."""
    used = {row.lock_key for row in history.rows if row.state in ("scheduled", "leased")}
    buckets = {bucket_key(queue) for queue in history.left.statistics}
    yield from (f"a row of key {key}" for key in sorted({*history.left.locks} - used - buckets))


def stranded(history: History) -> Iterator[str]:
    """Tasks that wait for a key which no other task holds or is going to."""
    waiting: dict[str, list[Row]] = defaultdict(list)
    held = set()
    for row in history.rows:
        if row.lock_key is not None and row.state == "scheduled" and row.due_at is None:
            waiting[row.lock_key].append(row)
        elif row.state in ("scheduled", "leased"):
            held.add(row.lock_key)
    for key, rows in waiting.items():
        if key not in held:
            yield f"{len(rows)} tasks, first {rows[0].id}, wait for {key}, which nobody has"


def miscounted(history: History) -> Iterator[str]:
    """Statistics that the rows do not bear out."""
    for queue, counted in history.left.statistics.items():
        rows = [row for row in history.rows if row.queue == queue]
        states = Counter(row.state for row in rows)
        states["parked"] = sum(row.state == "scheduled" and row.due_at is None for row in rows)
        for state, count in counted.items():
            if count != states[state]:
                yield f"queue {queue} counts {count} {state}, and {states[state]} are"
