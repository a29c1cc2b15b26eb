"""Circuits of receivers that keep failing, on each database."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue.core.delivery.outcome import Outcome, success
from flask_taskqueue.core.queues.circuits import FIRST_PAUSE, OPENS_AT, Circuit
from flask_taskqueue.core.states import Record, State
from flask_taskqueue.core.tasks.request import TaskRequest
from flask_taskqueue.core.times import SECOND
from flask_taskqueue.store import AttemptResult, Store
from tests.store.conftest import add, claim, get
from tests.store.receivers import change, now, send

BROKEN = Outcome(State.SCHEDULED, "failure", 503, "broken", delay=600.0, receiver_works=False)
GONE = Outcome(State.SCHEDULED, "connection", None, "refused", delay=600.0, receiver_works=False)
BUSY = Outcome(State.SCHEDULED, "failure", 503, "busy", delay=600.0, retry_after=30.0)
LATE = Outcome(State.SCHEDULED, "failure", 404, "not there", delay=600.0, receiver_works=True)
FINE = success(204)
A, B = "a.example:443", "b.example"


def finish(store: Store, *records: Record, outcome: Outcome = BROKEN) -> list[str]:
    """Record outcomes; what is told of circuits."""
    recorded = store.transact(
        lambda connection: store.recording.record(
            connection, [AttemptResult(record, outcome, 0.1) for record in records]
        )
    )
    return [str(change) for change in recorded.circuits]


def attempt(store: Store, *outcomes: Outcome, host: str | None = "a.example") -> list[str]:
    """Attempts of new tasks, one by one; what is told."""
    told: list[str] = []
    for outcome in outcomes:
        send(store, host)
        (record,) = claim(store)
        told += finish(store, record, outcome=outcome)
    return told


def circuits(store: Store) -> dict[str, Circuit]:
    """The open circuits."""
    with store.reading() as connection:
        return store.circuits.open(connection)


def open_it(store: Store, *, probe_in: int = 600 * SECOND) -> None:
    """Have a receiver fail until its circuit is open."""
    attempt(store, *[BROKEN] * OPENS_AT)
    change(store, probe_at=now(store) + probe_in)


def test_five_failures_in_a_row_open_the_circuit_of_that_receiver(store: Store) -> None:
    """Its tasks are put off and use no attempt; those of others go on."""
    assert attempt(store, *[BROKEN] * (OPENS_AT - 1)) == []
    assert circuits(store) == {}
    (told,) = attempt(store, GONE)
    assert f"the circuit of {A} is open: 5 attempts" in told
    found = circuits(store)[A]
    assert (found.failures, found.failure, found.probing) == (5, "connection", False)
    assert found.probe_at == (found.opened_at or 0) + FIRST_PAUSE
    waiting = [send(store) for _ in range(3)]
    others = [send(store, B), send(store, None), send(store, "a.example:8443")]
    assert {record.id for record in claim(store, 10)} == {other.id for other in others}
    for record in waiting:
        row = get(store, record.id)
        assert (row.state, row.attempts, row.lease_id) == (State.SCHEDULED, 0, None)
        assert (row.due_at or 0) >= found.probe_at


@pytest.mark.parametrize("outcome", [FINE, LATE])
def test_any_answer_begins_a_new_row(store: Store, outcome: Outcome) -> None:
    """Also one of a status below 500: the receiver works, whatever it thinks of the task."""
    attempt(store, *[BROKEN] * 4, outcome, *[BROKEN] * 4)
    assert circuits(store) == {}
    attempt(store, BROKEN)
    assert list(circuits(store)) == [A]


def test_who_asks_for_less_does_not_fail(store: Store) -> None:
    """A 503 with Retry-After slows the receiver, as before, and does not count here; the failures
    before and after it are one row.
    """
    attempt(store, *[BROKEN] * 4)
    send(store)
    finish(store, *claim(store), outcome=BUSY)
    assert circuits(store) == {}
    change(store, over_at=0, empty_at=0)
    attempt(store, BROKEN)
    assert list(circuits(store)) == [A]
    with store.reading() as connection:
        assert store.slowdowns.active(connection) == {}
    change(store, opened_at=None, failures=0)
    attempt(store, FINE)


def test_failures_of_the_apps_own_routes_open_nothing(store: Store) -> None:
    """They are the handlers', not a receiver's; nothing is written for them."""
    attempt(store, *[BROKEN] * 6, host=None)
    assert circuits(store) == {}
    with store.reading() as connection:
        assert connection.execute(sa.select(store.database.tables.slowdown)).all() == []


def test_one_of_all_who_claim_sends_the_probe(store: Store) -> None:
    """One conditional statement decides: many threads together begin one task."""
    open_it(store, probe_in=0)
    for _ in range(20):
        send(store)
    taken: list[str] = []

    def work() -> None:
        for _ in range(5):
            taken.extend(record.id for record in claim(store, 5))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1
    found = circuits(store)[A]
    assert (found.probe_id, found.probing) == (taken[0], True)


def test_two_that_have_seen_the_same_do_not_both_send_a_probe(store: Store) -> None:
    """The second finds the circuit changed."""
    open_it(store, probe_in=0)
    seen = circuits(store)[A]
    take = store.circuits.take_probe
    assert store.transact(lambda connection: take(connection, seen, "one"))
    assert not store.transact(lambda connection: take(connection, seen, "two"))


def test_a_probe_that_fails_leaves_the_circuit_open(store: Store) -> None:
    """The next is sent later, and is another task, because this one has its own retry."""
    open_it(store, probe_in=0)
    for _ in range(2):
        send(store)
    (probe,) = claim(store, 5)
    assert finish(store, probe) == []
    found = circuits(store)[A]
    assert (found.failures, found.probes, found.probing) == (6, 1, False)
    assert found.probe_at - now(store) > FIRST_PAUSE
    change(store, probe_at=now(store) - SECOND)
    table = store.database.tables.task
    store.transact(
        lambda connection: connection.execute(
            sa.update(table).where(table.c.attempts == 0).values(due_at=now(store))
        )
    )
    (other,) = claim(store, 5)
    assert other.id != probe.id


def test_a_probe_that_is_answered_closes_the_circuit(store: Store) -> None:
    """Its failures are forgotten, and what comes is sent at once."""
    open_it(store, probe_in=0)
    send(store)
    (told,) = finish(store, *claim(store, 5), outcome=LATE)
    assert "is closed: it has answered" in told
    assert circuits(store) == {}
    sent = [send(store) for _ in range(3)]
    assert {record.id for record in claim(store, 5)} == {record.id for record in sent}
    attempt(store, *[BROKEN] * 4)
    assert circuits(store) == {}


def test_what_was_under_way_when_it_opened_closes_it_with_an_answer_only(store: Store) -> None:
    """Its failures do not put the next probe off."""
    for _ in range(OPENS_AT + 3):
        send(store)
    records = claim(store, OPENS_AT + 3)
    for record in records[:OPENS_AT]:
        finish(store, record)
    before = circuits(store)[A]
    finish(store, records[-3])
    after = circuits(store)[A]
    assert (after.probe_at, after.probes) == (before.probe_at, 0)
    assert len(finish(store, *records[-2:], outcome=FINE)) == 1
    assert circuits(store) == {}


def test_what_was_under_way_when_it_closed_does_not_open_it_again(store: Store) -> None:
    """Those attempts began before the receiver answered, or before somebody closed it."""
    for _ in range(2 * OPENS_AT):
        send(store)
    records = claim(store, 2 * OPENS_AT)
    for record in records[:OPENS_AT]:
        finish(store, record)
    assert store.transact(lambda connection: store.circuits.close(connection, A)) is not None
    for record in records[OPENS_AT:]:
        finish(store, record)
    assert circuits(store) == {}


def test_a_probe_whose_process_died_makes_room_for_another(store: Store) -> None:
    """When its lease has run out; and so does one that was given back."""
    open_it(store, probe_in=0)
    for _ in range(3):
        send(store)
    (probe,) = claim(store, 5)
    assert circuits(store)[A].probing
    due(store)
    assert claim(store, 5) == []
    table = store.database.tables.task
    lost = sa.update(table).where(table.c.id == probe.id).values(due_at=now(store) - SECOND)
    store.transact(lambda connection: connection.execute(lost))
    assert not circuits(store)[A].probing
    due(store)
    (second,) = claim(store, 5)
    store.transact(lambda connection: store.leases.release(connection, [second.lease]))
    due(store)
    assert len(claim(store, 5)) == 1


def due(store: Store) -> None:
    """Make everything due that waits."""
    table = store.database.tables.task
    waits = sa.update(table).where(table.c.state == "scheduled").values(due_at=now(store) - 1)
    store.transact(lambda connection: connection.execute(waits))


def test_it_can_be_closed_by_hand(store: Store) -> None:
    """What waited is due at once, in the order of the etas; others are left alone."""
    open_it(store)
    begin = datetime.now(UTC) - timedelta(hours=2)
    expected = [send(store, eta=begin + timedelta(minutes=number)).id for number in range(5)]
    expected.append(send(store).id)
    later = send(store, eta=datetime.now(UTC) + timedelta(hours=1))
    other = send(store, B, delay=3600 * SECOND)
    assert claim(store, 10) == []
    closed = store.transact(lambda connection: store.circuits.close(connection, A))
    assert closed is not None
    assert closed.failures == OPENS_AT
    assert [record.id for record in claim(store, 1)] == expected[:1]
    assert {record.id for record in claim(store, 100)} >= set(expected[1:])
    for untouched in (later, other):
        assert get(store, untouched.id).due_at == untouched.due_at
    assert store.transact(lambda connection: store.circuits.close(connection, A)) is None


def test_who_has_seen_it_open_puts_nothing_off_when_it_is_closed(store: Store) -> None:
    """Whoever closed it would not have found those tasks: they are sent."""
    open_it(store)
    with store.reading() as connection:
        lanes = store.claims.lanes(connection)
    sent = [send(store) for _ in range(3)]
    assert store.transact(lambda connection: store.circuits.close(connection, A)) is not None
    with store.reading() as connection:
        (lane,) = store.claims.lanes(connection).due()
    how: dict[str, Any] = {"lease_id": "lease", "held_by": "me", "lease": 30}
    seen: Any = dict(lanes.slowdowns)
    assert list(seen) == [A]
    found = store.transact(
        lambda connection: store.claims.claim(connection, lane, 20, slowdowns=seen, **how)
    )
    assert {record.id for record in sent} <= {record.id for record in found}


def test_what_waits_is_due_in_order_after_the_probe(store: Store) -> None:
    """In the order of the etas, whenever it was put off."""
    open_it(store)
    begin = datetime.now(UTC) - timedelta(hours=2)
    etas = [begin + timedelta(minutes=number) for number in (5, 1, 3)]
    first = send(store, eta=begin)
    one, two, three = (send(store, eta=eta) for eta in etas)
    assert claim(store, 10) == []
    four = send(store, eta=begin + timedelta(minutes=2))
    send(store, eta=begin + timedelta(minutes=9))
    assert claim(store, 10) == []
    found = circuits(store)[A]
    assert get(store, first.id).due_at == found.probe_at
    dues = [get(store, waits.id).due_at or 0 for waits in (two, three, one)]
    assert dues == sorted(dues)
    assert dues[0] > found.probe_at
    assert get(store, four.id).due_at == found.probe_at, "one of each look may be the probe"


def test_the_next_probe_is_a_task_for_another_path(store: Store) -> None:
    """Where one path of a host fails, a task for another is the next probe, in any queue, however
    soon the failing ones come back.
    """
    open_it(store, probe_in=0)
    change(store, probes=1)
    bad = [send(store) for _ in range(3)]
    (probe,) = claim(store, 5)
    assert probe.id == bad[0].id
    waiting = add(
        store, request=TaskRequest("POST", "https://a.example/good", {}, b""), queue="mail"
    )
    assert claim(store, 5) == []
    finish(store, probe, outcome=replace(BROKEN, delay=1.0))
    found = circuits(store)[A]
    assert (found.probe_id, found.probing) == (waiting.id, False)
    assert get(store, waiting.id).due_at == found.probe_at
    change(store, probe_at=now(store) + 60 * SECOND)
    due(store)
    assert claim(store, 5) == []
    assert all((get(store, one.id).due_at or 0) > now(store) + 60 * SECOND for one in bad)
    change(store, probe_at=now(store) - SECOND)
    table = store.database.tables.task
    its_time = sa.update(table).where(table.c.id == waiting.id).values(due_at=now(store) - SECOND)
    store.transact(lambda connection: connection.execute(its_time))
    (second,) = claim(store, 5)
    assert second.id == waiting.id
    assert len(finish(store, second, outcome=FINE)) == 1


def test_a_probe_that_was_chosen_and_is_gone_holds_nothing_up(store: Store) -> None:
    """The others come shortly after it, and one of them is the probe."""
    open_it(store, probe_in=0)
    for _ in range(3):
        send(store)
    (probe,) = claim(store, 5)
    finish(store, probe)
    chosen = circuits(store)[A].probe_id
    store.transact(lambda connection: store.tasks.delete(connection, chosen))
    change(store, probe_at=now(store) - SECOND)
    due(store)
    (other,) = claim(store, 5)
    assert other.id not in (probe.id, chosen)


def test_of_who_sends_what_was_chosen_and_who_another_one_does(store: Store) -> None:
    """The row changes with the probe, also if the task is the one that was chosen."""
    open_it(store, probe_in=0)
    change(store, probe_id="chosen")
    seen, take = circuits(store)[A], store.circuits.take_probe
    assert store.transact(lambda connection: take(connection, seen, "chosen"))
    assert not store.transact(lambda connection: take(connection, seen, "other"))


def test_failures_that_nothing_followed_are_forgotten_after_a_day(store: Store) -> None:
    """So that a receiver to which nothing is sent any more is not told of for ever."""
    open_it(store)
    assert store.transact(store.slowdowns.prune) == 0
    change(store, failed_at=now(store) - 86_401 * SECOND, over_at=0)
    assert store.transact(store.slowdowns.prune) == 0
    change(store, probe_at=now(store) - 86_401 * SECOND)
    assert store.transact(store.slowdowns.prune) == 1
    assert circuits(store) == {}


def test_while_one_is_open_nothing_is_claimed_without_a_look(store: Store) -> None:
    """A dispatcher that was idle looks first."""
    open_it(store)
    sent = send(store, B)
    with store.reading() as connection:
        (lane,) = store.claims.lanes(connection).due()
    how = {"lease_id": "lease", "held_by": "me", "lease": 30}
    assert store.transact(lambda c: store.claims.claim_unseen(c, lane, 5, **how)) == []
    assert [record.id for record in claim(store, 5)] == [sent.id]
