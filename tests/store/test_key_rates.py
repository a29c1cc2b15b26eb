"""Rates by key and the turns of keys, on each database."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue.core.delivery.outcome import Outcome
from flask_taskqueue.core.queues.rate_keys import rate_keys_of
from flask_taskqueue.core.states import Record, State
from flask_taskqueue.core.times import SECOND
from flask_taskqueue.store import AttemptResult, Store
from tests.databases import TestDatabase
from tests.store.conftest import add, claim, get, open_store, take_over
from tests.waiting import wait_until

ANA, BO = (rate_keys_of("mail") + name for name in ("ana", "bo"))
SUCCESS = Outcome(State.SUCCEEDED, "success", 204)
AGAIN = Outcome(State.SCHEDULED, "failure", 500, "no", delay=0.0)


def limit(store: Store, rate: float | None, bucket_size: int = 1) -> None:
    """Give each key of the queue mail a rate, as `Queue.configure` does."""
    limits = {"rate_per_key": rate, "bucket_size_per_key": bucket_size}

    def work(connection: sa.Connection) -> None:
        store.queues.configure(connection, "mail", limits)
        store.locks.rates.restart(connection, "mail")

    store.transact(work)


def add_keyed(store: Store, key: str | None, number: int = 1, **fields: Any) -> list[str]:
    """Add tasks with a key; return their ids."""
    return [add(store, queue="mail", lock_key=key, **fields).id for _ in range(number)]


def keys(records: Sequence[Record]) -> list[str | None]:
    """The keys of claimed tasks."""
    return [record.lock_key for record in records]


def standing(store: Store, key: str) -> list[Any]:
    """The scheduled tasks of a key that claims see now or later."""
    task = store.database.tables.task
    with store.reading() as connection:
        return list(
            connection.execute(
                sa.select(task.c.id, task.c.due_at)
                .where(
                    task.c.lock_key == key,
                    task.c.state == State.SCHEDULED.value,
                    task.c.due_at.is_not(None),
                )
                .order_by(task.c.id)
            )
        )


def change(store: Store, table: str, key: str, **values: Any) -> None:
    """Change the rows of a key by hand."""
    rows = store.database.tables.lock if table == "lock" else store.database.tables.task
    store.transact(
        lambda connection: connection.execute(
            sa.update(rows).where(rows.c.lock_key == key).values(values)
        )
    )


def finish(store: Store, *records: Record, outcome: Outcome = SUCCESS) -> None:
    """Record outcomes."""
    results = [AttemptResult(record, outcome, 0.1) for record in records]
    store.transact(lambda connection: store.recording.record(connection, results))


def cancel(store: Store, task_id: str) -> None:
    """Delete a task."""
    store.transact(lambda connection: store.tasks.delete(connection, task_id))


def check_rate(starts: Sequence[int], rate: float, bucket_size: int) -> None:
    """In no period more tasks started than the bucket's size plus the rate times the period."""
    ordered = sorted(starts)
    for first, begin in enumerate(ordered):
        for last in range(first, len(ordered)):
            allowed = bucket_size + rate * (ordered[last] - begin) / SECOND
            # Up to half a token is kept for a late start (see `Gate`).
            assert last - first + 1 <= allowed + 0.5 + 1e-6


def test_a_key_gets_its_tokens_and_the_others_theirs(store: Store) -> None:
    """However many tasks of another key are due before."""
    limit(store, 0.01, 2)
    add_keyed(store, ANA, 50)
    bo, nobody = add_keyed(store, BO, 3), add_keyed(store, None, 2)
    taken = [record for _ in range(3) for record in claim(store, 30)]
    assert sorted(map(str, keys(taken))) == ["None", "None", ANA, ANA, BO, BO]
    assert {record.id for record in taken} >= {*bo[:2], *nobody}
    assert claim(store, 30) == []


