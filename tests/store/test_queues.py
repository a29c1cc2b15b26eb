"""Queues: limits that hold for everybody, pauses, configuration and statistics, on each
database.
"""

from __future__ import annotations

import threading
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue.core.delivery.outcome import Outcome
from flask_taskqueue.core.names import lease_id
from flask_taskqueue.core.queues.lanes import Lane
from flask_taskqueue.core.queues.rates import bucket_key
from flask_taskqueue.core.settings.queue import QueueSettings
from flask_taskqueue.core.states import State
from flask_taskqueue.core.times import SECOND
from flask_taskqueue.store import AttemptResult, Store
from tests.store.conftest import add, claim, see, sighting, take_over

SUCCESS = Outcome(State.SUCCEEDED, "success", 204)


def configure(store: Store, **limits: Any) -> None:
    """Change the limits of queue mail."""
    store.transact(lambda connection: store.queues.configure(connection, "mail", limits))


def finish(store: Store, *records: Any, outcome: Outcome = SUCCESS) -> None:
    """Record outcomes."""
    store.transact(
        lambda connection: store.recording.record(
            connection, [AttemptResult(record, outcome, 0.1) for record in records]
        )
    )


def gate(store: Store) -> Any:
    """What queue mail lets through."""
    with store.reading() as connection:
        return store.queues.gates(connection, ["mail"])["mail"]


def test_no_more_than_the_bucket_holds_starts_at_once(store: Store) -> None:
    """And the tokens are gone for everybody."""
    configure(store, rate=0.001, bucket_size=3)
    for _ in range(10):
        add(store, queue="mail")
    assert len(claim(store, 8)) == 3
    assert claim(store, 8) == []
    with store.reading() as connection:
        next_in = store.claims.lanes(connection).next_in()
    assert next_in == pytest.approx(1000, abs=5)


def test_a_clock_that_was_ahead_stops_no_queue(store: Store) -> None:
    """What started then took tokens of a time that has not come yet."""
    configure(store, rate=0.001, bucket_size=2)
    for _ in range(6):
        add(store, queue="mail")
    assert len(claim(store, 8)) == 2
    lock = store.database.tables.lock
    store.transact(
        lambda connection: connection.execute(
            sa.update(lock)
            .where(lock.c.lock_key == bucket_key("mail"))
            .values(filled_at=lock.c.filled_at + 86_400 * SECOND)
        )
    )
    assert len(claim(store, 8)) == 2
    assert claim(store, 8) == []
    with store.reading() as connection:
        assert store.claims.lanes(connection).next_in() == pytest.approx(1000, abs=5)


def test_starts_leave_the_row_of_their_queue_alone(store: Store) -> None:
    """Who pauses or configures the queue need not know them."""
    configure(store, rate=0.001, bucket_size=3)
    table = store.database.tables.queue
    mine = sa.select(table).where(table.c.name == "mail")
    with store.reading() as connection:
        before = connection.execute(mine).one()
    add(store, queue="mail")
    assert len(claim(store)) == 1
    with store.reading() as connection:
        assert connection.execute(mine).one() == before


def test_a_rate_that_is_new_does_not_count_what_started_before(store: Store) -> None:
    """However many started while the queue had another limit only, its bucket is full."""
    configure(store, max_concurrent=100, bucket_size=3)
    for _ in range(20):
        add(store, queue="mail")
    assert len(claim(store, 10)) == 10
    configure(store, rate=0.001)
    assert len(claim(store, 10)) == 3


def test_no_more_than_may_run_at_a_time(store: Store) -> None:
    """When one ends, one starts."""
    configure(store, max_concurrent=2)
    for _ in range(5):
        add(store, queue="mail")
    first = claim(store, 8)
    assert len(first) == 2
    assert claim(store, 8) == []
    finish(store, first[0])
    assert len(claim(store, 8)) == 1


def test_a_crashed_task_of_a_full_queue_is_taken_over(store: Store) -> None:
    """It is in flight already; with a rate its next attempt takes a token like any other."""
    configure(store, max_concurrent=1)
    add(store, queue="mail")
    claim(store)
    store.transact(lambda connection: store.leases.expire(connection, "me"))
    assert take_over(store) is not None


