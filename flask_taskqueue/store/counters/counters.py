"""Counters: attempts and finished tasks, counted in the transaction that changes them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from ...core.metrics import MEASURES
from ...core.names import dispatcher_id
from ...core.states import FINISHED, State
from ..database.counter_tables import COUNTS, ROLLUP_COUNTS
from ..database.dialects import Dialect
from ..database.prepared import Prepared
from ..database.tables import Tables
from .queue_counts import QueueCounts

_STATEMENTS = 256
_NOTHING = sa.literal_column("0", sa.BigInteger)


class CounterTable:
    """The counts of one table.

    A statement only names the counts that something is added to, usually a few of many.
    """

    def __init__(
        self,
        table: sa.Table,
        counts: Sequence[str],
        dialect: Dialect,
        **computed: sa.ColumnElement[Any],
    ) -> None:
        """Prepare for one table; ``computed`` are columns of its key that the database fills in."""
        self._table = table
        self._counts = counts
        self._dialect = dialect
        self._computed = computed
        self._statement = lru_cache(maxsize=_STATEMENTS)(self._prepare)

    def add(
        self, connection: sa.Connection, key: Mapping[str, str], counts: Mapping[str, int]
    ) -> None:
        """Add to the counts of one row; do nothing if there is nothing to add."""
        added = {name: counts[name] for name in self._counts if counts.get(name)}
        if added:
            self._statement(tuple(added)).execute(connection, {**key, **added})

    def _prepare(self, names: tuple[str, ...]) -> Prepared:
        given: dict[str, Any] = {
            column.name: sa.bindparam(column.name) for column in self._table.primary_key
        }
        given |= {name: sa.bindparam(name) if name in names else _NOTHING for name in self._counts}
        # Inline, because SQLAlchemy would otherwise ask for computed values back.
        return Prepared(
            self._dialect.add_up(self._table, names).inline().values(given | self._computed)
        )


_MANY = 50
"""The number of old rows from which on they are added up."""
_AT_ONCE = 500


class Measures:
    """The counts that only ever grow, for metrics, with a row for each queue and writer."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._meter = tables.meter
        self.sums: CounterTable = CounterTable(tables.meter, MEASURES, dialect)

    def add(
        self,
        connection: sa.Connection,
        counts: Iterable[tuple[str, Mapping[str, int]]],
        source: str,
    ) -> None:
        """Add the measures of some queues, which are given in the order to write them."""
        for queue, found in counts:
            self.sums.add(connection, {"queue": queue, "source": source}, found)

    def merge(self, connection: sa.Connection) -> int:
        """Add up the rows of all sources if there are many; return how many there were."""
        meter = self._meter
        others = meter.c.source != ""
        if (
            connection.scalar(sa.select(sa.func.count()).select_from(meter).where(others)) or 0
        ) <= _MANY:
            return 0
        rows = connection.execute(
            sa.select(meter)
            .where(others)
            .order_by(meter.c.queue, meter.c.source)
            .limit(_AT_ONCE)
            .with_for_update(skip_locked=True)
        ).all()
        sums: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(MEASURES, 0))
        for row in rows:
            for name in MEASURES:
                sums[row.queue][name] += getattr(row, name)
        mine = sa.and_(
            meter.c.queue == sa.bindparam("old_queue"), meter.c.source == sa.bindparam("old_source")
        )
        if rows:
            connection.execute(
                sa.delete(meter).where(mine),
                [{"old_queue": row.queue, "old_source": row.source} for row in rows],
            )
            self.add(connection, sorted(sums.items()), "")
        return len(rows)


QUARTER = 90
"""The number of slots of the counters in one row of the rollups."""
KEPT = 30 * 96 * QUARTER
"""The number of slots for which a row of the rollups is kept."""


class Rollups:
    """The attempts of the past thirty days, by quarter of an hour."""

    def __init__(self, tables: Tables, dialect: Dialect, slot: sa.ColumnElement[int]) -> None:
        self._past = tables.past
        self._slot = slot
        self._add = dialect.add_up(tables.past, ROLLUP_COUNTS)

    def add(self, connection: sa.Connection, rows: Iterable[sa.Row[Any]]) -> None:
        """Add up rows that leave the counters."""
        sums: dict[tuple[str, int], dict[str, int]] = defaultdict(
            lambda: dict.fromkeys(ROLLUP_COUNTS, 0)
        )
        for row in rows:
            if row.attempts:
                counts = sums[row.queue, row.slot - row.slot % QUARTER]
                for name in ROLLUP_COUNTS:
                    counts[name] += getattr(row, name)
        if sums:
            connection.execute(
                self._add,
                [
                    {"queue": queue, "slot": slot, **counts}
                    for (queue, slot), counts in sorted(sums.items())
                ],
            )

    def prune(self, connection: sa.Connection) -> int:
        """Forget rows older than thirty days; return how many."""
        old = self._past.c.slot <= self._slot - KEPT - QUARTER
        return connection.execute(sa.delete(self._past).where(old)).rowcount


SLOT = 10_000_000
"""The microseconds of a slot."""
_HOUR = 3600 * 1_000_000 // SLOT