def test_many_waiting_tasks_of_a_key_are_out_of_the_way(store: Store) -> None:
    """After one claim, claims see one task of the key: the first in line, when a token is there."""
    limit(store, 0.01, 2)
    ids = add_keyed(store, ANA, 400)
    assert [record.id for record in claim(store, 5)] == ids[:2]
    (waiting,) = standing(store, ANA)
    assert waiting.id == ids[2]
    assert waiting.due_at - store_now(store) == pytest.approx(100 * SECOND, abs=10 * SECOND)
    with store.reading() as connection:
        assert store.claims.lanes(connection).due() == []


def test_tokens_come_with_time_and_go_to_the_first_in_line(store: Store) -> None:
    """One after the other, without anything else that lets them go."""
    limit(store, 20.0)
    ids = add_keyed(store, ANA, 6)
    taken: list[Record] = []

    def all_taken() -> bool:
        taken.extend(claim(store, 3))
        return len(taken) == len(ids)

    wait_until(all_taken, what="each has had its turn")
    assert [record.id for record in taken] == ids
    check_rate([record.started_at or 0 for record in taken], 20.0, 1)
    assert standing(store, ANA) == []


@pytest.mark.slow
def test_dispatchers_together_never_exceed_the_rate_of_a_key(database: TestDatabase) -> None:
    """Three claim at the same time, each on connections of its own; other keys go on."""
    rate, size, lasts = 25.0, 3, 3.0
    taken: list[Record] = []
    with (
        open_store(database) as first,
        open_store(database) as second,
        open_store(database) as last,
    ):
        limit(first, rate, size)
        add_keyed(first, ANA, 300)
        add_keyed(first, BO, 2)
        free = add_keyed(first, None, 100)
        ends = time.monotonic() + lasts

        def work(store: Store, name: str) -> None:
            while time.monotonic() < ends:
                taken.extend(claim(store, 4, held_by=name))

        threads = [
            threading.Thread(target=work, args=(store, f"dispatcher {number}"))
            for number, store in enumerate((first, second, last))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        starts = [record.started_at or 0 for record in taken if record.lock_key == ANA]
        check_rate(starts, rate, size)
        assert len(starts) >= 2 * size
        assert len({record.id for record in taken}) == len(taken)
        assert {record.id for record in taken} >= set(free)
        assert keys(taken).count(BO) == 2


def test_each_attempt_takes_a_token(store: Store) -> None:
    """A retry too; ends and failures give none back."""
    limit(store, 0.01, 2)
    add_keyed(store, ANA)
    for _ in range(2):
        (record,) = claim(store, 5)
        finish(store, record, outcome=AGAIN)
    assert claim(store, 5) == []
    assert get(store, record.id).attempts == 2


def test_a_takeover_takes_a_token_or_waits_for_one(store: Store) -> None:
    """Of two tasks whose process died at the same time, one is taken over, the other later."""
    limit(store, 5.0, 2)
    add_keyed(store, ANA, 2)
    one, other = claim(store, 5, lease=0)
    change(store, "lock", ANA, tokens=1.0, filled_at=one.started_at)
    limit(store, 0.01, 2)
    first = take_over(store)
    assert first is not None
    assert (first.crashes, first.attempts) == (1, 2)
    assert take_over(store) is None
    (waiting,) = {one.id, other.id} - {first.id}
    record = get(store, waiting)
    assert (record.state, record.crashes, record.attempts) == (State.LEASED, 0, 1)
    limit(store, 1000.0, 2)
    task = store.database.tables.task
    store.transact(
        lambda connection: connection.execute(
            sa.update(task).where(task.c.id == waiting).values(due_at=store_now(store) - 1)
        )
    )
    second = take_over(store)
    assert second is not None
    assert (second.id, second.crashes) == (waiting, 1)


def store_now(store: Store) -> int:
    """The database's clock."""
    with store.reading() as connection:
        return int(connection.scalar(sa.select(store.database.dialect.now)) or 0)


def test_when_the_next_in_line_is_deleted_another_is_let_go(store: Store) -> None:
    """So that the line never stands still; deleting one further back changes nothing."""
    limit(store, 0.01)
    ids = add_keyed(store, ANA, 4)
    claim(store, 5)
    for gone, following in ((ids[2], ids[1]), (ids[1], ids[3])):
        cancel(store, gone)
        assert [row.id for row in standing(store, ANA)] == [following]


def test_when_the_next_in_line_is_debounced_another_is_let_go(store: Store) -> None:
    """Whose turn it is now; the one that was put off keeps its eta."""
    limit(store, 0.01)
    first, *_ = add_keyed(store, ANA)
    (second,) = add_keyed(store, ANA, unique_key="k")
    third, *_ = add_keyed(store, ANA, 2)
    assert [one.id for one in claim(store, 5)] == [first]
    assert [row.id for row in standing(store, ANA)] == [second]
    put_off = add(store, queue="mail", unique_key="k", on_conflict="debounce", delay=3600 * SECOND)
    assert {row.id: row.due_at for row in standing(store, ANA)}[second] == put_off.eta
    assert {row.id for row in standing(store, ANA)} == {second, third}


def test_a_task_that_is_given_back_waits_for_a_token_again(store: Store) -> None:
    """Its token is not returned, so a rate may be missed but never exceeded."""
    limit(store, 0.01, 2)
    ids = add_keyed(store, ANA, 3)
    given, kept = claim(store, 5)
    leases = [given.lease]
    store.transact(lambda connection: store.leases.release(connection, leases))
    assert claim(store, 5) == []
    assert get(store, given.id).attempts == 0
    assert {row.id for row in standing(store, ANA)} <= {given.id, ids[2]}
    assert get(store, kept.id).state == State.LEASED


def test_a_new_rate_applies_at_once(store: Store) -> None:
    """Also to the next in line, which would have waited for a token of the old rate; 0 stops."""
    limit(store, 0.0001)
    ids = add_keyed(store, ANA, 4)
    assert len(claim(store, 5)) == 1
    limit(store, 0.0)
    assert claim(store, 5) == []
    assert standing(store, ANA) == []
    limit(store, 100.0)
    taken: list[Record] = []
    wait_until(
        lambda: taken.extend(claim(store, 5)) or len(taken) == 2, what="two more have started"
    )
    limit(store, None)
    wait_until(lambda: taken.extend(claim(store, 5)) or len(taken) == 3, what="all have started")
    assert [record.id for record in taken] == ids[1:]


def test_a_new_rate_leaves_alone_what_waits_for_something_else(store: Store) -> None:
    """For its retry, or for the eta to which it was put off."""
    limit(store, 0.01)
    failing, second = add_keyed(store, ANA, 2)
    add_keyed(store, BO)
    add_keyed(store, BO, unique_key="k")
    finish(store, *(one for one in claim(store, 5) if one.id != failing))
    cancel(store, failing)
    limit(store, 1e6)
    (failed,) = (one for one in claim(store, 5) if one.id == second)
    finish(store, failed, outcome=Outcome(State.SCHEDULED, "failure", 500, "no", delay=3600.0))
    again: dict[str, Any] = {"unique_key": "k", "on_conflict": "debounce", "delay": 3600 * SECOND}
    add(store, queue="mail", **again)
    limit(store, 2e6)
    assert claim(store, 5) == []


def test_the_janitor_mends_a_line_that_stands_still(store: Store) -> None:
    """Though nobody knows how that could have come about."""
    limit(store, 0.01)
    ids = add_keyed(store, ANA, 3)
    claim(store, 5)
    change(store, "lock", ANA, next_id=None)
    change(store, "task", ANA, due_at=None, state=State.SCHEDULED.value)
    store.transact(store.locks.mend)
    assert [row.id for row in standing(store, ANA)] == [ids[0]]


def test_the_row_of_a_key_is_forgotten_when_its_bucket_is_full_again(store: Store) -> None:
    """Not earlier, so that nobody gets a full bucket by waiting for the janitor."""

    def rows() -> list[str]:
        with store.reading() as connection:
            return list(connection.scalars(sa.select(store.database.tables.lock.c.lock_key)))

    limit(store, 0.01, 2)
    add_keyed(store, ANA, 2)
    finish(store, *claim(store, 2))
    store.transact(store.locks.mend)
    assert rows() == [ANA]
    add_keyed(store, ANA)
    assert claim(store, 5) == []
    cancel(store, standing(store, ANA)[0].id)
    change(store, "lock", ANA, filled_at=store_now(store) - 300 * SECOND)
    store.transact(store.locks.mend)
    assert rows() == []


@pytest.mark.slow
@pytest.mark.parametrize("wanted", [1, 4])
def test_keys_take_turns_while_dispatchers_are_busy(store: Store, wanted: int) -> None:
    """One with a thousand tasks does not keep another waiting, though it never lacks a token."""
    limit(store, 1e6, 2)
    add_keyed(store, ANA, 1000)
    taken = claim(store, wanted)
    few = add_keyed(store, BO, 3)
    while keys(taken).count(BO) < 3:
        taken += claim(store, wanted)
    assert keys(taken).count(ANA) <= 20
    assert {record.id for record in taken if record.lock_key == BO} == set(few)
    assert len(standing(store, ANA)) <= 600
    while len(taken) < 100:
        taken += claim(store, wanted)
    assert len(standing(store, ANA)) <= 4


class Line:
    """The tasks of a key, and what happens to them."""

    def __init__(self, store: Store, chance: random.Random) -> None:
        self.store = store
        self.chance = chance
        self.added: list[str] = []
        self.held: list[Record] = []
        self.starts: list[int] = []
        self.steps = (
            *(self.add, self.add, self.claim, self.claim),
            *(self.end, self.fail, self.give_back, self.delete),
        )

    def step(self) -> None:
        """Do something."""
        self.chance.choice(self.steps)()

    def add(self) -> None:
        """Add a few tasks."""
        self.added += add_keyed(self.store, ANA, self.chance.randrange(1, 6))

    def claim(self) -> None:
        """Claim a few."""
        fresh = claim(self.store, self.chance.randrange(1, 8))
        self.starts += [record.started_at or 0 for record in fresh]
        self.held += fresh

    def end(self, outcome: Outcome = SUCCESS) -> None:
        """Record how one of the claimed ones ended."""
        if self.held:
            finish(self.store, self._one_held(), outcome=outcome)

    def fail(self) -> None:
        """Let one fail, to be tried again at once."""
        self.end(AGAIN)

    def give_back(self) -> None:
        """Give one back as if it had never been claimed."""
        if self.held:
            record = self._one_held()
            leases = [record.lease]
            self.store.transact(lambda connection: self.store.leases.release(connection, leases))

    def delete(self) -> None:
        """Delete one that nobody has claimed."""
        free = sorted(set(self.added) - {record.id for record in self.held})
        if free:
            cancel(self.store, self.chance.choice(free))

    def drain(self) -> bool:
        """Claim and end what may run now; return whether all have ended."""
        self.claim()
        finish(self.store, *self.held)
        self.held.clear()
        task = self.store.database.tables.task
        alive = sa.select(sa.func.count()).where(task.c.finished_at.is_(None))
        with self.store.reading() as connection:
            return connection.scalar(alive) == 0

    def _one_held(self) -> Record:
        return self.held.pop(self.chance.randrange(len(self.held)))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_whatever_happens_to_the_tasks_of_a_key_none_waits_for_ever(
    store: Store, seed: int
) -> None:
    """Added, claimed, finished, failed, deleted and given back in any order; nobody mends."""
    limit(store, 400.0, 2)
    line = Line(store, random.Random(seed))
    for _ in range(80):
        line.step()
    wait_until(line.drain, what="all have ended")
    check_rate(line.starts, 400.0, 2)
