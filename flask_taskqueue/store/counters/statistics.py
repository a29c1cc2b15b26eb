"""The statistics of queues: exact values that are cheap, however many tasks there are."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import sqlalchemy as sa

from ..database.dialects import Dialect
from ..database.tables import Tables
from .counters import Counters
from .queue_counts import QueueCounts, exact_counts


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueActivity:
    """The tasks of one queue, and how many attempts ended recently."""

    counts: QueueCounts = field(default_factory=QueueCounts)
    last_minute: int = 0
    last_hour: int = 0
    failed_last_hour: int = 0


class Statistics:
    """A reader of the statistics of queues.

    Finished tasks are counted as they finish (see `Counters`), live ones in a range of their index.
    """

    def __init__(self, tables: Tables, dialect: Dialect, counters: Counters) -> None:
        self._tables = tables
        self._now = dialect.now
        self._counters = counters

    def of(self, connection: sa.Connection, queues: Collection[str]) -> dict[str, QueueActivity]:
        """Return the statistics of these queues, as of one moment."""
        statement = exact_counts(
            self._tables, self._now, self._counters.totals_by_queue(), queues=queues
        )
        found = {
            row.name: QueueActivity(
                counts=QueueCounts.of(row),
                last_minute=row.last_minute,
                last_hour=row.last_hour,
                failed_last_hour=row.failed_last_hour,
            )
            for row in connection.execute(statement)
        }
        return {name: found.get(name, QueueActivity()) for name in queues}
