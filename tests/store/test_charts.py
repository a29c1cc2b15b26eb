"""What the dashboard draws, on each database."""

from __future__ import annotations

import sqlalchemy as sa

from flask_taskqueue.core.times import to_micros
from flask_taskqueue.store import Store
from flask_taskqueue.store.counters.charts import MINUTES, RANGES, AttemptCounts
from flask_taskqueue.store.counters.counters import KEPT, QUARTER, SLOT


def slot_now(store: Store) -> int:
    """The slot that is being counted in."""
    with store.reading() as connection:
        return to_micros(store.schedules.now(connection)) // SLOT


def count(store: Store, slot: int, attempts: int, queue: str = "mail") -> None:
    """Have so many attempts ended in a slot, one of which failed."""
    row = {"queue": queue, "slot": slot, "source": "", "attempts": attempts, "failures": 1}
    row |= dict.fromkeys(("succeeded", "dead", "cancelled"), 0)
    store.transact(
        lambda connection: connection.execute(sa.insert(store.database.tables.tally).values(**row))
    )


def test_attempts_are_drawn_in_the_minute_in_which_they_ended(store: Store) -> None:
    """The latest last; those of more than an hour ago are not."""
    now = slot_now(store)
    for slot, attempts in ((now, 3), (now - 30, 5), (now - 31, 7), (now - 400, 11)):
        count(store, slot, attempts)
    with store.reading() as connection:
        minutes = store.charts.last_hour(connection)["mail"]
    assert len(minutes) == MINUTES
    assert sum(minute.attempts for minute in minutes) == 15
    assert minutes[-1].attempts in (3, 0)  # the minute may have ended meanwhile
    assert sum(minute.attempts for minute in minutes[-7:-4]) == 12
    assert sum(minute.failures for minute in minutes) == 3


def test_longer_ranges_are_drawn_whatever_has_left_the_tally(store: Store) -> None:
    """The same before the janitor has added it up and after, and after the tasks are gone; of
    all queues together.
    """
    now = slot_now(store)
    day, week = 24 * 4 * QUARTER, 7 * 24 * 4 * QUARTER
    for slot, attempts in (
        (now, 1),
        (now - 2 * QUARTER, 2),
        (now - 10 * QUARTER, 4),
        (now - day // 2, 8),
        (now - 2 * day, 16),
    ):
        count(store, slot, attempts)
        count(store, slot, 1000, "default")
    count(store, now - 3 * week, 32)
    for _ in range(2):
        with store.reading() as connection:
            drawn = {name: store.charts.bars(connection, shown) for name, shown in RANGES.items()}
            since = {
                hours: store.charts.since(connection, (now - hours * 4 * QUARTER - 1) * SLOT)
                for hours in (1, 24, 24 * 30)
            }
        assert {name: sum(bar.attempts for bar in bars) for name, (_, bars) in drawn.items()} == {
            "24h": 4015,
            "7d": 5031,
            "30d": 5063,
        }
        assert since == {
            1: AttemptCounts(2003, 4),
            24: AttemptCounts(4015, 8),
            24 * 30: AttemptCounts(5063, 11),
        }
        begins, bars = drawn["24h"]
        assert (
            next(number for number, bar in enumerate(bars) if bar.attempts)
            == (now - day // 2 - begins // SLOT) // QUARTER
        )
        assert begins // SLOT % QUARTER == 0
        store.transact(store.counters.merge)
    assert store.transact(store.counters.merge) == 0


def test_counts_of_quarters_add_up_and_are_forgotten_after_thirty_days(store: Store) -> None:
    """What is late is added to what is there."""
    now = slot_now(store)
    old = (now - 20 * QUARTER) // QUARTER * QUARTER
    for number in (1, 2, 3):
        count(store, old + number, number)
        store.transact(store.counters.merge)
    count(store, now - KEPT - 2 * QUARTER, 7)
    store.transact(store.counters.merge)
    past = store.database.tables.past
    assert store.transact(store.counters.rollups.prune) == 1
    with store.reading() as connection:
        assert connection.execute(sa.select(past)).all() == [("mail", old, 6, 3)]
