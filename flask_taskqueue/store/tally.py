"""The tally: counts of attempts and of finished tasks, kept with what they count."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from ..core.states import FINISHED, State
from .dialects import Dialect
from .prepared import Prepared
from .tables import COUNTS, Tables

SLOT = 10_000_000
"""Microseconds of a slot."""
_HOUR = 3600 * 1_000_000 // SLOT

Counts = dict[str, int]
Tallied = Mapping[str, Counts]
"""By queue."""


def changes(ended: Iterable[tuple[str, str]], by: int = 1) -> dict[str, Counts]:
    """The counts of (queue, state) pairs: so many tasks more, or fewer, in that state."""
    found: dict[str, Counts] = defaultdict(lambda: dict.fromkeys(COUNTS, 0))
    for queue, state in ended:
        if state in FINISHED:
            found[queue][State(state).value] += by
    return found


class Tally:
    """The statements of one database. Each takes the connection whose transaction it is part of."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._tally = tables.tally
        self._slot = dialect.now // SLOT
        values: dict[str, Any] = {column.name: sa.bindparam(column.name) for column in tables.tally.c}
        # Inline: else SQLAlchemy asks for the slot back, and SQLite's driver runs no such statement for several rows.
        self._add = Prepared(dialect.add_up(tables.tally, COUNTS).inline().values(values | {"slot": self._slot}))
        self._past = dialect.add_up(tables.tally, COUNTS)

    def add(self, connection: sa.Connection, tallied: Tallied, source: str) -> None:
        """Add counts. Writers that may write at the same time have each a ``source`` of their own."""
        rows = [{"queue": queue, "source": source, **counts} for queue, counts in sorted(tallied.items())]
        if rows:
            self._add.execute_many(connection, rows)

    def totals(self, connection: sa.Connection) -> list[sa.Row[Any]]:
        """By queue: how many tasks have each finished state, and attempts of the last minute and hour."""
        tally = self._tally

        def since(slots: int, column: str) -> sa.ColumnElement[int]:
            return _sum(sa.case((tally.c.slot > self._slot - slots, tally.c[column]), else_=0))

        columns = [
            *(_sum(tally.c[state]).label(state) for state in ("succeeded", "dead", "cancelled")),
            since(6, "attempts").label("last_minute"),
            since(_HOUR, "attempts").label("last_hour"),
            since(_HOUR, "failures").label("failed_last_hour"),
        ]
        return list(connection.execute(sa.select(tally.c.queue, *columns).group_by(tally.c.queue)))

    def merge(self, connection: sa.Connection) -> int:
        """Add the rows up that are older than an hour; how many there were."""
        tally = self._tally
        old = sa.and_(tally.c.slot > 0, tally.c.slot <= self._slot - _HOUR - 1)
        rows = connection.execute(sa.select(tally).where(old).limit(1000).with_for_update()).all()
        sums: dict[str, Counts] = defaultdict(lambda: dict.fromkeys(COUNTS, 0))
        for row in rows:
            for name in COUNTS:
                sums[row.queue][name] += getattr(row, name)
        key = sa.and_(*(tally.c[name] == sa.bindparam(f"old_{name}") for name in ("queue", "slot", "source")))
        if rows:
            connection.execute(
                sa.delete(tally).where(key), [{f"old_{name}": getattr(row, name) for name in ("queue", "slot", "source")} for row in rows]
            )
            past = [{"queue": queue, "slot": 0, "source": "", **counts} for queue, counts in sorted(sums.items())]
            connection.execute(self._past, past)
        return len(rows)


def _sum(column: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    return sa.cast(sa.func.coalesce(sa.func.sum(column), 0), sa.BigInteger)
