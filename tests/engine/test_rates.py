"""Rates: dispatchers that share the tokens of a queue."""

from __future__ import annotations

from flask_taskqueue.engine.claimer import Claimer
from tests.databases import TestDatabase
from tests.store.conftest import add, open_store


def test_who_came_too_late_for_a_token_looks_again_soon(database: TestDatabase) -> None:
    """Not only at its next poll: of several dispatchers that wake for one token all but one
    find it taken.
    """
    with open_store(database) as store:
        store.transact(
            lambda connection: store.queues.configure(
                connection, "mail", {"rate": 0.1, "bucket_size": 1, "tokens": 1.0}
            )
        )
        for _ in range(2):
            add(store, queue="mail")
        one, other = (
            Claimer(store.claims, store.added_queues, queues=None, held_by=name, lease=30, slots=8)
            for name in ("one", "other")
        )
        with store.reading() as reader:
            seen, stale = one.last_look.look_anew(reader), other.last_look.look_anew(reader)
        assert (
            len(store.transact(lambda connection: one.take(connection, seen, 1, ())).records) == 1
        )
        assert store.transact(lambda connection: other.take(connection, stale, 1, ())).records == []
        assert other.last_look.next_in is not None
        assert other.last_look.next_in <= 0.02