Counts = dict[str, int]
"""Counts of the counters and of the measures, by name."""
Tallied = Mapping[str, Counts]
"""By queue."""
_MEASURES = {
    State.SUCCEEDED: "ended_succeeded",
    State.DEAD: "ended_dead",
    State.CANCELLED: "ended_deleted",
}

_KEY = ("queue", "slot", "source")
_SOURCE = "taskqueue_source"
_ENDED = tuple(state.value for state in _MEASURES)


def no_counts() -> defaultdict[str, Counts]:
    """Return an empty count for any queue."""
    return defaultdict(lambda: defaultdict(int, dict.fromkeys(COUNTS, 0)))


def count_end(counts: Counts, state: State, *, expired: bool = False) -> None:
    """Count a task that has ended."""
    measure = "ended_expired" if expired else _MEASURES[state]
    counts[state.value] += 1
    counts[measure] += 1


def ends(ended: Iterable[tuple[str, State]]) -> dict[str, Counts]:
    """Return the counts of tasks that have ended, given as queues and states."""
    found = no_counts()
    for queue, state in ended:
        count_end(found[queue], state)
    return found


def departures(gone: Iterable[tuple[str, str]], *, requeued: bool = False) -> dict[str, Counts]:
    """Return the counts for tasks that no longer count as ended: pruned, or ``requeued``.

    They are given as queues and states.
    """
    found = no_counts()
    for queue, state in gone:
        counts = found[queue]
        if state in FINISHED:
            counts[State(state).value] -= 1
        if requeued:
            counts["requeued"] += 1
    return found


class Counters:
    """The counts of attempts and finished tasks in spans of ten seconds, to spare counting rows."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._table = tables.tally
        self._slot = dialect.now // SLOT
        self._sums = CounterTable(tables.tally, COUNTS, dialect, slot=self._slot)
        self.measures: Measures = Measures(tables, dialect)
        self._old = dialect.add_up(tables.tally, COUNTS)
        self.rollups: Rollups = Rollups(tables, dialect, self._slot)

    def add(self, connection: sa.Connection, tallied: Tallied, source: str = "") -> None:
        """Add counts. Writers that may write at the same time each have their own ``source``.

        Without one it is that of the connection, on which one transaction runs at a time: those of
        the app may stay open, and nobody else may have to wait for one, or be refused because of
        it.
        """
        ordered = sorted(tallied.items())
        source = source or connection.info.setdefault(_SOURCE, dispatcher_id())
        for queue, counts in ordered:
            self._sums.add(connection, {"queue": queue, "source": source}, counts)
        self.measures.add(connection, ordered, source)

    def ended(self, connection: sa.Connection) -> dict[str, QueueCounts]:
        """Return, by queue, how many tasks have ended, and how."""
        counter = self._table
        columns = [_sum(counter.c[state]).label(state) for state in _ENDED]
        rows = connection.execute(sa.select(counter.c.queue, *columns).group_by(counter.c.queue))
        return {
            row.queue: QueueCounts(**{state: getattr(row, state) for state in _ENDED})
            for row in rows
        }

    def totals_by_queue(self) -> sa.Subquery:
        """Return ended tasks and recent attempts by queue, to be joined by `exact_counts`."""
        counter = self._table

        def since(slots: int, column: str) -> sa.ColumnElement[int]:
            return _sum(sa.case((counter.c.slot > self._slot - slots, counter.c[column]), else_=0))

        columns = [
            *(_sum(counter.c[state]).label(state) for state in _ENDED),
            since(6, "attempts").label("last_minute"),
            since(_HOUR, "attempts").label("last_hour"),
            since(_HOUR, "failures").label("failed_last_hour"),
        ]
        return sa.select(counter.c.queue, *columns).group_by(counter.c.queue).subquery("totals")

    def merge(self, connection: sa.Connection) -> int:
        """Add up the rows that are older than an hour; return how many there were.

        Their attempts are also added up by quarter of an hour.
        """
        counter = self._table
        late = sa.and_(counter.c.slot > 0, counter.c.slot <= self._slot - _HOUR - 1)
        rows = connection.execute(
            sa.select(counter).where(late).limit(1000).with_for_update(skip_locked=True)
        ).all()
        sums = no_counts()
        for row in rows:
            for name in COUNTS:
                sums[row.queue][name] += getattr(row, name)
        key = sa.and_(
            *(
                counter.c[name] == sa.bindparam(f"old_{name}")
                for name in ("queue", "slot", "source")
            )
        )
        if rows:
            connection.execute(
                sa.delete(counter).where(key),
                [{f"old_{name}": getattr(row, name) for name in _KEY} for row in rows],
            )
            old = [
                {"queue": queue, "slot": 0, "source": "", **counts}
                for queue, counts in sorted(sums.items())
            ]
            connection.execute(self._old, old)
            self.rollups.add(connection, rows)
        return len(rows)


def _sum(column: sa.ColumnElement[Any]) -> sa.ColumnElement[int]:
    return sa.cast(sa.func.coalesce(sa.func.sum(column), 0), sa.BigInteger)