def test_limits_hold_when_many_ask_at_once(store: Store) -> None:
    """Eight threads that claim as fast as they can start as many as the bucket holds, no more."""
    configure(store, rate=0.001, bucket_size=20, max_concurrent=15)
    for _ in range(60):
        add(store, queue="mail")
    taken: list[str] = []

    def work() -> None:
        for _ in range(12):
            taken.extend(record.id for record in claim(store, 5))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 15


def test_pause_and_resume(store: Store) -> None:
    """Said once, each; a paused queue takes adds."""

    def change(verb: str, *more: Any) -> Any:
        return store.transact(
            lambda connection: getattr(store.queues, verb)(connection, "mail", *more)
        )

    assert (change("pause", "ana"), change("pause", "ben")) == (True, False)
    add(store, queue="mail")
    assert claim(store) == []
    assert (change("resume"), change("resume")) == (True, False)
    assert len(claim(store)) == 1


def test_run_time_changes_stay_until_the_configuration_changes(store: Store) -> None:
    """A restart with the same configuration keeps them; a new configuration wins."""

    def start(**limits: Any) -> Any:
        again = Store(store.database, [QueueSettings(name="mail", **limits)])
        again.configure_queues()
        return gate(again)

    assert start(rate=5.0).rate == 5.0
    configure(store, rate=9.0)
    assert start(rate=5.0).rate == 9.0
    assert start(rate=6.0, max_concurrent=4).rate == 6.0


def statistics(store: Store, name: str = "mail") -> Any:
    """The counts of a queue."""
    with store.reading() as connection:
        return store.statistics.of(connection, [name])[name]


def test_statistics_are_true(store: Store) -> None:
    """After each kind of end, and after what ended was pruned or requeued."""
    first = add(store, queue="mail", delay=-5 * SECOND)
    for _ in range(7):
        add(store, queue="mail")
    add(store)
    before = statistics(store)
    assert (before.counts.unclaimed, before.counts.leased, before.counts.first_due_at) == (
        8,
        0,
        first.due_at,
    )
    taken = [record for record in claim(store, 9) if record.queue == "mail"]
    assert statistics(store).counts.leased == 8
    finish(store, *taken[:3])
    finish(store, *taken[3:5], outcome=Outcome(State.DEAD, "failure", 500, "no"))
    finish(store, taken[5], outcome=Outcome(State.SCHEDULED, "failure", 500, "no", delay=60.0))
    store.transact(lambda connection: store.tasks.delete(connection, taken[6].id))
    now = statistics(store)
    counts = now.counts
    assert (counts.unclaimed, counts.leased) == (1, 1)
    assert (counts.succeeded, counts.dead, counts.cancelled) == (3, 2, 1)
    assert (now.last_minute, now.last_hour, now.failed_last_hour) == (6, 6, 3)
    store.transact(lambda connection: store.tasks.requeue(connection, taken[3].id))
    store.transact(
        lambda connection: store.finished_tasks.prune(
            connection, keep_succeeded=-1, keep_dead=900, tombstones={}
        )
    )
    after = statistics(store).counts
    assert (after.unclaimed, after.succeeded, after.dead, after.cancelled) == (2, 0, 1, 0)
    assert statistics(store, "default").counts.leased == 1


def test_merging_the_tally_changes_no_count(store: Store) -> None:
    """What is older than an hour is added up; sums stay."""
    tally = store.database.tables.tally
    for number in range(3):
        add(store, queue="mail")
        (taken,) = claim(store, held_by=f"holder-{number}")
        finish(store, taken)
    store.transact(
        lambda connection: connection.execute(sa.update(tally).values(slot=tally.c.slot - 400))
    )
    assert store.transact(store.counters.merge) == 3
    assert store.transact(store.counters.merge) == 0
    now = statistics(store)
    assert (now.counts.succeeded, now.last_hour) == (3, 0)
    with store.reading() as connection:
        assert connection.scalar(sa.select(sa.func.count()).select_from(tally)) == 1


