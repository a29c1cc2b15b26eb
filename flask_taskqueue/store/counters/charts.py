"""What charts and the errors page show: attempts by time, durations, and the latest failures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ...core.failures import Failure
from ...core.states import State
from ..database.counter_tables import ROLLUP_COUNTS
from ..database.dialects import Dialect
from ..database.dialects.claims import is_state
from ..database.tables import Tables
from .counters import QUARTER, SLOT
from .ended_attempts import latest_failed

MINUTES = 60
_MINUTE = 60 * 1_000_000 // SLOT
_LAST_SLOT = 2**31 - 1
"""The last slot that the tables hold; SQLite sorts a text that was written by hand after it."""
_TIMED = 1000
_HOUR = 3600 * 1_000_000


@dataclass(frozen=True, slots=True)
class AttemptCounts:
    """The attempts that ended within one span of time, and how many of them failed."""

    attempts: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True)
class ChartRange:
    """The time that a chart shows: so many ``bars``, each of so many ``slots`` of the counters."""

    bars: int
    slots: int


RANGES = {
    "24h": ChartRange(96, QUARTER),
    "7d": ChartRange(84, 8 * QUARTER),
    "30d": ChartRange(90, 32 * QUARTER),
}


class Charts:
    """A reader that takes the data of charts from the counters."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._tables = tables
        self._now = dialect.now
        self._slot = dialect.now // SLOT

    def last_hour(self, connection: sa.Connection) -> dict[str, list[AttemptCounts]]:
        """Return, by queue, the attempts of each of the last 60 minutes, the latest last.

        They come from the counters, so no attempt has to be counted.
        """
        tally = self._tables.tally
        since = tally.c.slot.between(self._slot - MINUTES * _MINUTE + 1, _LAST_SLOT)
        sums = [
            sa.cast(sa.func.sum(tally.c[name]), sa.BigInteger).label(name)
            for name in ("attempts", "failures")
        ]
        now = int(
            connection.scalar(sa.select(self._slot)) or 0
        )  # MariaDB divides integers to a decimal
        rows = connection.execute(
            sa.select(tally.c.queue, tally.c.slot, *sums)
            .where(since)
            .group_by(tally.c.queue, tally.c.slot)
        )
        found: dict[str, list[AttemptCounts]] = defaultdict(lambda: [AttemptCounts()] * MINUTES)
        for row in rows:
            place = MINUTES - 1 - max(0, now - row.slot) // _MINUTE
            if place >= 0:
                before = found[row.queue][place]
                found[row.queue][place] = AttemptCounts(
                    before.attempts + row.attempts, before.failures + row.failures
                )
        return dict(found)

    def bars(self, connection: sa.Connection, shown: ChartRange) -> tuple[int, list[AttemptCounts]]:
        """Return when the first bar begins, in microseconds, and the attempts in each bar.

        The latest bar is the last. All queues are counted together. Bars begin at whole quarters,
        hours or days in UTC, so the last one is not over yet.
        """
        now = int(connection.scalar(sa.select(self._slot)) or 0)
        first = (now // shown.slots - shown.bars + 1) * shown.slots
        found = [AttemptCounts()] * shown.bars
        for row in self._by_slot(connection, first):
            place = min((row.slot - first) // shown.slots, shown.bars - 1)
            found[place] = AttemptCounts(
                found[place].attempts + row.attempts, found[place].failures + row.failures
            )
        return first * SLOT, found

    def since(self, connection: sa.Connection, micros: int) -> AttemptCounts:
        """Return the attempts of all queues together since an instant.

        Attempts of more than an hour ago are counted by whole quarters of an hour.
        """
        now = int(connection.scalar(sa.select(self._slot)) or 0)
        first = max(1, micros // SLOT)
        rows = [
            row
            for row in self._by_slot(connection, first)
            if row.slot >= first or first < now - MINUTES * _MINUTE
        ]
        return AttemptCounts(sum(row.attempts for row in rows), sum(row.failures for row in rows))

    def _by_slot(self, connection: sa.Connection, first: int) -> list[sa.Row[Any]]:
        """Return the counts that the counters still have, and those moved to the rollups."""
        found: list[sa.Row[Any]] = []
        for table, begin in (
            (self._tables.tally, first),
            (self._tables.past, first - first % QUARTER),
        ):
            sums = [
                sa.cast(sa.func.sum(table.c[name]), sa.BigInteger).label(name)
                for name in ROLLUP_COUNTS
            ]
            found += connection.execute(
                sa.select(table.c.slot, *sums)
                .where(table.c.slot.between(begin, _LAST_SLOT))
                .group_by(table.c.slot)
            )
        return found

    def durations(self, connection: sa.Connection) -> list[float]:
        """Return how many seconds the attempts that succeeded in the last hour took, sorted.

        Only those of the latest 1,000 tasks are read.
        """
        task, attempt = self._tables.task, self._tables.attempt
        latest = (
            sa.select(task.c.id)
            .where(is_state(task, State.SUCCEEDED), task.c.finished_at > self._now - _HOUR)
            .order_by(task.c.finished_at.desc())
            .limit(_TIMED)
            .subquery()
        )
        took = sa.select(attempt.c.finished_at - attempt.c.started_at).select_from(
            latest.join(attempt, attempt.c.task_id == latest.c.id)
        )
        return sorted(
            max(0, micros) / 1_000_000
            for micros in connection.scalars(took.where(attempt.c.reason == "success"))
        )


LATEST = 2_000
"""The number of failed attempts that are examined."""
_ERROR_READ = 1000
"""The characters of an error that are read, so that long errors do not make a page slow."""


class Failures:
    """A reader of the latest failed attempts."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def latest(self, connection: sa.Connection, limit: int = LATEST) -> Sequence[Failure]:
        """Return the latest failed attempts of tasks that still exist, the latest first.

        Of an error only the beginning is returned.
        """
        task, attempt = self._tables.task, self._tables.attempt
        columns = (
            attempt.c.task_id,
            attempt.c.number,
            attempt.c.reason,
            attempt.c.status,
            sa.func.substr(attempt.c.error, 1, _ERROR_READ).label("error"),
            attempt.c.finished_at,
        )
        latest = latest_failed(attempt, columns, limit)
        rows = sa.select(latest, task.c.queue, task.c.url, task.c.state, task.c.target).select_from(
            latest.join(task, task.c.id == latest.c.task_id)
        )
        return [
            Failure._make(row)
            for row in connection.execute(rows.order_by(latest.c.finished_at.desc()))
        ]


MOST_DEAD = 1000
_NEXT = 200
"""The number of tasks of a queue, in the order they are due, that are examined."""


class Diagnostics:
    """A reader of what keeps tasks from running; it is cheap, however many tasks there are."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._task = tables.task
        self._now = dialect.now

    def dead(self, connection: sa.Connection) -> Sequence[Failure]:
        """Return the last attempts of tasks that gave up in the last hour, the latest first.

        There are at most `MOST_DEAD`.
        """
        task = self._task
        columns = (
            task.c.id,
            task.c.attempts,
            task.c.last_reason,
            task.c.last_status,
            task.c.last_error,
            task.c.finished_at,
        )
        late = sa.and_(is_state(task, State.DEAD), task.c.finished_at > self._now - _HOUR)
        rows = sa.select(*columns, task.c.queue, task.c.url, task.c.state, task.c.target).where(
            late
        )
        return [
            Failure._make(row)
            for row in connection.execute(rows.order_by(task.c.finished_at.desc()).limit(MOST_DEAD))
        ]

    def next_places(
        self, connection: sa.Connection, queues: Collection[str]
    ) -> dict[tuple[str, str], int]:
        """Return the methods and URLs of the app's own that the next tasks of these queues go to.

        Each comes with the number of those tasks that go there.
        """
        task = self._task
        found: dict[tuple[str, str], int] = {}
        for queue in queues:
            of_queue = sa.and_(is_state(task, State.SCHEDULED), task.c.queue == queue)
            first = (
                sa.select(task.c.method, task.c.url, task.c.target)
                .where(of_queue)
                .order_by(task.c.priority, task.c.due_at)
                .limit(_NEXT)
            )
            for method, url, target in connection.execute(first):
                if target is None and url.startswith("/"):
                    found[method, url] = found.get((method, url), 0) + 1
        return found
