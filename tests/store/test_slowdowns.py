"""Slowdowns of receivers, on each database."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue.core.delivery.outcome import Outcome
from flask_taskqueue.core.queues import slowdowns
from flask_taskqueue.core.queues.slowdowns import Slowdown
from flask_taskqueue.core.states import Record, State
from flask_taskqueue.core.times import SECOND
from flask_taskqueue.store import AttemptResult, Store
from tests.store.conftest import claim, get
from tests.store.receivers import change, now, send

BUSY = Outcome(State.SCHEDULED, "failure", 429, "busy", delay=600.0, retry_after=30.0)


def finish(store: Store, *records: Record, outcome: Outcome = BUSY) -> None:
    """Record outcomes."""
    store.transact(
        lambda connection: store.recording.record(
            connection, [AttemptResult(record, outcome, 0.1) for record in records]
        )
    )


def active(store: Store) -> dict[str, Slowdown]:
    """Who is slowed."""
    with store.reading() as connection:
        return store.slowdowns.active(connection)


def slow(store: Store, host: str | None = "a.example", **fields: Any) -> None:
    """Have a receiver ask for less again and again, until it is given one task in ten seconds,
    the next one then.
    """
    send(store, host, **fields)
    finish(store, *claim(store))
    change(store, rate=0.1, empty_at=now(store), over_at=now(store) + 600 * SECOND)


def test_only_who_asked_is_slowed(store: Store) -> None:
    """Tasks for others of the same queue go on; its own are put off, and no attempt is counted."""
    slow(store)
    late = [send(store) for _ in range(3)]
    others = [send(store, "b.example"), send(store, None), send(store, "a.example:8443")]
    assert {record.id for record in claim(store, 10)} == {other.id for other in others}
    assert list(active(store)) == ["a.example:443"]
    for record in late:
        row = get(store, record.id)
        assert (row.state, row.attempts, row.first_tried_at, row.lease_id) == (
            State.SCHEDULED,
            0,
            None,
            None,
        )
        assert (row.due_at or 0) > now(store) + 5 * SECOND


def test_a_host_is_slowed_in_every_queue_and_a_route_of_the_app_in_its_own(store: Store) -> None:
    """A 503 of the app's own routes says nothing of other queues, and nothing of other hosts."""
    slow(store, queue="mail")
    send(store)
    assert claim(store) == []
    slow(store, None, queue="mail")
    change(store, empty_at=now(store) + 60 * SECOND)
    send(store, None, queue="mail")
    others = [send(store, None), send(store, "b.example", queue="mail")]
    assert {record.id for record in claim(store, 10)} == {other.id for other in others}
    assert sorted(active(store)) == ["/mail", "a.example:443"]


def test_a_host_is_given_what_has_gathered(store: Store) -> None:
    """Together all who claim start no more than that."""
    slow(store)
    change(store, empty_at=now(store) - 12 * SECOND)
    for _ in range(40):
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
    assert claim(store, 40) == []


def test_those_that_wait_are_not_in_the_way(store: Store) -> None:
    """However many they are: what is for others is reached by a few statements, and each of
    them is put off once.
    """
    slow(store)
    for _ in range(450):
        send(store)
    good = send(store, "b.example")
    change(store, empty_at=now(store) + 60 * SECOND)
    statements: list[str] = []
    store.transact(
        lambda connection: sa.event.listen(
            connection.engine, "before_cursor_execute", lambda *a: statements.append(a[2])
        )
    )
    assert [record.id for record in claim(store, 8)] == [good.id]
    assert len(statements) < 60
    with store.reading() as connection:
        assert [lane for lane in store.claims.lanes(connection).due()] == []


def test_where_nobody_is_slowed_nothing_more_is_asked(store: Store) -> None:
    """As many statements as ever, and none of them is about slowdowns alone."""
    for _ in range(20):
        send(store)
    statements: list[str] = []
    store.transact(
        lambda connection: sa.event.listen(
            connection.engine, "before_cursor_execute", lambda *a: statements.append(a[2])
        )
    )
    assert len(claim(store, 8)) == 8
    assert not any(
        statement.lstrip().lower().startswith(("select", "update"))
        and "from taskqueue_slowdown" in statement.lower()[:80]
        for statement in statements
    )
    assert not any(
        "slowdown" in statement and "EXISTS" not in statement for statement in statements
    )


def test_a_key_of_a_task_that_is_put_off_is_free(store: Store) -> None:
    """Another task with it may run meanwhile; of a serial key none goes past the first."""
    slow(store)
    late = send(store, lock_key="c:ana", lock_limit=1)
    first = send(store, lock_key="s:bo")
    assert claim(store, 5) == []
    good = send(store, "b.example", lock_key="c:ana", lock_limit=1)
    send(store, "b.example", lock_key="s:bo")
    assert [record.id for record in claim(store, 5)] == [good.id]
    assert [get(store, one.id).attempts for one in (late, first)] == [0, 0]


def test_several_replies_together_are_one_complaint(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of several dispatchers, and of a task that gave up."""
    monkeypatch.setattr(slowdowns, "_APART", 600 * SECOND)  # however slow this machine is
    for _ in range(4):
        send(store)
    records = claim(store, 4)
    threads = [threading.Thread(target=finish, args=(store, record)) for record in records[:3]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    finish(
        store, records[3], outcome=Outcome(State.DEAD, "failure", 503, "gave up", retry_after=1.0)
    )
    (one,) = active(store).values()
    assert (one.rate, one.target) == (10.0, "a.example:443")


@pytest.mark.parametrize("forget", [True, False])
def test_who_is_as_fast_as_ever_is_forgotten(store: Store, forget: bool) -> None:
    """By the janitor; until then the row means nothing, and is used again."""
    slow(store)
    change(store, over_at=now(store) - 1, rate=0.1)
    assert active(store) == {}
    if forget:
        assert store.transact(store.slowdowns.prune) == 1
    assert len([send(store), *claim(store)]) == 2
    send(store)
    finish(store, *claim(store))
    assert active(store)["a.example:443"].rate == 10.0
