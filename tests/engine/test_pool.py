"""The pool of threads in which tasks are attempted."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from flask_taskqueue.core.delivery.delivery import Delivery
from flask_taskqueue.core.delivery.outcome import permanent
from flask_taskqueue.core.states import Record
from flask_taskqueue.core.times import lease_clock
from flask_taskqueue.engine.pool import Pool
from flask_taskqueue.store import AttemptResult
from tests.waiting import wait_until


def delivery(name: str, held_for: float) -> Delivery:
    """One whose lease is sure for so many seconds."""
    record = Record(*[name if field == "id" else None for field in Record._fields])
    now = time.monotonic()
    until = lease_clock() + held_for
    return Delivery(record=record, started=now, expires=now + 30, held_until=until)


DONE = AttemptResult(delivery("any", 20).record, permanent("that was all"), 0.0001)


@dataclass
class Attempts:
    """Attempts that do no more than call a function."""

    run: Callable[[Delivery], object]
    in_process: bool = True

    def make(self, delivery: Delivery) -> AttemptResult:
        """Run it."""
        self.run(delivery)
        return DONE


def test_what_has_waited_past_its_lease_is_not_begun() -> None:
    """A process that was paused may go on when others have taken over what it held."""
    ran: list[Delivery] = []
    pool = Pool(2, Attempts(ran.append))
    sure, unsure, lost = delivery("sure", 20), delivery("unsure", -1), delivery("lost", 20)
    lost.cancelled = True
    pool.submit([unsure, sure, lost])
    late: list[Delivery] = []

    def all_are_seen() -> bool:
        late.extend(one for one, result in pool.collect(0.0) if result is None)
        return len(ran) + len(late) == 3

    wait_until(all_are_seen, what="all were looked at")
    assert ran == [sure]
    assert {item.record.id for item in late} == {"unsure", "lost"}
    pool.close()


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="no clock counts the sleep")
def test_what_had_not_begun_when_the_machine_was_suspended_does_not_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Others go on meanwhile, although for this process no time has passed."""
    read, suspended = time.clock_gettime, 0.0
    monkeypatch.setattr(
        time,
        "clock_gettime",
        lambda clock: read(clock) + (suspended if clock == time.CLOCK_BOOTTIME else 0.0),
    )
    go_on, ran, late = threading.Event(), [], []

    def run(one: Delivery) -> None:
        ran.append(one.record.id)
        go_on.wait(20)

    pool = Pool(1, Attempts(run))
    pool.submit([delivery("first", 20), delivery("second", 20)])
    wait_until(lambda: ran, what="the first runs")
    suspended = 3600.0
    go_on.set()

    def second_is_back() -> bool:
        late.extend(one.record.id for one, result in pool.collect(0.0) if result is None)
        return bool(late)

    wait_until(second_is_back, what="the second was looked at")
    assert (ran, late) == (["first"], ["second"])
    pool.close()


def test_brisk_deliveries_are_attempted_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even when more had been called for those before: they stop when they are through."""
    go_on = threading.Event()
    ran_by: Counter[int] = Counter()
    begun: list[str] = []

    def run(one: Delivery) -> None:
        begun.append(one.record.id)
        if one.record.id == "slow":
            go_on.wait(20)
        else:
            ran_by[threading.get_ident()] += 1

    monkeypatch.setattr("flask_taskqueue.engine.pool._LONG", math.inf)  # on a slow machine too
    pool = Pool(4, Attempts(run))
    pool._pacing.stall()
    pool.submit([delivery("slow", 20) for _ in range(4)])
    wait_until(lambda: len(begun) == 4, what="all four threads attempt")
    pool._pacing.try_one_thread(time.monotonic())
    pool.submit([delivery(f"brisk {number}", 20) for number in range(1000)])
    go_on.set()
    wait_until(lambda: ran_by.total() == 1000, what="all are attempted")
    assert max(ran_by.values()) >= 900
    pool.close()


def test_a_thread_that_is_kept_does_not_keep_the_others() -> None:
    """One attempt lasts; what is started later, as brisk, is attempted by another thread,
    without a call.
    """
    kept = threading.Event()
    began: list[float] = []
    ran: list[str] = []

    def run(one: Delivery) -> None:
        if one.record.id == "long":
            began.append(time.monotonic())
            kept.wait(20)
        ran.append(one.record.id)

    pool = Pool(4, Attempts(run))
    pool.submit([delivery("long", 20)])
    wait_until(
        lambda: began and time.monotonic() - began[0] > 0.02,
        what="it lasts longer than an attempt that gets on",
    )
    for batch in range(3):
        pool.submit([delivery(f"{batch}.{number}", 20) for number in range(5)])
        wait_until(lambda batch=batch: len(ran) == 5 * (batch + 1), what="the others are attempted")
    kept.set()
    wait_until(lambda: len(ran) == 16, what="the long one is over")
    pool.close()


def test_each_call_is_for_twice_as_many_threads_each_time() -> None:
    go_on = threading.Event()
    threads: list[int] = []

    def run(one: Delivery) -> None:
        threads.append(threading.get_ident())
        go_on.wait(20)

    pool = Pool(8, Attempts(run))
    pool.submit([delivery(str(number), 20) for number in range(20)])
    for least in (1, 2, 4, 8):
        wait_until(lambda least=least: len(threads) >= least, what=f"{least} threads attempt")
        pool._call_more()
    assert len(pool._waiting) == 12
    go_on.set()
    wait_until(lambda: len(threads) == 20, what="all are attempted")
    pool.close()
