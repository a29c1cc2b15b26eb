"""How long handlers are taken to run, and what follows."""

from __future__ import annotations

from itertools import pairwise

import pytest

from flask_taskqueue.core.queues.pacing import SHORT_BELOW, Pacing


def paced(*attempts: tuple[float, float], threads: int = 8) -> Pacing:
    """After so many attempts of some seconds, of which so many were computed."""
    pace = Pacing(threads)
    for seconds, computed in attempts:
        pace.observe(seconds, computed)
    return pace


@pytest.mark.parametrize(
    ("seconds", "computed", "one_thread"),
    [
        (0.0001, 0.0001, True),
        (0.0035, 0.0035, True),
        (0.0013, 0.0009, True),  # a transaction on a server: most of it is Python
        (0.0005, 0.0001, True),
        (0.0013, 0.0001, False),  # it waits for somebody: other threads can work meanwhile
        (0.005, 0.005, False),
        (1.0, 1.0, False),
    ],
)
def test_one_thread_does_for_handlers_that_compute_briefly(
    seconds: float, computed: float, one_thread: bool
) -> None:
    pace = paced(*[(seconds, computed)] * 100)
    assert pace.one_thread is one_thread
    assert pace.short is (not one_thread and seconds < SHORT_BELOW)
    assert pace.max_in_flight == (2 * pace.capacity if seconds < SHORT_BELOW else 8)


@pytest.mark.parametrize(
    ("seconds", "most"), [(0.0, 128), (0.0001, 128), (0.0005, 40), (0.001, 20), (0.003, 8)]
)
def test_what_is_leased_ahead_is_twenty_milliseconds_of_work(seconds: float, most: int) -> None:
    assert paced(*[(seconds, seconds)] * 200).capacity == pytest.approx(most, abs=1)


def test_a_single_slow_attempt_among_very_short_ones_does_not_count_much() -> None:
    assert paced(*[(0.0005, 0.0005)] * 50, (30.0, 0.1)).one_thread
    assert not paced(*[(0.0005, 0.0005)] * 50, *[(30.0, 0.1)] * 20).one_thread


def test_with_one_thread_nothing_is_leased_ahead() -> None:
    pace = paced(*[(0.0001, 0.0001)] * 100, threads=1)
    assert (pace.one_thread, pace.capacity, pace.max_in_flight) == (True, 1, 1)


def test_handlers_elsewhere_are_short_but_never_run_by_one_thread() -> None:
    """Waiting for other servers is done in many threads."""
    pace = Pacing(8, computing=False)
    for _ in range(100):
        pace.observe(0.003, 0.0001)
        pace.try_one_thread(100.0)
    assert (pace.one_thread, pace.short, pace.capacity, pace.max_in_flight) == (False, True, 8, 16)


def test_short_results_wait_for_each_other_while_tasks_follow() -> None:
    """For half of what one takes, and never when a thread would have nothing to do meanwhile."""
    pace = paced(*[(0.01, 0.001)] * 100)
    assert pace.batch_wait(busy=True, waiting=True) == pytest.approx(0.005, rel=0.05)
    assert pace.batch_wait(busy=True, waiting=False) == 0.0
    slow = paced(*[(0.5, 0.001)] * 100)
    assert (slow.batch_wait(busy=True, waiting=True), slow.leases_ahead, slow.max_in_flight) == (
        0.0,
        False,
        8,
    )


def test_short_ones_that_stall_are_slow_until_they_are_short_again() -> None:
    """What was leased to follow them is given back, once."""
    pace = paced(*[(0.01, 0.001)] * 100)
    pace.stall()
    assert (pace.short, pace.max_in_flight) == (False, 8)
    for _ in range(3):
        pace.observe(0.01, 0.001)
    assert pace.short
    for _ in range(100):
        pace.observe(2.0, 0.001)
    assert not pace.short


def test_threads_that_hinder_each_other_are_tried_alone_now_and_then() -> None:
    """Less and less often while that does not help."""
    pace = paced(*[(0.012, 0.001)] * 100)
    tried = []
    for step in range(1000):
        now = step / 50
        pace.try_one_thread(now)
        if pace.one_thread:
            tried.append(now)
            for _ in range(40):
                pace.observe(0.012, 0.001)
        assert not pace.one_thread
    assert tried[0] < 0.2
    apart = [later - earlier for earlier, later in pairwise(tried)]
    assert apart == pytest.approx(sorted(apart), abs=0.05)
    assert apart[-1] == pytest.approx(5.0, abs=0.1)


def test_what_proves_to_fit_one_thread_is_tried_soon_when_it_is_interrupted() -> None:
    pace = paced(*[(0.012, 0.001)] * 100)
    for now in (10.0, 20.0):
        pace.try_one_thread(now)
        for _ in range(100):
            pace.observe(0.001, 0.001)
        pace.try_one_thread(now + 6)
        assert pace.one_thread
        pace.stall()
        assert not pace.one_thread
        pace.try_one_thread(now + 6.2)
        assert pace.one_thread
        pace.stall()


def test_handlers_that_are_slow_for_themselves_are_not_tried_alone() -> None:
    pace = paced(*[(0.5, 0.01)] * 200)
    pace.try_one_thread(1000.0)
    assert not pace.one_thread


@pytest.mark.parametrize(
    ("seconds", "computed", "slow_after"),
    [(0.0001, 0.0001, 0.002), (0.002, 0.002, 0.006), (0.01, 0.001, 0.01), (0.5, 0.01, 0.002)],
)
def test_a_very_short_handler_is_given_three_times_what_is_usual(
    seconds: float, computed: float, slow_after: float
) -> None:
    """And a short one, of which several run, what is usual."""
    assert paced(*[(seconds, computed)] * 300).slow_after == pytest.approx(slow_after, rel=0.05)
