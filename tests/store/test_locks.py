"""Concurrency and serial keys, expiry, names, unique keys, follow-ups and batches, on each
database.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue import TaskAlreadyExistsError, TombstonedTaskError
from flask_taskqueue.core.delivery.outcome import Outcome
from flask_taskqueue.core.names import task_id
from flask_taskqueue.core.states import Record, State
from flask_taskqueue.core.tasks.packed import pack
from flask_taskqueue.core.tasks.request import TaskRequest
from flask_taskqueue.core.tasks.spec import NewTask
from flask_taskqueue.core.times import SECOND
from flask_taskqueue.store import AttemptResult, Store
from tests.store.conftest import add, claim, complete, get

SUCCESS = Outcome(State.SUCCEEDED, "success", 204)
AGAIN = Outcome(State.SCHEDULED, "failure", 500, "no", delay=0.0)
LATER = Outcome(State.SCHEDULED, "failure", 500, "no", delay=3600.0)
DEAD = Outcome(State.DEAD, "failure", 500, "no")


def new(**fields: Any) -> NewTask:
    """A task to be stored."""
    return NewTask(
        id=task_id(), request=TaskRequest("POST", "/w", {"X-Own": "ü"}, b"\x00body"), **fields
    )


def store_new(store: Store, task: NewTask) -> tuple[Record, str]:
    """Store it."""
    return store.transact(lambda connection: store.inserts.add(connection, task))


def finish(store: Store, *records: Record, outcome: Outcome = SUCCESS) -> None:
    """Record outcomes."""
    store.transact(
        lambda connection: store.recording.record(
            connection, [AttemptResult(record, outcome, 0.1) for record in records]
        )
    )


def _give_back(store: Store, record: Record) -> None:
    store.transact(
        lambda connection: store.leases.release(connection, [(record.id, str(record.lease_id))])
    )


def _excuse_crash(store: Store, record: Record) -> None:
    store.transact(lambda connection: store.leases.release_killed(connection, str(record.held_by)))


PUT_OFF: dict[str, Callable[[Store, Record], None]] = {
    "a failure": lambda store, record: finish(store, record, outcome=AGAIN),
    "a failure, for long": lambda store, record: finish(store, record, outcome=LATER),
    "given back": _give_back,
    "its process was killed": _excuse_crash,
}


def find(store: Store, **equal: Any) -> list[Any]:
    """Rows of the task table, by id."""
    task = store.database.tables.task
    with store.reading() as connection:
        return list(
            connection.execute(
                sa.select(task)
                .where(*(task.c[name] == value for name, value in equal.items()))
                .order_by(task.c.id)
            )
        )


class TestConcurrencyKeys:
    """At most so many at a time."""

    def test_no_more_than_the_limit_run(self, store: Store) -> None:
        """The others are parked, where no claim looks; they go in turn."""
        ids = [add(store, lock_key="c:a", lock_limit=2).id for _ in range(6)]
        free = add(store)
        taken = claim(store, 5)
        assert {record.id for record in taken} == {*ids[:2], free.id}
        parked = [get(store, task_id) for task_id in ids[2:]]
        assert [(record.due_at, record.attempts, record.lease_id) for record in parked] == [
            (None, 0, None)
        ] * 4
        assert claim(store, 5) == []
        finish(store, next(record for record in taken if record.id == ids[0]))
        assert [record.id for record in claim(store, 5)] == [ids[2]]

    def test_a_task_that_is_tried_again_later_lets_the_next_one_go(self, store: Store) -> None:
        """It is not running meanwhile."""
        ids = [add(store, lock_key="c:a", lock_limit=1).id for _ in range(2)]
        (taken,) = claim(store, 5)
        finish(store, taken, outcome=Outcome(State.SCHEDULED, "failure", 500, "no", delay=60.0))
        assert [record.id for record in claim(store, 5)] == [ids[1]]

    @pytest.mark.parametrize("end", ["delete", "dead", "complete"])
    def test_whatever_ends_a_task_lets_the_next_one_go(self, store: Store, end: str) -> None:
        """Deleted, and its handler over; dead, or committed by its handler."""
        ids = [add(store, lock_key="c:a", lock_limit=1).id for _ in range(2)]
        (taken,) = claim(store, 5)
        if end == "delete":
            store.transact(lambda connection: store.tasks.delete(connection, taken.id))
            assert claim(store, 5) == []
            finish(store, taken)
        elif end == "dead":
            finish(store, taken, outcome=DEAD)
        else:
            assert complete(store, taken)
            finish(store, taken)
        assert [record.id for record in claim(store, 5)] == [ids[1]]

    def test_the_janitor_lets_go_what_was_forgotten(self, store: Store) -> None:
        """Rows changed by hand, say; and keys nobody needs are forgotten."""
        for _ in range(2):
            add(store, lock_key="c:a", lock_limit=1)
        (taken,) = claim(store, 5)
        task = store.database.tables.task
        gone = sa.update(task).where(task.c.id == taken.id).values(state="succeeded", due_at=None)
        store.transact(lambda connection: connection.execute(gone))
        assert claim(store, 5) == []
        store.free_unused_keys()
        (last,) = claim(store, 5)
        finish(store, last)
        store.transact(store.locks.mend)
        with store.reading() as connection:
            assert connection.execute(sa.select(store.database.tables.lock)).all() == []


class TestSerialKeys:
    """One after the other, in order."""

    def test_one_that_was_dead_and_is_requeued_waits_for_the_one_that_runs(
        self, store: Store
    ) -> None:
        """It is the first again, but not beside its successor."""
        ids = [add(store, lock_key="s:a").id for _ in range(3)]
        (first,) = claim(store, 5)
        finish(store, first, outcome=DEAD)
        (second,) = claim(store, 5)
        store.transact(lambda connection: store.tasks.requeue(connection, first.id))
        assert claim(store, 5) == []
        finish(store, second)
        assert [record.id for record in claim(store, 5)] == [ids[0]]

    @pytest.mark.parametrize("end", PUT_OFF)
    def test_one_that_is_requeued_goes_before_the_one_that_is_put_off(
        self, store: Store, end: str
    ) -> None:
        """However that came about, without a janitor."""
        ids = [add(store, lock_key="s:a").id for _ in range(2)]
        (first,) = claim(store, 5)
        finish(store, first, outcome=DEAD)
        (second,) = claim(store, 5)
        store.transact(lambda connection: store.tasks.requeue(connection, first.id))
        assert claim(store, 5) == []
        PUT_OFF[end](store, second)
        (again,) = claim(store, 5)
        assert again.id == ids[0]
        finish(store, again)
        assert get(store, ids[1]).state == "scheduled"
        store.transact(lambda connection: store.tasks.run_now(connection, ids[1]))
        assert [record.id for record in claim(store, 5)] == [ids[1]]

    def test_in_the_order_of_adding(self, store: Store) -> None:
        """Whatever their priorities and etas; one that is tried again goes first."""
        ids = [add(store, lock_key="s:a", priority=number).id for number in range(4)]
        other = add(store, lock_key="s:b")
        first = claim(store, 8)
        assert {record.id for record in first} == {ids[0], other.id}
        finish(store, *first, outcome=AGAIN)
        order = []
        while taken := claim(store, 8):
            order += [record.id for record in taken if record.id != other.id]
            finish(store, *taken)
        assert order == ids

    def test_a_dead_one_does_not_block_the_rest(self, store: Store) -> None:
        """The next takes its place."""
        ids = [add(store, lock_key="s:a").id for _ in range(2)]
        finish(store, *claim(store, 8), outcome=DEAD)
        assert [record.id for record in claim(store, 8)] == [ids[1]]

    @pytest.mark.slow
    def test_many_claimers_keep_the_order_of_each_key(self, store: Store) -> None:
        """Six threads, ten keys of eight tasks: never two of a key at a time, each key in order."""
        ids = [[add(store, lock_key=f"s:{key}").id for _ in range(8)] for key in range(10)]
        order: dict[str, list[str]] = {f"s:{key}": [] for key in range(10)}
        running: Counter[str] = Counter()
        overlaps: list[str] = []
        guard = threading.Lock()

        def work() -> None:
            while sum(map(len, order.values())) < 80:
                for record in claim(store, 4):
                    key = record.lock_key or ""
                    with guard:
                        running[key] += 1
                        overlaps.extend([key] * (running[key] > 1))
                        order[key].append(record.id)
                    with guard:
                        running[key] -= 1
                    finish(store, record)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert overlaps == []
        assert list(order.values()) == ids


def test_what_has_expired_is_cancelled_unattempted(store: Store) -> None:
    """It was not begun in time; others are."""
    late = add(store, expires_in=-SECOND)
    good = add(store, expires_in=3600 * SECOND)
    assert [record.id for record in claim(store, 5)] == [good.id]
    ended = get(store, late.id)
    assert (ended.state, ended.attempts, ended.last_reason) == ("cancelled", 0, "expired")


class TestNames:
    """Names and their tombstones."""

    def test_a_name_is_free_when_its_tombstone_is_old(self, store: Store) -> None:
        """Not before, whether or not the task is kept."""
        add(store, name="once", tombstone_ttl=3600)
        finish(store, *claim(store))
        with pytest.raises(TombstonedTaskError, match="3600 s after its end"):
            store_new(store, new(name="once", tombstone_ttl=3600))
        assert store_new(store, new(name="once", tombstone_ttl=-1))[1] == "added"

    def test_a_named_task_is_kept_as_long_as_its_tombstone(self, store: Store) -> None:
        """Pruning does not free the name early."""
        add(store, name="once", queue="mail")
        add(store, queue="mail")
        finish(store, *claim(store, 2))
        keep: dict[str, Any] = {"keep_succeeded": -1, "keep_dead": -1}
        assert (
            store.transact(
                lambda connection: store.finished_tasks.prune(
                    connection, tombstones={"mail": 3600}, **keep
                )
            )
            == 1
        )
        assert (
            store.transact(
                lambda connection: store.finished_tasks.prune(
                    connection, tombstones={"mail": -1}, **keep
                )
            )
            == 1
        )


class TestUniqueKeys:
    """What becomes of a second task with a key."""

    def test_skip_returns_the_first(self, store: Store) -> None:
        """Until it has ended."""
        first, _ = store_new(store, new(unique_key="k"))
        again, disposition = store_new(store, new(unique_key="k"))
        assert (again.id, disposition) == (first.id, "skipped")
        assert store_new(store, new(unique_key="k", queue="mail"))[1] == "added"
        finish(store, *claim(store, 5))
        assert store_new(store, new(unique_key="k"))[1] == "added"

    def test_raise_names_the_first(self, store: Store) -> None:
        """And stores nothing."""
        first, _ = store_new(store, new(unique_key="k"))
        with pytest.raises(TaskAlreadyExistsError, match=first.id):
            store_new(store, new(unique_key="k", on_conflict="raise"))
        assert len(find(store)) == 1

    def test_replace_cancels_the_first(self, store: Store) -> None:
        """Unless it runs: then it goes on, without the key."""
        first, _ = store_new(store, new(unique_key="k"))
        second, disposition = store_new(store, new(unique_key="k", on_conflict="replace"))
        assert disposition == "replaced"
        assert get(store, first.id).state == "cancelled"
        assert [record.id for record in claim(store, 5)] == [second.id]
        assert store_new(store, new(unique_key="k", on_conflict="replace"))[1] == "added"
        assert get(store, second.id).state == "leased"

    def test_debounce_puts_the_first_off(self, store: Store) -> None:
        """It takes the request and eta of the second, and keeps its id."""
        first, _ = store_new(store, new(unique_key="k", delay=SECOND))
        later = NewTask(
            id=task_id(),
            request=TaskRequest("PUT", "/x", {}, b"new"),
            unique_key="k",
            on_conflict="debounce",
            delay=60 * SECOND,
        )
        kept, disposition = store_new(store, later)
        assert (kept.id, disposition, kept.url, kept.body) == (first.id, "debounced", "/x", b"new")
        assert kept.due_at is not None
        assert kept.due_at - first.eta > 50 * SECOND

    def test_debounce_takes_the_expiry_of_the_second(self, store: Store) -> None:
        """Or none, so that a task that is put off does not expire before it may begin."""
        first = add(store, unique_key="k", expires_in=SECOND)
        again: dict[str, Any] = {"unique_key": "k", "on_conflict": "debounce"}
        kept = add(store, **again, delay=60 * SECOND, expires_in=90 * SECOND)
        assert kept.id == first.id
        assert kept.expires_at is not None
        assert kept.expires_at - kept.eta == 30 * SECOND
        assert add(store, **again, delay=60 * SECOND).expires_at is None

    @pytest.mark.parametrize("key", ["s:a", "c:a"])
    def test_a_task_that_waits_for_its_key_is_put_off_by_debounce(
        self, store: Store, key: str
    ) -> None:
        """It does not begin before its eta, though its key is free before."""
        add(store, lock_key=key, lock_limit=1 if key == "c:a" else None)
        waiting = add(store, lock_key=key, lock_limit=1 if key == "c:a" else None, unique_key="k")
        (taken,) = claim(store, 5)
        assert get(store, waiting.id).due_at is None
        add(store, unique_key="k", on_conflict="debounce", delay=3600 * SECOND)
        finish(store, taken)
        assert claim(store, 5) == []
        add(store, unique_key="k", on_conflict="debounce")
        assert [one.id for one in claim(store, 5)] == [waiting.id]

    def test_a_task_that_debounce_puts_off_lets_another_of_its_key_go(self, store: Store) -> None:
        """It was its turn, which it leaves to the next that waits."""
        keyed: dict[str, Any] = {"lock_key": "c:a", "lock_limit": 1}
        add(store, **keyed)
        second = add(store, **keyed, unique_key="k")
        third = add(store, **keyed)
        (taken,) = claim(store, 5)
        finish(store, taken)
        assert get(store, second.id).due_at is not None
        add(store, unique_key="k", on_conflict="debounce", delay=3600 * SECOND)
        assert [one.id for one in claim(store, 5)] == [third.id]

    def test_of_many_at_once_one_is_added(self, store: Store) -> None:
        """The unique index decides, not a query before."""
        results: list[str] = []
        threads = [
            threading.Thread(
                target=lambda: results.append(store_new(store, new(unique_key="k"))[1])
            )
            for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Counter(results) == {"added": 1, "skipped": 11}


class TestFollowing:
    """What follows a task is in the transaction that ends it."""

    def test_success_adds_what_follows(self, store: Store) -> None:
        """As it was asked for; a failure and a death add nothing."""
        following = new(queue="mail", delay=5 * SECOND, priority=3)
        add(store, follow_up=pack([following]))
        (taken,) = claim(store)
        finish(store, taken, outcome=AGAIN)
        assert len(find(store)) == 1
        finish(store, *claim(store))
        (stored,) = find(store, queue="mail")
        assert (stored.queue, stored.priority, stored.body) == ("mail", 3, b"\x00body")
        assert stored.eta - stored.created_at == 5 * SECOND

    def test_a_lost_lease_adds_nothing(self, store: Store) -> None:
        """Its successor will."""
        add(store, follow_up=pack([new()]))
        (taken,) = claim(store)
        store.transact(lambda connection: store.tasks.delete(connection, taken.id))
        finish(store, taken)
        assert len(find(store)) == 1

    def test_recording_twice_adds_once(self, store: Store) -> None:
        """A commit in doubt is repeated."""
        add(store, follow_up=pack([new()]))
        (taken,) = claim(store)
        finish(store, taken)
        finish(store, taken)
        assert len(find(store)) == 2


class TestBatches:
    """Counted together."""

    def make(self, store: Store, total: int, **callbacks: NewTask) -> str:
        """A batch of so many tasks."""
        batch_id = task_id()
        packed = {name: pack([task]) for name, task in callbacks.items()}
        store.transact(
            lambda connection: store.batches.create(
                connection, batch_id, total, packed.get("on_finish"), packed.get("on_dead")
            )
        )
        for _ in range(total):
            add(store, batch_id=batch_id)
        return batch_id

    def test_callbacks_come_once(self, store: Store) -> None:
        """One when the first is dead, one when all have ended, however they did."""
        batch_id = self.make(store, 4, on_finish=new(name="finish"), on_dead=new(name="dead"))
        taken = claim(store, 4)
        finish(store, taken[0], taken[1], outcome=DEAD)
        assert len(find(store, name="dead")) == 1
        finish(store, taken[2])
        assert find(store, name="finish") == []
        store.transact(lambda connection: store.tasks.delete(connection, taken[3].id))
        assert find(store, name="finish") == []
        finish(store, taken[3])
        (callback,) = find(store, name="finish")
        assert callback.callback_of == batch_id
        with store.reading() as connection:
            row = store.batches.get(connection, batch_id)
        assert (row.succeeded, row.dead, row.cancelled, row.finished_at is None) == (1, 2, 1, False)

    def test_of_many_who_end_the_last_tasks_one_adds_the_callback(self, store: Store) -> None:
        """Eight threads end eight tasks at once."""
        self.make(store, 8, on_finish=new(name="finish"))
        threads = [
            threading.Thread(target=finish, args=(store, record)) for record in claim(store, 8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(find(store, name="finish")) == 1
