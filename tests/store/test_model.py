"""The store against a model: random steps, after each of which every row is as the model says."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sized
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from flask_taskqueue import TaskAlreadyExistsError, TombstonedTaskError
from flask_taskqueue.core.delivery.outcome import Outcome
from flask_taskqueue.core.names import task_id
from flask_taskqueue.core.states import Record, State
from flask_taskqueue.core.tasks.request import TaskRequest
from flask_taskqueue.core.tasks.spec import NewTask
from flask_taskqueue.core.times import SECOND
from flask_taskqueue.store import AttemptResult, Filter, Store
from tests.store.conftest import claim, take_over

STEPS = int(os.environ.get("TEST_MODEL_STEPS", "2000"))
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180 * STEPS / 2000)]
QUEUES = ("default", "mail")
LIVE = ("scheduled", "leased")
HOUR = 3600 * SECOND
SUCCESS = Outcome(State.SUCCEEDED, "success", 204)
AGAIN = Outcome(State.SCHEDULED, "failure", 500, "no", delay=0.0)
LATER = Outcome(State.SCHEDULED, "failure", 500, "no", delay=3600.0)
DEATH = Outcome(State.DEAD, "failure", 500, "no")


@dataclass
class Modelled:
    """What the model knows of a task. ``due`` says whether it may be taken as far as time goes."""

    id: str
    queue: str
    name: str | None = None
    unique_key: str | None = None
    lock_key: str | None = None
    limit: int | None = None
    state: str = "scheduled"
    due: bool = True
    attempts: int = 0
    crashes: int = 0
    lease: str | None = None
    given_key: str | None = None
    holds: set[str | None] = field(default_factory=set)

    @property
    def is_live(self) -> bool:
        """Whether it has not ended."""
        return self.state in LIVE

    def end(self, state: str) -> None:
        """It has ended, and its unique key is free. What ran when it was deleted keeps its
        place until that is over.
        """
        if self.state == "leased" and state == "cancelled":
            self.holds.add(self.lease)
        self.state, self.unique_key = state, None


def place(data: st.DataObject, among: Sized) -> int:
    """Which of some; drawn without regard to how many there are, which is the database's choice
    and may differ when asked again.
    """
    return data.draw(st.integers(0, 2**16)) % len(among)


class StoreMachine(RuleBasedStateMachine):
    """What dispatchers, applications and operators do, in any order."""

    store: Store
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.tasks: dict[str, Modelled] = {}
        self.paused: set[str] = set()
        self.held: list[Record] = []
        self.stale: list[Record] = []
        self.looked = 0
        tables = self.store.database.tables
        with self.store.database.engine.begin() as connection:
            for table in tables.all:
                if table is not tables.queue:
                    connection.execute(sa.delete(table))
            connection.execute(sa.update(tables.queue).values(paused_at=None))

    # What applications do.

    @rule(queue=st.sampled_from(QUEUES), later=st.booleans())
    def add(self, queue: str, later: bool) -> None:
        """A plain task, due now or in an hour."""
        self.stored(
            NewTask(id=task_id(), request=request(), queue=queue, delay=HOUR if later else 0),
            due=not later,
        )

    @rule(queue=st.sampled_from(QUEUES), name=st.sampled_from(["n1", "n2"]))
    def add_named(self, queue: str, name: str) -> None:
        """A name that is taken is an error, which says whether its task lives."""
        holder = next(
            (task for task in self.tasks.values() if (task.queue, task.name) == (queue, name)), None
        )
        new = NewTask(id=task_id(), request=request(), queue=queue, name=name)
        if holder is None:
            self.stored(new)
            return
        with pytest.raises(TaskAlreadyExistsError if holder.is_live else TombstonedTaskError):
            self.transact(lambda connection: self.store.inserts.add(connection, new))

    @rule(
        conflict=st.sampled_from(["skip", "raise", "replace", "debounce"]),
        key=st.sampled_from(["u1", "u2"]),
    )
    def add_unique(self, conflict: Any, key: str) -> None:
        """At most one task that has not ended has the key."""
        holder = next(
            (task for task in self.tasks.values() if task.is_live and task.unique_key == key), None
        )
        new = NewTask(
            id=task_id(), request=request(), queue="mail", unique_key=key, on_conflict=conflict
        )
        if holder is None:
            assert self.stored(new) == "added"
        elif conflict == "raise":
            with pytest.raises(TaskAlreadyExistsError):
                self.transact(lambda connection: self.store.inserts.add(connection, new))
        elif conflict == "skip":
            assert (
                self.transact(lambda connection: self.store.inserts.add(connection, new))[1]
                == "skipped"
            )
        elif holder.state == "leased":
            holder.unique_key = None
            assert self.stored(new) == "added"
        elif conflict == "replace":
            holder.end("cancelled")
            assert self.stored(new) == "replaced"
        else:
            assert (
                self.transact(lambda connection: self.store.inserts.add(connection, new))[1]
                == "debounced"
            )
            holder.due = True

    @rule(key=st.sampled_from(["s:a", "s:b", "c:a", "c:b"]), many=st.integers(1, 3))
    def add_keyed(self, key: str, many: int) -> None:
        """Serial keys have no limit, concurrency keys one of two."""
        limit = 2 if key.startswith("c:") else None
        for _ in range(many):
            self.stored(NewTask(id=task_id(), request=request(), lock_key=key, lock_limit=limit))

    # What dispatchers do.

    @rule(wanted=st.integers(1, 6))
    def claim(self, wanted: int) -> None:
        """Whatever is taken might be taken; when less is than is wanted, nothing else might."""
        taken = claim(self.store, wanted, lease=3600)
        assert len(taken) <= wanted
        for record in taken:
            one = self.tasks[record.id]
            assert one.state == "scheduled"
            assert one.due
            assert one.queue not in self.paused
            assert not self.is_held_up(one)
            one.state, one.lease, one.attempts = "leased", record.lease_id, one.attempts + 1
        self.held += taken
        if len(taken) < wanted:
            left = [task for task in self.tasks.values() if self.may_run(task)]
            assert not left, self.rows(left)

    @rule(key=st.sampled_from(["s:a", "s:b", "c:a", "c:b"]), wanted=st.integers(2, 6))
    def go_on(self, key: str, wanted: int) -> None:
        """What a dispatcher does again and again: an attempt ends, more is added, more is taken."""
        self.add_keyed(key, 2)
        self.claim(wanted)
        if self.held:
            self.end(self.held.pop(0), SUCCESS)
        self.claim(wanted)

    @precondition(lambda self: self.held)
    @rule(outcome=st.sampled_from([SUCCESS, SUCCESS, AGAIN, LATER, DEATH]), data=st.data())
    def finish(self, outcome: Outcome, data: st.DataObject) -> None:
        """An attempt ends."""
        self.end(self.held.pop(place(data, self.held)), outcome)

    def end(self, record: Record, outcome: Outcome) -> None:
        """Record an attempt; if its lease was lost, nothing changes."""
        lost = self.record(record, outcome)
        one = self.tasks[record.id]
        if one.state != "leased" or one.lease != record.lease_id:
            assert lost == {record.id}
            return
        assert lost == set()
        self.stale.append(record)
        one.lease, one.due = None, outcome is AGAIN
        if outcome.state is State.SCHEDULED:
            one.state = "scheduled"
        else:
            one.end(outcome.state.value)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """A dispatcher stops: the attempt was never made."""
        record = self.held.pop(place(data, self.held))
        one = self.tasks[record.id]
        mine = one.state == "leased" and one.lease == record.lease_id
        assert (
            self.transact(
                lambda connection: self.store.leases.release(
                    connection, [(record.id, str(record.lease_id))]
                )
            )
            == mine
        )
        one.holds.discard(record.lease_id)
        if mine:
            one.state, one.lease, one.due, one.attempts = "scheduled", None, True, one.attempts - 1

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def crash(self, data: st.DataObject) -> None:
        """A lease runs out; somebody takes the task over, until it has crashed three times."""
        record = self.held[place(data, self.held)]
        one = self.tasks[record.id]
        if one.state != "leased" or one.lease != record.lease_id or one.queue in self.paused:
            return
        task = self.store.database.tables.task
        self.transact(
            lambda connection: connection.execute(
                sa.update(task).where(task.c.id == one.id).values(due_at=1)
            )
        )
        self.held.remove(record)
        self.stale.append(record)
        taken = take_over(self.store, lease=3600)
        one.crashes += 1
        if one.crashes >= 3:
            assert taken is None
            one.end("dead")
            return
        assert taken is not None
        assert taken.id == one.id
        one.attempts, one.lease = one.attempts + 1, taken.lease_id
        self.held.append(taken)

    @precondition(lambda self: self.stale)
    @rule(data=st.data(), outcome=st.sampled_from([SUCCESS, AGAIN]))
    def reply_late(self, data: st.DataObject, outcome: Outcome) -> None:
        """A reply of a lease that is over changes nothing."""
        self.record(self.stale[place(data, self.stale)], outcome)

    # What operators do.

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        """A task that has not ended is cancelled."""
        one = self.tasks[sorted(self.tasks)[place(data, self.tasks)]]
        assert (
            self.transact(lambda connection: self.store.tasks.delete(connection, one.id))
            is one.is_live
        )
        if one.is_live:
            one.end("cancelled")

    @precondition(lambda self: len(self.tasks) > 20)
    @rule(queue=st.sampled_from(QUEUES))
    def purge(self, queue: str) -> None:
        """Everything of a queue that has not ended is cancelled."""
        live = [task for task in self.tasks.values() if task.queue == queue and task.is_live]
        assert self.transact(
            lambda connection: self.store.tasks.delete_some(connection, Filter(queue=queue))
        ) == len(live)
        for one in live:
            one.end("cancelled")

    @rule()
    def requeue(self) -> None:
        """What is dead starts anew."""
        self.transact(lambda connection: self.store.tasks.requeue_some(connection, Filter()))
        for task in sorted(self.tasks.values(), key=lambda each: each.id, reverse=True):
            taken = task.given_key is not None and any(
                each.is_live and each.unique_key == task.given_key for each in self.tasks.values()
            )
            if task.state == "dead" and not taken:
                task.state, task.due, task.attempts, task.crashes, task.unique_key = (
                    "scheduled",
                    True,
                    0,
                    0,
                    task.given_key,
                )

    @rule()
    def run_now(self) -> None:
        """What is due later is due now."""
        self.transact(lambda connection: self.store.tasks.run_some_now(connection, Filter()))
        for task in self.tasks.values():
            if task.state == "scheduled":
                task.due = True

    @precondition(lambda self: self.paused or len(self.tasks) > 5)
    @rule(queue=st.sampled_from(QUEUES))
    def pause_or_resume(self, queue: str) -> None:
        """Whichever it was not."""
        change = (
            self.store.queues.resume
            if queue in self.paused
            else lambda connection, name: self.store.queues.pause(connection, name, "me")
        )
        assert self.transact(lambda connection: change(connection, queue))
        self.paused ^= {queue}

    # What is true at any time.

    @invariant()
    def rows_are_as_modelled(self) -> None:
        """Every row; and the statistics, but they take dozens of statements, so not after every
        step.
        """
        type(self).steps += 1
        self.looked += 1
        task, hold = self.store.database.tables.task, self.store.database.tables.hold
        with self.store.reading() as connection:
            held = {(row.task_id, row.lease_id) for row in connection.execute(sa.select(hold))}
            rows = {row.id: row for row in connection.execute(sa.select(task))}
            counted = self.store.statistics.of(connection, QUEUES) if self.looked % 5 == 0 else {}
        assert rows.keys() == self.tasks.keys()
        assert held == {(task.id, lease) for task in self.tasks.values() for lease in task.holds}
        for item in self.tasks.values():
            row = rows[item.id]
            assert (row.state, row.attempts, row.crashes, row.unique_key) == (
                item.state,
                item.attempts,
                item.crashes,
                item.unique_key,
            ), item
            assert item.state != "leased" or row.lease_id == item.lease
            assert (row.due_at is None) <= (not item.is_live or item.lock_key is not None)
        for queue in counted:
            states = Counter(task.state for task in self.tasks.values() if task.queue == queue)
            counts = counted[queue].counts
            found = {
                "scheduled": counts.unclaimed,
                "leased": counts.leased,
                "succeeded": counts.succeeded,
                "dead": counts.dead,
                "cancelled": counts.cancelled,
            }
            assert Counter(found) == states + Counter()

    @invariant()
    def keys_hold(self) -> None:
        """No more run than may at a time, deleted ones too; of a serial key one."""
        running = Counter(
            (task.lock_key, task.limit) for task in self.tasks.values() if task.state == "leased"
        )
        for task in self.tasks.values():
            running[task.lock_key, task.limit] += len(task.holds)
        assert all(
            number <= (limit or 1) for (key, limit), number in running.items() if key is not None
        ), running

    # The model.

    def may_run(self, one: Modelled) -> bool:
        """Whether a claim could take it."""
        return (
            one.state == "scheduled"
            and one.due
            and one.queue not in self.paused
            and not self.is_held_up(one)
        )

    def is_held_up(self, one: Modelled) -> bool:
        """Whether others with its key come first, or as many run as may."""
        if one.lock_key is None:
            return False
        same = [
            other
            for other in self.tasks.values()
            if other.lock_key == one.lock_key and other.id != one.id
        ]
        others, held = (
            [other for other in same if other.is_live],
            sum(len(other.holds) for other in same),
        )
        if one.limit is None:
            return held > 0 or any(other.id < one.id or other.state == "leased" for other in others)
        return held + sum(other.state == "leased" for other in others) >= one.limit

    def stored(self, new: NewTask, *, due: bool = True) -> str:
        """Store a task, here and there; what became of it."""
        disposition = self.transact(lambda connection: self.store.inserts.add(connection, new))[1]
        known = Modelled(
            new.id,
            new.queue,
            new.name,
            new.unique_key,
            new.lock_key,
            new.lock_limit,
            due=due,
            given_key=new.unique_key,
        )
        self.tasks[new.id] = known
        return str(disposition)

    def rows(self, some: list[Modelled]) -> list[sa.Row[Any]]:
        """What the table has of these and of those that share their keys."""
        task = self.store.database.tables.task
        wanted = sa.or_(
            task.c.id.in_([record.id for record in some]),
            task.c.lock_key.in_([str(record.lock_key) for record in some]),
        )
        columns = (
            "id",
            "queue",
            "state",
            "due_at",
            "attempts",
            "lock_key",
            "lock_limit",
            "lease_id",
            "last_reason",
        )
        with self.store.reading() as connection:
            return list(
                connection.execute(
                    sa.select(*(task.c[name] for name in columns), sa.func.now())
                    .where(wanted)
                    .order_by(task.c.id)
                )
            )

    def record(self, record: Record, outcome: Outcome) -> set[str]:
        """Record an outcome; what was lost. Its handler is over, whatever became of the task."""
        self.tasks[record.id].holds.discard(record.lease_id)
        return set(
            self.transact(
                lambda connection: self.store.recording.record(
                    connection, [AttemptResult(record, outcome, 0.1)]
                )
            ).lost
        )

    def transact(self, work: Callable[[sa.Connection], Any]) -> Any:
        """In a transaction."""
        return self.store.transact(work)


def request() -> TaskRequest:
    """A request."""
    return TaskRequest("POST", "/w", {}, b"")


def test_the_store_does_what_the_model_says(store: Store) -> None:
    """In two thousand random steps, or as many as TEST_MODEL_STEPS says."""

    class Machine(StoreMachine):
        pass

    Machine.store = store
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    # Not made smaller when it fails: on a server that takes longer than anybody waits.
    given = settings(
        max_examples=STEPS // 30,
        stateful_step_count=50,
        suppress_health_check=checks,
        database=None,
        phases=[Phase.generate],
    )
    run_state_machine_as_test(Machine, settings=given)
    assert Machine.steps >= STEPS
