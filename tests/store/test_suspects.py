"""What a dispatcher takes when processes have died, on each database."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from flask_taskqueue.core.delivery.delivery import Delivery
from flask_taskqueue.core.delivery.outcome import Outcome
from flask_taskqueue.core.queues.poison import PROBATION, is_poison, probation
from flask_taskqueue.core.states import Record, State
from flask_taskqueue.engine.claimer import Claimed, Claimer, Running
from flask_taskqueue.store import AttemptResult, Store
from tests.store.conftest import add, claim, get

SUCCESS = Outcome(State.SUCCEEDED, "success", 204)


class Process:
    """What one dispatcher does, with a clock that the test moves."""

    def __init__(self, store: Store, name: str = "one") -> None:
        self.store = store
        self.claimer = Claimer(
            store.claims, store.added_queues, queues=None, held_by=name, lease=3600, slots=8
        )
        self.clock = 0.0
        self.running: dict[str, Delivery] = {}

    def take(self, free: int = 10) -> list[str]:
        """One turn; the ids of what begins."""
        return [record.id for record in self.turn(free).records]

    def turn(self, free: int = 10) -> Claimed:
        """One turn, and what it claimed."""
        running = [Running(value, self.clock - value.started) for value in self.running.values()]

        def work(connection: sa.Connection) -> Claimed:
            return self.claimer.take(
                connection,
                self.claimer.last_look.look_anew(connection),
                free - len(running),
                running,
            )

        taken = self.store.transact(work)
        for record in taken.records:
            alone_for = probation(record) if taken.alone else 0.0
            self.running[record.id] = Delivery(
                record,
                self.clock,
                self.clock + 3600,
                suspect=is_poison(record),
                alone_for=alone_for,
            )
        return taken

    def end(self, task_id: str) -> None:
        """It succeeds."""
        record = self.running.pop(task_id).record
        self.store.transact(
            lambda connection: self.store.recording.record(
                connection, [AttemptResult(record, SUCCESS, 0.1)]
            )
        )

    def die(self) -> None:
        """With all that runs in it."""
        self.running.clear()
        task = self.store.database.tables.task
        mine = sa.and_(task.c.held_by == self.claimer._held_by, task.c.state == "leased")
        self.store.transact(
            lambda connection: connection.execute(
                sa.update(task).where(mine).values(due_at=task.c.started_at)
            )
        )
        self.claimer = Claimer(
            self.store.claims,
            self.store.added_queues,
            queues=None,
            held_by=self.claimer._held_by,
            lease=3600,
            slots=8,
        )


def crashed(store: Store, number: int, times: int) -> list[str]:
    """Tasks whose processes died so often, the last time just now."""
    ids = [add(store).id for _ in range(number)]
    claim(store, number, held_by="dead")
    task = store.database.tables.task
    change = (
        sa.update(task)
        .where(task.c.id.in_(ids))
        .values(crashes=times - 1, due_at=task.c.started_at)
    )
    store.transact(lambda connection: connection.execute(change))
    return ids


def states(store: Store, ids: list[str]) -> set[str]:
    """What became of tasks."""
    with store.reading() as connection:
        return {record.state for record in store.tasks.get_all(connection, ids)}


def test_what_crashed_once_is_taken_over_like_any_other(store: Store) -> None:
    """All at once, beside what is due, in the order of the lanes."""
    ids = crashed(store, 6, 1)
    urgent, plain = add(store, priority=9).id, add(store).id
    one = Process(store)
    assert one.take(3) == [urgent, *ids[:2]]
    assert set(one.take()) == {*ids[2:], plain}


def test_a_suspect_is_tried_alone(store: Store) -> None:
    """Beside nothing young, and nothing begins beside it until its probation is over."""
    one = Process(store)
    add(store)
    (young,) = one.take()
    (suspect,) = crashed(store, 1, 2)
    waiting = add(store).id
    assert one.take() == []
    one.clock += PROBATION
    assert one.take() == [suspect]
    one.clock += PROBATION - 0.1
    assert one.take() == []
    one.clock += 0.1
    assert one.take() == [waiting]
    assert {young, suspect, waiting} == one.running.keys()


def test_due_tasks_wait_for_one_probation_at_most(store: Store) -> None:
    """With six suspects that run long and one free dispatcher; a second process goes on
    meanwhile.
    """
    suspects = crashed(store, 6, 2)
    one, other = Process(store, "one"), Process(store, "other")
    assert one.take() == [suspects[0]]
    urgent = add(store, priority=9).id
    assert one.take() == []
    one.clock += PROBATION
    assert one.take() == [urgent]
    for _ in range(20):  # the next suspect waits for this one, and holds nothing up
        due = add(store).id
        assert one.take() == [due]
        one.end(due)
    one.end(urgent)
    one.end(suspects[0])
    first, due = one.take(), add(store).id
    assert first == [suspects[1]]
    assert other.take() == [suspects[2]]
    other.end(suspects[2])
    assert other.take() == [due]


def test_what_is_due_goes_before_the_next_suspect(store: Store) -> None:
    """Though the suspects are quick, and their leases ran out long ago."""
    suspects = crashed(store, 3, 2)
    due = [add(store).id for _ in range(4)]
    one = Process(store)
    order = []
    while taken := one.take(2):
        order += taken
        for task in taken:
            one.end(task)
    assert order == [suspects[0], *due[:2], suspects[1], *due[2:], suspects[2]]


def test_without_anything_due_one_suspect_follows_the_other(store: Store) -> None:
    """Nobody waits for anything."""
    suspects = crashed(store, 3, 2)
    one = Process(store)
    order = []
    for _ in range(10):
        for task in one.take():
            order.append(task)
            one.end(task)
    assert order == suspects


def test_only_a_crash_that_it_had_alone_condemns_a_task(store: Store) -> None:
    """Beside others it is forgiven, and then tried for twice as long."""
    (suspect,) = crashed(store, 1, 2)
    one = Process(store)
    assert one.take() == [suspect]
    one.clock += PROBATION
    add(store)
    (other,) = one.take()
    one.die()
    assert one.take() == [suspect] or one.take() == [suspect]
    found = get(store, suspect)
    assert (found.state, found.crashes, found.pardons) == (State.LEASED, 3, 1)
    one.clock += PROBATION
    assert one.take() == []
    one.die()
    while one.take():
        continue
    assert get(store, suspect).state == State.DEAD
    assert get(store, other).state == State.LEASED


def test_a_suspect_that_failed_meanwhile_is_not_condemned_beside_others(store: Store) -> None:
    """It waits for its next attempt like any other, and begins beside them."""
    suspect, other = add(store).id, add(store).id
    task = store.database.tables.task
    store.transact(
        lambda connection: connection.execute(
            sa.update(task).where(task.c.id == suspect).values(crashes=2)
        )
    )
    one = Process(store)
    assert set(one.take()) == {suspect, other}
    one.die()
    one.take()
    assert get(store, suspect).state == State.LEASED
    assert get(store, suspect).crashes - get(store, suspect).pardons <= 2


@pytest.mark.slow
@pytest.mark.parametrize("kills_after", [0.0, PROBATION + 5, 10 * PROBATION])
@pytest.mark.parametrize("long", [False, True])
def test_a_poison_task_ends_and_its_neighbours_do_not(
    store: Store, kills_after: float, long: bool
) -> None:
    """Whenever it kills, and however long they run: each of them succeeds."""
    poison = add(store).id
    others = [add(store).id for _ in range(12)]
    one = Process(store)
    lasts = 4 * PROBATION if long else 0.5
    for step in range(3000):
        one.take(5)
        delivery = one.running.get(poison)
        if delivery is not None and one.clock - delivery.started >= kills_after:
            one.die()
            continue
        over = [
            task
            for task, each in one.running.items()
            if task != poison and one.clock - each.started >= lasts
        ]
        for task in over:
            one.end(task)
        one.clock += 0.5
        if step % 20 == 0 and len(others) < 40:
            others.append(add(store).id)
        if (
            step % 20 == 0
            and states(store, others) == {State.SUCCEEDED}
            and states(store, [poison]) == {State.DEAD}
        ):
            break
    assert states(store, [poison]) == {State.DEAD}
    assert states(store, others) == {State.SUCCEEDED}


def test_what_a_turn_that_was_not_committed_ended_is_not_told(store: Store) -> None:
    """Another process ends the task then, and that one tells of it."""
    crashed(store, 1, 3)
    one, other = Process(store, "one"), Process(store, "other")

    def fail(connection: sa.Connection) -> Claimed:
        claimer = one.claimer
        claimed = claimer.take(connection, claimer.last_look.look_anew(connection), 1, [])
        assert len(claimed.ended) == 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.transact(fail)
    told = [len(process.turn().ended) for process in (other, one)]
    assert told == [1, 0]


def test_a_suspect_that_dies_alone_is_dead(store: Store) -> None:
    """With the reason."""
    (suspect,) = crashed(store, 1, 2)
    one = Process(store)
    assert one.take() == [suspect]
    one.die()
    assert one.take() == []
    found: Record = get(store, suspect)
    assert (found.state, found.crashes, found.pardons) == (State.DEAD, 3, 0)
    assert "3 times" in str(found.last_error)
