"""The meter: counts that only ever grow, kept with what they count, whatever is pruned and whoever restarts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from ..core.measures import MEASURES
from .dialects import Dialect
from .sums import Sums
from .tables import Tables

_MANY = 50
"""How many rows there may be of the past before they are added up."""
_AT_ONCE = 500


class Meter:
    """The statements of one database. Each takes the connection whose transaction it is part of."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._meter = tables.meter
        self.sums = Sums(tables.meter, MEASURES, dialect)

    def add(self, connection: sa.Connection, counts: Iterable[tuple[str, Mapping[str, int]]], source: str) -> None:
        """Add what is measured of the counts of some queues, which are in their order."""
        for queue, found in counts:
            self.sums.add(connection, {"queue": queue, "source": source}, found)

    def merge(self, connection: sa.Connection) -> int:
        """Add the rows of all sources up, if there are many; how many there were."""
        meter = self._meter
        others = meter.c.source != ""
        if (connection.scalar(sa.select(sa.func.count()).select_from(meter).where(others)) or 0) <= _MANY:
            return 0
        rows = connection.execute(
            sa.select(meter).where(others).order_by(meter.c.queue, meter.c.source).limit(_AT_ONCE).with_for_update()
        ).all()
        sums: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(MEASURES, 0))
        for row in rows:
            for name in MEASURES:
                sums[row.queue][name] += getattr(row, name)
        mine = sa.and_(meter.c.queue == sa.bindparam("old_queue"), meter.c.source == sa.bindparam("old_source"))
        if rows:
            connection.execute(sa.delete(meter).where(mine), [{"old_queue": row.queue, "old_source": row.source} for row in rows])
            self.add(connection, sorted(sums.items()), "")
        return len(rows)