@pytest.mark.parametrize(
    "limits",
    [{}, {"rate": 5.0}, {"max_concurrent": 1}, "slowed", "paused"],
    ids=["open", "rate", "max_concurrent", "slowed", "paused"],
)
def test_without_a_look_only_an_open_queue_is_taken_from(store: Store, limits: Any) -> None:
    """Limits have to be asked, and a pause holds, however a task is claimed; other lanes are
    left alone.
    """
    if limits == "paused":
        store.transact(lambda connection: store.queues.pause(connection, "mail", None))
    elif limits == "slowed":
        add(store)
        finish(
            store,
            *claim(store),
            outcome=Outcome(State.SCHEDULED, "failure", 503, "busy", delay=60.0, retry_after=30.0),
        )
    else:
        configure(store, **limits)
    added = [add(store, queue="mail") for _ in range(3)]
    for other in (
        {"queue": "default"},
        {"queue": "mail", "priority": 1},
        {"queue": "mail", "delay": 60 * SECOND},
    ):
        add(store, **other)
    terms = {"lease_id": lease_id(), "held_by": "me", "lease": 30.0}
    taken = store.transact(
        lambda connection: store.claims.claim_unseen(
            connection, Lane("mail", 0, None, None), 8, **terms
        )
    )
    assert [record.id for record in taken] == (
        [record.id for record in added] if limits == {} else []
    )
    assert {record.state for record in taken} <= {State.LEASED}


def releases(store: Store, **limits: int) -> dict[str, Store]:
    """What releases of the app have configured for queue mail, by the names of the releases."""
    return {
        name: Store(store.database, [QueueSettings(name="mail", max_concurrent=limit)])
        for name, limit in limits.items()
    }


def start(store: Store, name: str, at: int) -> None:
    """Have a dispatcher say that it is there, and that it started then."""
    see(store, sighting(name))
    dispatcher = store.database.tables.dispatcher
    started = sa.update(dispatcher).where(dispatcher.c.id == name).values(started_at=at)
    store.transact(lambda connection: connection.execute(started))


def test_the_limits_are_those_of_the_dispatcher_that_started_last(store: Store) -> None:
    """Of those that are alive: when it has gone, those of the others hold again."""
    known = releases(store, fleet=1, canary=4)
    for number, (name, release) in enumerate(known.items()):
        release.configure_queues()
        start(store, name, number + 1)
    for name, release in known.items():
        release.configure_queues(name)
    assert gate(store).max_concurrent == 4
    store.transact(lambda connection: store.dispatchers.remove(connection, "canary"))
    known["fleet"].configure_queues("fleet")
    assert gate(store).max_concurrent == 1


def test_a_dispatcher_that_died_does_not_keep_its_limits_in_force(store: Store) -> None:
    """Once it counts as gone."""
    known = releases(store, fleet=1, canary=4)
    start(store, "fleet", 1)
    start(store, "canary", 2)
    known["canary"].configure_queues("canary")
    dispatcher = store.database.tables.dispatcher
    store.transact(
        lambda connection: connection.execute(
            sa.update(dispatcher).where(dispatcher.c.id == "canary").values(seen_at=2)
        )
    )
    known["fleet"].configure_queues("fleet")
    assert gate(store).max_concurrent == 1


def test_whoever_only_adds_or_looks_changes_no_limit(store: Store) -> None:
    """A web process or a command of another release leaves what dispatchers have configured."""
    known = releases(store, fleet=1, stale=4)
    known["fleet"].configure_queues()
    known["stale"].ensure_queues()
    known["stale"].see_queues()
    known["stale"].transact(lambda connection: known["stale"].ensure_queues(connection))
    assert gate(store).max_concurrent == 1


def test_a_queue_of_another_kind_is_one_before_a_task_is_stored(store: Store) -> None:
    """Dispatchers of the other release must not take what is to be leased."""
    Store(store.database, [QueueSettings(name="mail")]).configure_queues()
    Store(store.database, [QueueSettings(name="mail", mode="pull")]).ensure_queues()
    with store.reading() as connection:
        (mode,) = [row.mode for row in store.queues.rows(connection) if row.name == "mail"]
    assert mode == "pull"
