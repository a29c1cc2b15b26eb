"""The threads in which tasks are attempted."""

from __future__ import annotations

import time

from flask_taskqueue.core.delivery import Delivery
from flask_taskqueue.core.record import Record
from flask_taskqueue.engine.slots import Slots
from tests.waiting import wait_until


def delivery(name: str, held_for: float) -> Delivery:
    """One whose lease is sure for so many seconds."""
    record = Record(*[name if field == "id" else None for field in Record._fields])
    now = time.monotonic()
    return Delivery(record=record, started=now, expires=now + 30, held_until=now + held_for)


def test_what_has_waited_past_its_lease_is_not_begun() -> None:
    """A process that was paused may go on when others have taken over what it held."""
    ran: list[Delivery] = []
    slots = Slots(2, ran.append)
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
