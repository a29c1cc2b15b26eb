"""What follows a task, a batch or a fire time, and names and keys that are taken; on each
database.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from flask_taskqueue.core.delivery.outcome import Outcome
from flask_taskqueue.core.errors import InvalidTaskError
from flask_taskqueue.core.names import task_id
from flask_taskqueue.core.states import State
from flask_taskqueue.core.tasks.packed import pack, unpack
from flask_taskqueue.core.tasks.request import TaskRequest
from flask_taskqueue.core.tasks.spec import NewTask
from flask_taskqueue.store import AttemptResult, Filter, Store, StoredReply
from tests.store.conftest import add, claim, complete, get, take_over

HOUR = 3600 * 1_000_000


def new(body: bytes, **fields: Any) -> NewTask:
    """A task for an hour from now."""
    return NewTask(
        id=task_id(), request=TaskRequest("POST", "/index", {}, body), delay=HOUR, **fields
    )


def waiting(store: Store, limit: int = 10) -> list[bytes]:
    """The bodies of what waits for later."""
    with store.reading() as connection:
        found = store.search.find(connection, Filter(state=State.SCHEDULED), limit)
    return sorted(bytes(record.body) for record in found)


def succeed(store: Store) -> None:
    """Attempt what is due, with success."""
    results = [
        AttemptResult(record, Outcome(State.SUCCEEDED, "success", 204), 0.1)
        for record in claim(store)
    ]
    store.transact(lambda connection: store.recording.record(connection, results))


def test_what_an_earlier_release_has_stored_follows(store: Store) -> None:
    """There a task within another was a text; it follows as one that this code stores."""
    within = json.loads(pack([new(b"second", follow_up=pack([new(b"third")]))]))
    assert isinstance(within[0]["follow_up"], list)
    within[0]["follow_up"] = json.dumps(within[0]["follow_up"])
    del within[0]["delay"]
    add(store, follow_up=json.dumps(within))
    succeed(store)
    succeed(store)
    assert waiting(store) == [b"third"]


@pytest.mark.slow
def test_what_follows_and_cannot_be_stored_is_refused() -> None:
    """Not stored to be found unreadable when the task before it is attempted."""
    body = b"x" * 1_000_000
    with pytest.raises(InvalidTaskError, match=r"would take \d+ bytes .* 12000000 can be stored"):
        pack([new(body) for _ in range(10)])
    assert len(unpack(pack([new(body) for _ in range(9)]))) == 9


@pytest.mark.slow
def test_the_largest_that_can_follow_follows(store: Store) -> None:
    """In as many statements as the database takes, whatever the bytes of the bodies."""
    body = b"'\x00\\\n" * 25_000
    packed = pack([new(body) for _ in range(95)])
    assert len(packed) > 11_500_000
    add(store, follow_up=packed)
    succeed(store)
    assert waiting(store, 100) == [body] * 95


@pytest.mark.parametrize(
    ("wish", "left"),
    [("skip", b"old"), ("raise", b"old"), ("replace", b"new"), ("debounce", b"new")],
)
def test_what_follows_does_about_a_taken_key_as_it_says(
    store: Store, wish: Any, left: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """As add() would; what is not added is told."""
    caplog.set_level("INFO", "flask_taskqueue")
    store.transact(lambda connection: store.inserts.add(connection, new(b"old", unique_key="k")))
    done = add(store, follow_up=pack([new(b"new", unique_key="k", on_conflict=wish)]))
    succeed(store)
    assert waiting(store) == [left]
    told = f"what follows task {done.id} was not added" in caplog.text
    assert told is (left == b"old")


def test_a_batchs_callback_whose_name_is_taken_is_told(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """The batch has finished all the same."""
    batch = "b" * 26
    store.transact(lambda connection: store.inserts.add(connection, new(b"old", name="report")))
    store.transact(
        lambda connection: store.batches.create(
            connection, batch, 1, pack([new(b"new", name="report")]), None
        )
    )
    add(store, batch_id=batch)
    succeed(store)
    assert waiting(store) == [b"old"]
    assert (
        f"what follows batch {batch} was not added: queue 'default' has a task named "
        "'report' already" in caplog.text
    )
    with store.reading() as connection:
        assert store.batches.get(connection, batch).finished_at is not None


def test_a_task_that_is_replaced_lets_the_next_of_its_key_go(store: Store) -> None:
    """It has ended like any other: counted, and out of the way of those behind it, without
    waiting for the janitor.
    """
    first = add(store, lock_key="s:a", unique_key="k")
    behind = add(store, lock_key="s:a")
    (held,) = claim(store)
    store.transact(
        lambda connection: store.leases.release(connection, [(held.id, str(held.lease_id))])
    )
    disposition = store.transact(
        lambda connection: store.inserts.add(
            connection, new(b"new", unique_key="k", on_conflict="replace")
        )
    )[1]
    assert disposition == "replaced"
    assert get(store, first.id).state == "cancelled"
    assert [record.id for record in claim(store, 5)] == [behind.id]
    with store.reading() as connection:
        assert store.statistics.of(connection, ["default"])["default"].counts.cancelled == 1


TEN = StoredReply('{"content-type": "application/json"}', b"10")


def asks_for_reply(**fields: Any) -> str | None:
    """What follows, with a place for the reply."""
    return pack([new(b'{"n":null}', reply_to="json:n", **fields)])


def replied(record: Any, reply: StoredReply) -> AttemptResult:
    """A success with this reply."""
    outcome = Outcome(State.SUCCEEDED, "success", 200)
    return AttemptResult(record, outcome, 0.1, reply_headers=reply.headers, reply_body=reply.body)


def test_the_reply_of_a_committed_handler_outlives_its_dispatcher(store: Store) -> None:
    """It is committed together with the handler's changes, so whoever takes the task over, and
    finds it done, hands it on.
    """
    done = add(store, follow_up=asks_for_reply(), keep_result=True)
    (held,) = claim(store)
    assert complete(store, held, 200, TEN)
    store.transact(lambda connection: store.leases.expire(connection, str(held.held_by)))
    assert take_over(store) is None
    assert get(store, done.id).state == State.SUCCEEDED
    assert waiting(store) == [b'{"n":10}']


def test_what_was_handed_over_stays_as_it_is(store: Store) -> None:
    """Recorded again, because a commit was in doubt or because the task was delivered twice."""
    add(store, follow_up=asks_for_reply(), keep_result=True)
    (held,) = claim(store)
    for body in (b"10", b"11"):
        result = replied(held, TEN._replace(body=body))
        store.transact(lambda connection, one=result: store.recording.record(connection, [one]))
        assert waiting(store) == [b'{"n":10}']


@pytest.mark.parametrize(
    ("reply", "reply_to", "why"),
    [
        (StoredReply(), "json:n", "was not kept"),
        (TEN._replace(headers="[]"), "json:n", "cannot be read"),
        (TEN._replace(headers="{"), "json:n", "cannot be read"),
        (TEN._replace(body=b"taskqueue-sealed:01234567:x"), "json:n", "which is not among"),
        (TEN, "header:n", "has no place in it: 'header' is none"),
        (TEN, "json", "does not fit"),
    ],
)
def test_what_cannot_get_the_reply_is_stored_with_the_reason(
    store: Store, reply: StoredReply, reply_to: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Rows that somebody has written by hand too, and what is recorded beside them is recorded."""
    body = b"[]" if reply_to == "json" else b"{}"
    done = add(store, follow_up=pack([new(body, reply_to=reply_to)]), keep_result=True)
    other = add(store)
    held = claim(store, 2)
    store.transact(
        lambda connection: store.recording.record(connection, [replied(one, reply) for one in held])
    )
    assert [get(store, one.id).state for one in (done, other)] == ["succeeded", "succeeded"]
    with store.reading() as connection:
        (left,) = store.search.find(connection, Filter(state=State.SCHEDULED), 10)
    assert f"the reply of task {done.id}, which this task was to get, " in str(left.headers)
    assert why in str(left.headers)
    assert why in caplog.text
