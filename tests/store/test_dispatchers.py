"""The table of dispatchers, on each database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from flask_taskqueue.core.times import SECOND
from flask_taskqueue.store import Store
from tests.store.conftest import add, claim, see, sighting


def age(store: Store, seconds: float) -> None:
    """Make the last sightings that much older."""
    table = store.database.tables.dispatcher
    older = sa.update(table).values(seen_at=table.c.seen_at - int(seconds * SECOND))
    store.transact(lambda connection: connection.execute(older))


def test_a_dispatcher_is_known_as_it_was_last_seen(store: Store) -> None:
    """What it said at first stays, but for when it was seen and what it has in flight."""
    see(store, sighting(queues=("default", "mail")))
    see(store, sighting("two"))
    with store.reading() as connection:
        first, second = store.dispatchers.list(connection)
    see(store, sighting(in_flight=3))
    with store.reading() as connection:
        again = store.dispatchers.list(connection)[0]
    assert (first.queues, second.queues, first.in_flight, again.in_flight) == (
        ("default", "mail"),
        None,
        0,
        3,
    )
    assert (again.host, again.pid, again.version, again.transport, again.concurrency) == (
        "web-1",
        4711,
        "1.0",
        "wsgi",
        8,
    )
    assert again.started_at == first.started_at == first.seen_at <= again.seen_at
    assert abs(again.seen_at - datetime.now(UTC)) < timedelta(seconds=60)
    assert again.is_alive


def test_one_that_is_not_seen_is_not_alive_and_is_forgotten_after_an_hour(store: Store) -> None:
    """And is known again as soon as it says that it is there after all."""
    see(store, sighting())
    age(store, 60)
    with store.reading() as connection:
        assert [dispatcher.is_alive for dispatcher in store.dispatchers.list(connection)] == [False]
    assert store.transact(store.dispatchers.prune) == 0
    age(store, 3600)
    assert store.transact(store.dispatchers.prune) == 1
    see(store, sighting())
    with store.reading() as connection:
        assert [dispatcher.is_alive for dispatcher in store.dispatchers.list(connection)] == [True]


def test_one_that_has_ended_is_removed(store: Store) -> None:
    """Once; others stay."""
    see(store, sighting())
    see(store, sighting("two"))
    assert store.transact(lambda connection: store.dispatchers.remove(connection, "one"))
    assert not store.transact(lambda connection: store.dispatchers.remove(connection, "one"))
    with store.reading() as connection:
        assert [dispatcher.id for dispatcher in store.dispatchers.list(connection)] == ["two"]


def test_a_dispatcher_is_asked_until_it_has_answered(store: Store) -> None:
    """One that is asked twice answers both; one that is gone is asked only as long as it holds
    leases of the queue.
    """
    see(store, sighting())
    see(store, sighting("two"))
    first = store.transact(store.dispatchers.ask)
    second = store.transact(store.dispatchers.ask)
    assert (set(first), set(second.values()) - set(first.values())) == ({"one", "two"}, {2})
    with store.reading() as connection:
        number = store.dispatchers.question(connection, "one")
        assert (number, store.dispatchers.question(connection, "three")) == (2, None)
        assert store.dispatchers.silent(connection, second, "mail") == ["web-1:4711"] * 2
    store.transact(lambda connection: store.dispatchers.answer(connection, "one", 2))
    with store.reading() as connection:
        assert store.dispatchers.question(connection, "one") is None
        assert (
            store.dispatchers.silent(connection, first, "mail")
            == store.dispatchers.silent(connection, second, "mail")
            == ["web-1:4711"]
        )
    age(store, 60)
    add(store, queue="mail")
    claim(store, held_by="two")
    with store.reading() as connection:
        assert store.dispatchers.silent(connection, second, "mail") == ["web-1:4711"]
        assert store.dispatchers.silent(connection, second, "default") == []
