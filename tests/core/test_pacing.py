"""How quick handlers are taken to be, and what follows."""

from __future__ import annotations

from itertools import pairwise

import pytest

from flask_taskqueue.core.queues.pacing import QUICK, Pacing


def paced(*attempts: tuple[float, float], threads: int = 8) -> Pacing:
    """After so many attempts of some seconds, of which so many were computed."""
    pace = Pacing(threads)
    for seconds, computed in attempts:
        pace.observe(seconds, computed)
    return pace


@pytest.mark.parametrize(
    ("seconds", "computed", "brisk"),
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
    seconds: float, computed: float, brisk: bool
) -> None:
    pace = paced(*[(seconds, computed)] * 100)
    assert pace.brisk is brisk
    assert pace.quick is (not brisk and seconds < QUICK)
    assert pace.depth == (2 * pace.capacity if seconds < QUICK else 8)


@pytest.mark.parametrize(
    ("seconds", "most"), [(0.0, 128), (0.0001, 128), (0.0005, 40), (0.001, 20), (0.003, 8)]
)
def test_what_is_leased_ahead_is_twenty_milliseconds_of_work(seconds: float, most: int) -> None:
    assert paced(*[(seconds, seconds)] * 200).capacity == pytest.approx(most, abs=1)


def test_a_single_slow_attempt_among_brisk_ones_does_not_count_much() -> None:
    assert paced(*[(0.0005, 0.0005)] * 50, (30.0, 0.1)).brisk
    assert not paced(*[(0.0005, 0.0005)] * 50, *[(30.0, 0.1)] * 20).brisk


def test_with_one_thread_nothing_is_leased_ahead() -> None:
    pace = paced(*[(0.0001, 0.0001)] * 100, threads=1)
    assert (pace.brisk, pace.capacity, pace.depth) == (True, 1, 1)


def test_handlers_elsewhere_are_quick_but_never_brisk() -> None:
    """Waiting for other servers is done in many threads."""
    pace = Pacing(8, computing=False)
    for _ in range(100):
        pace.observe(0.003, 0.0001)
        pace.try_alone(100.0)
    assert (pace.brisk, pace.quick, pace.capacity, pace.depth) == (False, True, 8, 16)


def test_quick_results_wait_for_each_other_while_tasks_follow() -> None:
    """For half of what one takes, and never when a thread would have nothing to do meanwhile."""
    pace = paced(*[(0.01, 0.001)] * 100)
    assert pace.gathering(busy=True, waiting=True) == pytest.approx(0.005, rel=0.05)
    assert pace.gathering(busy=True, waiting=False) == 0.0
    slow = paced(*[(0.5, 0.001)] * 100)
    assert (slow.gathering(busy=True, waiting=True), slow.leads, slow.depth) == (0.0, False, 8)


def test_quick_ones_that_stall_are_slow_until_they_are_quick_again() -> None:
    """What was leased to follow them is given back, once."""
    pace = paced(*[(0.01, 0.001)] * 100)
    pace.stall()
    assert (pace.quick, pace.depth) == (False, 8)
    for _ in range(3):
        pace.observe(0.01, 0.001)
    assert pace.quick
    for _ in range(100):
        pace.observe(2.0, 0.001)
    assert not pace.quick


def test_threads_that_hinder_each_other_are_tried_alone_now_and_then() -> None:
    """Less and less often while that does not help."""
    pace = paced(*[(0.012, 0.001)] * 100)
    tried = []
    for step in range(1000):
        now = step / 50
        pace.try_alone(now)
        if pace.brisk:
            tried.append(now)
            for _ in range(40):
                pace.observe(0.012, 0.001)
        assert not pace.brisk
    assert tried[0] < 0.2
    apart = [later - earlier for earlier, later in pairwise(tried)]
    assert apart == pytest.approx(sorted(apart), abs=0.05)
    assert apart[-1] == pytest.approx(5.0, abs=0.1)


def test_what_proves_to_be_brisk_alone_is_tried_soon_when_it_is_interrupted() -> None:
    pace = paced(*[(0.012, 0.001)] * 100)
    for now in (10.0, 20.0):
        pace.try_alone(now)
        for _ in range(100):
            pace.observe(0.001, 0.001)
        pace.try_alone(now + 6)
        assert pace.brisk
        pace.stall()
        assert not pace.brisk
        pace.try_alone(now + 6.2)
        assert pace.brisk
        pace.stall()


def test_handlers_that_are_slow_for_themselves_are_not_tried_alone() -> None:
    pace = paced(*[(0.5, 0.01)] * 200)
    pace.try_alone(1000.0)
    assert not pace.brisk


@pytest.mark.parametrize(
    ("seconds", "computed", "patience"),
    [(0.0001, 0.0001, 0.002), (0.002, 0.002, 0.006), (0.01, 0.001, 0.01), (0.5, 0.01, 0.002)],
)
def test_a_brisk_handler_is_given_three_times_what_is_usual(
    seconds: float, computed: float, patience: float
) -> None:
    """And a quick one, of which several run, what is usual."""
    assert paced(*[(seconds, computed)] * 300).patience == pytest.approx(patience, rel=0.05)
