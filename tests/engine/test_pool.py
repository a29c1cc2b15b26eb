"""The threads in which tasks are attempted."""

from __future__ import annotations

import threading
import time
from collections import Counter

from flask_taskqueue.core.delivery.delivery import Delivery
from flask_taskqueue.core.record import Record
from flask_taskqueue.engine.pool import Pool
from tests.waiting import wait_until


def delivery(name: str, held_for: float) -> Delivery:
    """One whose lease is sure for so many seconds."""
    record = Record(*[name if field == "id" else None for field in Record._fields])
    now = time.monotonic()
    return Delivery(record=record, started=now, expires=now + 30, held_until=now + held_for)


def test_what_has_waited_past_its_lease_is_not_begun() -> None:
    """A process that was paused may go on when others have taken over what it held."""
    ran: list[Delivery] = []
    slots = Pool(2, ran.append)
    sure, unsure, lost = delivery("sure", 20), delivery("unsure", -1), delivery("lost", 20)
    lost.cancelled = True
    slots.start([unsure, sure, lost], in_flight=3, brisk=True)
    late: list[Delivery] = []

    def all_are_seen() -> bool:
        late.extend(slots.take_late())
        return len(ran) + len(late) == 3

    wait_until(all_are_seen, what="all were looked at")
    assert ran == [sure]
    assert {one.record.id for one in late} == {"unsure", "lost"}
    slots.close()


def test_brisk_deliveries_are_attempted_by_one_thread() -> None:
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

    slots = Pool(4, run)
    slots.start([delivery("slow", 20) for _ in range(4)], in_flight=4, brisk=False)
    wait_until(lambda: len(begun) == 4, what="all four threads attempt")
    slots.start(
        [delivery(f"brisk {number}", 20) for number in range(1000)], in_flight=1004, brisk=True
    )
    go_on.set()
    wait_until(lambda: ran_by.total() == 1000, what="all are attempted")
    assert max(ran_by.values()) >= 900
    slots.close()


def test_a_thread_that_is_kept_does_not_keep_the_others() -> None:
    """One attempt lasts; what is started later, as brisk, is attempted by another thread,
    without a spur.
    """
    kept = threading.Event()
    began: list[float] = []
    ran: list[str] = []

    def run(one: Delivery) -> None:
        if one.record.id == "long":
            began.append(time.monotonic())
            kept.wait(20)
        ran.append(one.record.id)

    slots = Pool(4, run)
    slots.start([delivery("long", 20)], in_flight=1, brisk=True)
    wait_until(
        lambda: began and time.monotonic() - began[0] > 0.02,
        what="it lasts longer than an attempt that gets on",
    )
    for batch in range(3):
        slots.start(
            [delivery(f"{batch}.{number}", 20) for number in range(5)], in_flight=6, brisk=True
        )
        wait_until(lambda batch=batch: len(ran) == 5 * (batch + 1), what="the others are attempted")
    kept.set()
    wait_until(lambda: len(ran) == 16, what="the long one is over")
    slots.close()


def test_spurs_call_twice_as_many_threads_each_time() -> None:
    go_on = threading.Event()
    threads: list[int] = []

    def run(one: Delivery) -> None:
        threads.append(threading.get_ident())
        go_on.wait(20)

    slots = Pool(8, run)
    slots.start([delivery(str(number), 20) for number in range(20)], in_flight=20, brisk=True)
    for least in (1, 2, 4, 8):
        wait_until(lambda least=least: len(threads) >= least, what=f"{least} threads attempt")
        slots.spur()
    assert slots.waiting == 12
    go_on.set()
    wait_until(lambda: len(threads) == 20, what="all are attempted")
    slots.close()
