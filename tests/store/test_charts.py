"""What the dashboard draws, on each database."""

from __future__ import annotations

import sqlalchemy as sa

from flask_taskqueue.core.clock import to_micros
from flask_taskqueue.store import Store
from flask_taskqueue.store.charts import MINUTES
from flask_taskqueue.store.tally import SLOT


def test_attempts_are_drawn_in_the_minute_in_which_they_ended(store: Store) -> None:
    """The latest last; those of more than an hour ago are not."""
    tally = store.database.tables.tally
    with store.reading() as connection:
        now = to_micros(store.schedules.now(connection)) // SLOT
    for slot, attempts in ((now, 3), (now - 30, 5), (now - 31, 7), (now - 400, 11)):
        row = {"queue": "mail", "slot": slot, "source": "", "attempts": attempts, "failures": 1}
        counts = dict.fromkeys(("succeeded", "dead", "cancelled"), 0)
        store.transact(lambda connection, row=row, counts=counts: connection.execute(sa.insert(tally).values(**row, **counts)))
    with store.reading() as connection:
        minutes = store.charts.last_hour(connection)["mail"]
    assert len(minutes) == MINUTES
    assert sum(one.attempts for one in minutes) == 15
    assert minutes[-1].attempts in (3, 0)  # the minute may have ended meanwhile
    assert sum(one.attempts for one in minutes[-7:-4]) == 12
    assert sum(one.failures for one in minutes) == 3
