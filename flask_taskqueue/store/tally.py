"""The tally: counts of attempts and of finished tasks, kept with what they count."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from ..core.states import FINISHED, State
from .dialects import Dialect
from .meter import Meter
from .past import Past
from .sums import Sums
from .tables import COUNTS, Tables

SLOT = 10_000_000
"""Microseconds of a slot."""
_HOUR = 3600 * 1_000_000 // SLOT

Counts = dict[str, int]
"""What is counted, and of it also what the meter counts."""
Tallied = Mapping[str, Counts]
"""By queue."""
_MEASURES = {State.SUCCEEDED: "ended_succeeded", State.DEAD: "ended_dead", State.CANCELLED: "ended_deleted"}


def no_counts() -> defaultdict[str, Counts]:
    """Nothing counted yet, of any queue."""
    return defaultdict(lambda: defaultdict(int, dict.fromkeys(COUNTS, 0)))


def count_end(counts: Counts, state: State, *, expired: bool = False) -> None:
    """Count a task that has ended."""
    measure = "ended_expired" if expired else _MEASURES[state]
    counts[state.value] += 1
    counts[measure] += 1


def ends(ended: Iterable[tuple[str, State]]) -> dict[str, Counts]:
    """The counts of tasks that have ended, given as queues and states."""
    found = no_counts()
    for queue, state in ended:
        count_end(found[queue], state)
    return found


def departures(gone: Iterable[tuple[str, str]], *, requeued: bool = False) -> dict[str, Counts]:
    """The counts of tasks, given as queues and states, that are no longer there as ended: pruned, or ``requeued``."""
    found = no_counts()
    for queue, state in gone:
        counts = found[queue]
        if state in FINISHED:
            counts[State(state).value] -= 1
        if requeued:
            counts["requeued"] += 1
    return found


class Tally:
    """The statements of one database. Each takes the connection whose transaction it is part of."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._tally = tables.tally
        self._slot = dialect.now // SLOT
        self._sums = Sums(tables.tally, COUNTS, dialect, slot=self._slot)
        self.meter = Meter(tables, dialect)
        self._old = dialect.add_up(tables.tally, COUNTS)
        self.past = Past(tables, dialect, self._slot)

    def add(self, connection: sa.Connection, tallied: Tallied, source: str) -> None:
        """Add counts. Writers that may write at the same time have each a ``source`` of their own."""
        ordered = sorted(tallied.items())
        for queue, counts in ordered:
            self._sums.add(connection, {"queue": queue, "source": source}, counts)
        self.meter.add(connection, ordered, source)

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
        """Add the rows up that are older than an hour, their attempts also by quarters of an hour; how many there were."""
        tally = self._tally
        late = sa.and_(tally.c.slot > 0, tally.c.slot <= self._slot - _HOUR - 1)
        rows = connection.execute(sa.select(tally).where(late).limit(1000).with_for_update()).all()
        sums = no_counts()
        for row in rows:
            for name in COUNTS:
                sums[row.queue][name] += getattr(row, name)
        key = sa.and_(*(tally.c[name] == sa.bindparam(f"old_{name}") for name in ("queue", "slot", "source")))
        if rows:
            connection.execute(
                sa.delete(tally).where(key), [{f"old_{name}": getattr(row, name) for name in ("queue", "slot", "source")} for row in rows]
            )
            old = [{"queue": queue, "slot": 0, "source": "", **counts} for queue, counts in sorted(sums.items())]
            connection.execute(self._old, old)
            self.past.add(connection, rows)
        return len(rows)


def _sum(column: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    return sa.cast(sa.func.coalesce(sa.func.sum(column), 0), sa.BigInteger)
