"""Rates, buckets and what a queue lets through."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_taskqueue import ConfigurationError
from flask_taskqueue.core.queues.lanes import Lane, Lanes
from flask_taskqueue.core.queues.rates import Gate, parse_rate
from flask_taskqueue.core.times import SECOND

NOW = 1_800_000_000 * SECOND


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("20/m", 1 / 3),
        ("5/s", 5),
        ("0.5/s", 0.5),
        ("1./s", 1),
        ("36/h", 0.01),
        ("864/d", 0.01),
        ("0", 0),
        ("0/s", 0),
    ],
)
def test_rates_are_read_as_queue_yaml_has_them(text: str, rate: float) -> None:
    """Number, slash, unit."""
    assert parse_rate(text, what="rate") == pytest.approx(rate)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "5/x",
        "-5/s",
        "5 / s",
        "five/s",
        "1e3/s",
        "inf/s",
        "5/S",
        5,
        None,
        "\u0665/s",
        ".5/s",
    ],
)
def test_other_rates_are_refused_with_what_to_write(text: object) -> None:
    """The message has the value and an example."""
    with pytest.raises(ConfigurationError, match="such as '20/m'") as refused:
        parse_rate(text, what="TASKQUEUE_QUEUES['mail']['rate']")
    assert repr(text) in str(refused.value)


def test_an_idle_bucket_fills_to_its_size_only() -> None:
    """A day of rest allows no more than the burst."""
    gate = Gate(NOW, rate=10.0, bucket_size=5, tokens=0.0, filled_at=NOW - 86_400 * SECOND)
    assert gate.allowed(100) == 5


def test_an_empty_bucket_opens_when_the_next_token_is_there() -> None:
    """To the microsecond, so that the dispatcher can set its timer."""
    gate = Gate(NOW, rate=4.0, bucket_size=5, tokens=0.5, filled_at=NOW)
    assert gate.allowed(1) == 0
    opens = gate.opens_at()
    assert opens == NOW + SECOND // 8 + 1
    assert Gate(opens, rate=4.0, bucket_size=5, tokens=0.5, filled_at=NOW).allowed(9) == 1


def test_a_rate_of_0_never_opens_and_no_rate_always_does() -> None:
    """0 pauses."""
    paused = Gate(NOW, rate=0.0, tokens=0.0, filled_at=0)
    assert (paused.allowed(1), paused.opens_at()) == (0, None)
    assert Gate(NOW).allowed(8) == 8


def test_as_many_run_as_may() -> None:
    """What is in flight counts, in whatever process."""
    assert Gate(NOW, max_concurrent=3, in_flight=1).allowed(8) == 2
    full = Gate(NOW, max_concurrent=3, in_flight=4)
    assert full.allowed(8) == 0
    assert full.opens_at() is not None


def test_a_clock_that_goes_back_a_little_fills_nothing() -> None:
    """Nor does it empty the bucket."""
    assert Gate(NOW - 9 * SECOND, rate=10.0, bucket_size=5, tokens=2.0, filled_at=NOW).filled == 2.0


@pytest.mark.parametrize("ahead", [10, 3600, 10**9])
def test_a_bucket_that_a_wrong_clock_filled_is_full(ahead: int) -> None:
    """And the next one who takes a token dates it anew."""
    gate = Gate(NOW, rate=0.01, bucket_size=5, tokens=-3.0, filled_at=NOW + ahead * SECOND)
    assert gate.allowed(8) == 5
    assert gate.opens_at() == NOW
    left = gate.after(2)
    assert (left.filled, left.filled_at) == (3.0, NOW)


@given(
    st.floats(0.1, 100),
    st.integers(1, 50),
    st.lists(st.tuples(st.integers(0, 5 * SECOND), st.integers(1, 20)), max_size=60),
)
def test_over_any_time_no_more_start_than_burst_and_rate_allow(
    rate: float, size: int, steps: list[tuple[int, int]]
) -> None:
    """The law of the token bucket, for any rate, size and times of asking."""
    now, tokens, filled_at, started = NOW, float(size), NOW, 0
    for passed, wanted in steps:
        now += passed
        gate = Gate(now, rate=rate, bucket_size=size, tokens=tokens, filled_at=filled_at)
        allowed = gate.allowed(wanted)
        tokens, filled_at = gate.filled - allowed, now
        started += allowed
        assert started <= size + rate * (now - NOW) / SECOND + 1e-6


@given(
    st.floats(0.1, 100), st.integers(1, 5), st.lists(st.floats(0, 0.45), min_size=20, max_size=60)
)
def test_starts_that_are_late_do_not_slow_a_queue_down(
    rate: float, size: int, delays: list[float]
) -> None:
    """Each is asked for when the bucket opens, and late by less than half a token; over any
    time of whole tokens no more start.
    """
    now, tokens, filled_at = NOW, 0.0, NOW
    starts: list[int] = []
    for late in delays:
        opens_at = Gate(
            now, rate=rate, bucket_size=size, tokens=tokens, filled_at=filled_at
        ).opens_at()
        assert opens_at is not None
        now = max(now, opens_at) + int(late / rate * SECOND)
        gate = Gate(now, rate=rate, bucket_size=size, tokens=tokens, filled_at=filled_at)
        assert gate.allowed(1) == 1
        tokens, filled_at = gate.filled - 1, now
        starts.append(now)
    token = SECOND / rate
    assert starts[-1] - NOW <= (len(starts) + 0.5) * token + 2 * len(starts)
    for whole in range(1, 10):
        for first in starts:
            assert (
                sum(first <= start < first + whole * token - len(starts) for start in starts)
                <= size + whole
            )


def test_a_closed_queue_does_not_hide_an_open_one() -> None:
    """Its lanes are not due, and the next look comes when its bucket has a token."""
    lanes = (Lane("slow", 9, NOW, None), Lane("fast", 0, NOW, None))
    seen = Lanes(NOW, lanes, {"slow": Gate(NOW, rate=1.0, tokens=0.0, filled_at=NOW)})
    assert [lane.queue for lane in seen.due()] == ["fast"]
    alone = Lanes(NOW, lanes[:1], seen.gates)
    assert alone.next_in() == pytest.approx(1.0, abs=0.001)
    assert Lanes(NOW, lanes[:1], {"slow": Gate(NOW, rate=0.0)}).next_in() is None


def test_a_rate_of_zero_lets_nothing_start() -> None:
    """Not even what a full bucket holds."""
    gate = Gate(now=10 * SECOND, rate=0.0, bucket_size=5, tokens=5.0)
    assert (gate.tokens_left, gate.allowed(3), gate.opens_at()) == (0, 0, None)
