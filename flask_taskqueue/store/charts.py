"""What charts draw: attempts of the last hour by minute, and how long attempts take."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import sqlalchemy as sa

from ..core.states import State
from .dialects import Dialect
from .dialects.states import is_state
from .tables import Tables
from .tally import SLOT

MINUTES = 60
_MINUTE = 60 * 1_000_000 // SLOT
_TIMED = 1000


@dataclass(frozen=True, slots=True)
class Minute:
    """The attempts that ended within one minute, and how many of them failed."""

    attempts: int = 0
    failures: int = 0


class Charts:
    """The statements of one database. Each takes the connection whose transaction it is part of."""

    def __init__(self, tables: Tables, dialect: Dialect) -> None:
        self._tables = tables
        self._slot = dialect.now // SLOT

    def last_hour(self, connection: sa.Connection) -> dict[str, list[Minute]]:
        """By queue, the attempts of each of the last 60 minutes, the latest last; from the tally, so no attempt is counted."""
        tally = self._tables.tally
        since = tally.c.slot > self._slot - MINUTES * _MINUTE
        sums = [sa.cast(sa.func.sum(tally.c[name]), sa.BigInteger).label(name) for name in ("attempts", "failures")]
        now = int(connection.scalar(sa.select(self._slot)) or 0)  # MariaDB divides integers to a decimal
        rows = connection.execute(sa.select(tally.c.queue, tally.c.slot, *sums).where(since).group_by(tally.c.queue, tally.c.slot))
        found: dict[str, list[Minute]] = defaultdict(lambda: [Minute()] * MINUTES)
        for row in rows:
            place = MINUTES - 1 - max(0, now - row.slot) // _MINUTE
            if place >= 0:
                before = found[row.queue][place]
                found[row.queue][place] = Minute(before.attempts + row.attempts, before.failures + row.failures)
        return dict(found)

    def durations(self, connection: sa.Connection) -> list[float]:
        """Seconds that the attempts of the latest 1,000 tasks to succeed took, sorted."""
        task, attempt = self._tables.task, self._tables.attempt
        latest = sa.select(task.c.id).where(is_state(task, State.SUCCEEDED)).order_by(task.c.finished_at.desc()).limit(_TIMED).subquery()
        took = sa.select(attempt.c.finished_at - attempt.c.started_at).select_from(latest.join(attempt, attempt.c.task_id == latest.c.id))
        return sorted(max(0, micros) / 1_000_000 for micros in connection.scalars(took.where(attempt.c.reason == "success")))
