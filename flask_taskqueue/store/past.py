"""The past: attempts by quarters of an hour, for thirty days, whatever becomes of the tasks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from .dashboard_tables import PAST_COUNTS
from .dialects import Dialect
from .tables import Tables

QUARTER = 90
"""How many slots of the tally are one row here."""
KEPT = 30 * 96 * QUARTER
"""How many slots a row is kept."""


class Past:
    """The statements of one database. Each takes the connection whose transaction it is part of."""

    def __init__(self, tables: Tables, dialect: Dialect, slot: sa.ColumnElement[int]) -> None:
        self._past = tables.past
        self._slot = slot
        self._add = dialect.add_up(tables.past, PAST_COUNTS)

    def add(self, connection: sa.Connection, rows: Iterable[sa.Row[Any]]) -> None:
        """Add up rows that leave the tally."""
        sums: dict[tuple[str, int], dict[str, int]] = defaultdict(lambda: dict.fromkeys(PAST_COUNTS, 0))
        for row in rows:
            if row.attempts:
                counts = sums[row.queue, row.slot - row.slot % QUARTER]
                for name in PAST_COUNTS:
                    counts[name] += getattr(row, name)
        if sums:
            connection.execute(self._add, [{"queue": queue, "slot": slot, **counts} for (queue, slot), counts in sorted(sums.items())])

    def prune(self, connection: sa.Connection) -> int:
        """Forget what is older than thirty days; how many rows."""
        old = self._past.c.slot <= self._slot - KEPT - QUARTER
        return connection.execute(sa.delete(self._past).where(old)).rowcount
