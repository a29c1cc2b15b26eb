"""When schedules fire, after downtime and while runs overlap."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flask_taskqueue import InvalidScheduleError
from flask_taskqueue.core.schedules.schedule import Firing, LastRun, Schedule, check_rules, decide

HOURLY = Schedule.parse("0 * * * *")
NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def fire(schedule: Schedule = HOURLY, **given: Any) -> Firing:
    """A decision about a fire time at noon."""
    return decide(
        schedule,
        **{
            "due": NOON,
            "now": NOON,
            "misfire": "run_once",
            "overlap": "skip",
            "last": LastRun(),
            **given,
        },
    )


@pytest.mark.parametrize("misfire", ["run_once", "skip", "all"])
def test_a_fire_time_that_has_just_come_gives_one_task(misfire: str) -> None:
    """Up to a minute late it has not been missed."""
    late = NOON + timedelta(seconds=60)
    assert fire(misfire=misfire, now=late) == Firing((NOON,), NOON + HOUR)


def test_after_downtime_one_run_serves_for_all() -> None:
    """The first that was missed."""
    assert fire(now=NOON + 5.5 * HOUR) == Firing((NOON,), NOON + 6 * HOUR)


def test_after_downtime_missed_ones_are_skipped() -> None:
    """But one that has just come is not."""
    assert fire(misfire="skip", now=NOON + 5.5 * HOUR) == Firing((), NOON + 6 * HOUR)
    assert fire(misfire="skip", now=NOON + 5 * HOUR + timedelta(seconds=9)) == Firing(
        (NOON + 5 * HOUR,), NOON + 6 * HOUR
    )


def test_after_downtime_each_is_run() -> None:
    """Together where runs may overlap, otherwise one after the other."""
    now = NOON + 2.5 * HOUR
    assert fire(misfire="all", overlap="allow", now=now) == Firing(
        (NOON, NOON + HOUR, NOON + 2 * HOUR), NOON + 3 * HOUR
    )
    assert fire(misfire="all", now=now) == Firing((NOON,), NOON + HOUR)
    assert fire(misfire="all", now=now, last=LastRun(is_live=True)) == Firing((), NOON)


def test_after_downtime_a_plain_interval_has_missed_one() -> None:
    """Because it would have counted from the end of that run."""
    every, now = Schedule.parse("every 10 minutes"), NOON + 5 * HOUR
    following = now + timedelta(minutes=10)
    for misfire in ("run_once", "all"):
        assert fire(every, misfire=misfire, now=now) == Firing((NOON,), following)
    assert fire(every, misfire="skip", now=now) == Firing((), following)


def test_a_very_long_downtime_is_seen_to_in_pieces() -> None:
    """So that no transaction grows without end."""
    decision = fire(
        Schedule.parse("* * * * *"), misfire="all", overlap="allow", now=NOON + timedelta(days=400)
    )
    assert len(decision.fires) == 100
    assert decision.next_at == NOON + timedelta(minutes=100)


def test_a_fire_time_is_left_out_while_the_last_run_goes_on() -> None:
    """Unless runs may overlap."""
    assert fire(last=LastRun(is_live=True)) == Firing((), NOON + HOUR)
    assert fire(last=LastRun(is_live=True), overlap="allow") == Firing((NOON,), NOON + HOUR)


def test_a_plain_interval_counts_from_the_end_of_the_last_run() -> None:
    """As App Engine's does; a run that takes long moves the next."""
    every = Schedule.parse("every 5 minutes")
    five = timedelta(minutes=5)
    assert fire(every) == Firing((NOON,), NOON + five)
    assert fire(every, last=LastRun(is_live=True)) == Firing((), NOON + five)
    ended = NOON - timedelta(minutes=2)
    assert fire(every, last=LastRun(finished_at=ended)) == Firing((), ended + five)
    assert fire(every, last=LastRun(finished_at=NOON - five)) == Firing((NOON,), NOON + five)
    assert fire(every, last=LastRun(is_live=True), overlap="allow") == Firing((NOON,), NOON + five)


@pytest.mark.parametrize(
    ("misfire", "overlap", "words"),
    [("never", "skip", "misfire is 'never'"), ("all", "maybe", "overlap is 'maybe'")],
)
def test_an_unknown_rule_is_refused(misfire: str, overlap: str, words: str) -> None:
    """With those there are."""
    with pytest.raises(InvalidScheduleError, match=words):
        check_rules(misfire, overlap)
