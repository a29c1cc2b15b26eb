"""Leases, on each database."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from flask_taskqueue.core.delivery.outcome import Outcome, success
from flask_taskqueue.core.names import lease_id, task_id
from flask_taskqueue.core.queues.lanes import Lane
from flask_taskqueue.core.states import Record, State
from flask_taskqueue.core.tasks.packed import pack
from flask_taskqueue.core.tasks.request import TaskRequest
from flask_taskqueue.core.tasks.spec import NewTask
from flask_taskqueue.core.times import SECOND
from flask_taskqueue.store import AttemptResult, Recorded, Store
from tests.store.conftest import add, claim, complete, get, take_over

SUCCESS = success(204)


def record(store: Store, *records: Record, outcome: Outcome = SUCCESS) -> set[str]:
    """Record outcomes; the ids whose lease was lost."""
    return set(
        store.transact(
            lambda connection: store.recording.record(
                connection, [AttemptResult(record, outcome, 0.1) for record in records]
            )
        ).lost
    )


def expire(store: Store, held_by: str = "me") -> int:
    """Let leases run out."""
    return store.transact(lambda connection: store.leases.expire(connection, held_by))


def log(store: Store, task: str) -> list[tuple[int, str]]:
    """The attempts of a task: number and reason."""
    with store.reading() as connection:
        return [(row.number, row.reason) for row in store.finished_tasks.attempts(connection, task)]


def test_a_claim_leases_and_counts_the_attempt(store: Store) -> None:
    """Claiming is starting."""
    added = add(store)
    (taken,) = claim(store, lease=30)
    assert (taken.id, taken.state, taken.attempts, taken.held_by) == (added.id, "leased", 1, "me")
    assert taken.started_at == taken.first_tried_at
    assert taken.due_at is not None
    assert taken.started_at is not None
    assert taken.due_at - taken.started_at == 30 * SECOND
    assert get(store, added.id) == taken


def test_nothing_is_claimed_twice(store: Store) -> None:
    """Not by the same dispatcher, not by another, while the lease lasts."""
    add(store)
    assert len(claim(store, 10)) == 1
    assert claim(store, 10) == []
    assert take_over(store) is None


def test_a_claim_takes_no_more_than_asked_and_the_first_due(store: Store) -> None:
    """In the order in which they fell due."""
    ids = [add(store, delay=-number * SECOND).id for number in range(9)]
    assert [record.id for record in claim(store, 4)] == ids[:4:-1]
    assert [record.id for record in claim(store, 9)] == ids[4::-1]


def test_nothing_is_claimed_before_its_eta(store: Store) -> None:
    """Nor does it hide what is due behind it."""
    add(store, delay=3600 * SECOND)
    due = add(store)
    assert [record.id for record in claim(store, 5)] == [due.id]


def test_priorities_and_queues_are_lanes(store: Store) -> None:
    """The higher priority first; a lane's look says when its first task is due."""
    low, high, other = add(store, priority=-1), add(store, priority=9), add(store, queue="mail")
    assert {record.id for record in claim(store, 1)} == {high.id}
    assert {record.id for record in claim(store, 5)} == {low.id, other.id}


@pytest.mark.parametrize("closed", [{"paused_at": 1}, {"mode": "pull"}, {"deleted_at": 1}])
def test_nothing_is_taken_from_a_queue_that_is_closed_to_dispatchers(
    store: Store, closed: dict[str, Any]
) -> None:
    """Neither by a claim that looks at the lanes nor by one that does not."""
    queue = store.database.tables.queue
    add(store, queue="mail")
    store.transact(
        lambda connection: connection.execute(
            sa.update(queue).where(queue.c.name == "mail").values(closed)
        )
    )
    assert claim(store, 5) == []
    terms = {"lease_id": lease_id(), "held_by": "me", "lease": 30.0}
    assert not store.transact(
        lambda connection: store.claims.claim_unseen(
            connection, Lane("mail", 0, None, None), 5, **terms
        )
    )
    with store.reading() as connection:
        assert store.claims.lanes(connection).lanes == ()


def test_only_the_chosen_queues_are_looked_at(store: Store) -> None:
    """For a dispatcher that serves some of them."""
    add(store)
    with store.reading() as connection:
        assert store.claims.lanes(connection, ["mail"]).lanes == ()
        assert len(store.claims.lanes(connection, ["mail", "default"]).lanes) == 1


def test_success_ends_a_task(store: Store) -> None:
    """It is finished, and its attempt is logged."""
    add(store)
    (taken,) = claim(store)
    assert record(store, taken) == set()
    ended = get(store, taken.id)
    assert (ended.state, ended.due_at, ended.last_status, ended.executions) == (
        "succeeded",
        None,
        204,
        1,
    )
    assert ended.finished_at is not None
    assert log(store, taken.id) == [(1, "success")]


def test_a_failure_schedules_the_next_attempt(store: Store) -> None:
    """From the end of this one, by the database's clock."""
    add(store)
    (taken,) = claim(store)
    record(store, taken, outcome=Outcome(State.SCHEDULED, "failure", 503, "no", delay=100))
    again = get(store, taken.id)
    assert (again.state, again.last_status, again.last_error, again.finished_at) == (
        "scheduled",
        503,
        "no",
        None,
    )
    assert again.due_at is not None
    assert taken.started_at is not None
    assert 100 * SECOND <= again.due_at - taken.started_at < 160 * SECOND
    assert claim(store) == []


def test_a_second_attempt_keeps_the_first_ones_time(store: Store) -> None:
    """The age limit counts from the first attempt."""
    add(store)
    (first,) = claim(store)
    record(
        store,
        first,
        outcome=Outcome(State.SCHEDULED, "timeout", None, "late", delay=0, executed=False),
    )
    (second,) = claim(store)
    assert (second.attempts, second.executions, second.first_tried_at) == (
        2,
        0,
        first.first_tried_at,
    )
    assert second.lease_id != first.lease_id


def test_an_expired_lease_is_taken_over_as_a_crash(store: Store) -> None:
    """By anybody, with nothing swept before; the attempt that crashed is in the log."""
    add(store)
    (lost,) = claim(store)
    assert expire(store) == 1
    assert claim(store) == []
    taken = take_over(store)
    assert taken is not None
    assert (taken.attempts, taken.crashes, taken.held_by, taken.last_reason) == (
        2,
        1,
        "other",
        "crash",
    )
    assert taken.lease_id != lost.lease_id
    assert log(store, lost.id) == [(1, "crash")]


def test_a_lost_lease_cannot_finish_the_task(store: Store) -> None:
    """A late reply changes nothing but the log."""
    add(store)
    (lost,) = claim(store)
    expire(store)
    taken = take_over(store)
    assert taken is not None
    assert record(store, lost) == {lost.id}
    assert get(store, lost.id) == taken
    assert record(store, taken) == set()


def test_results_of_lost_and_kept_leases_are_told_apart(store: Store) -> None:
    """In one batch, only what was lost is reported lost."""
    for _ in range(3):
        add(store)
    first, second, third = claim(store, 3)
    store.transact(lambda connection: store.tasks.delete(connection, second.id))
    assert record(store, first, second, third) == {second.id}
    assert [get(store, one.id).state for one in (first, second, third)] == [
        "succeeded",
        "cancelled",
        "succeeded",
    ]


def test_a_result_ends_no_later_lease_recorded_with_it(store: Store) -> None:
    """A task that was given back and leased again, by the claim of another in the same turn."""
    add(store)
    (first,) = claim(store)
    lease = first.lease
    store.transact(lambda connection: store.leases.release(connection, [lease]))
    add(store)
    again, other = sorted(claim(store, 2), key=lambda record: record.id)
    assert (again.id, again.attempts) == (first.id, first.attempts)
    assert again.lease_id == other.lease_id
    assert record(store, first, other) == {first.id}
    assert get(store, first.id) == again
    assert get(store, other.id).state == "succeeded"
    assert record(store, again) == set()


def test_recording_twice_is_recording_once(store: Store) -> None:
    """A commit whose outcome was in doubt is repeated; it was ours, and nothing is logged twice."""
    add(store)
    (taken,) = claim(store)
    assert record(store, taken) == set()
    assert record(store, taken) == set()
    assert log(store, taken.id) == [(1, "success")]


def test_the_third_crash_is_death(store: Store) -> None:
    """A task that kills each process that runs it ends as poison."""
    added = add(store)
    claim(store)
    for crashes in (1, 2):
        expire(store), expire(store, "other")
        taken = take_over(store)
        assert taken is not None
        assert taken.crashes == crashes
    expire(store, "other")
    assert take_over(store) is None
    dead = get(store, added.id)
    assert (dead.state, dead.crashes, dead.attempts) == ("dead", 3, 3)
    assert dead.last_error is not None
    assert "poison" in dead.last_error


def test_an_excused_crash_is_counted_but_condemns_nobody(store: Store) -> None:
    """A process killed from outside gives its tasks back at once, however often."""
    added = add(store)
    for crashes in range(1, 6):
        claim(store)
        assert store.transact(lambda connection: store.leases.release_killed(connection, "me")) == 1
        again = get(store, added.id)
        assert (again.state, again.crashes, again.attempts) == ("scheduled", crashes, crashes)
    assert log(store, added.id) == [(number, "crash") for number in range(1, 6)]


def test_renewing_prolongs_what_is_held_and_tells_what_is_not(store: Store) -> None:
    """What was deleted or taken over is missing from the answer."""
    for _ in range(3):
        add(store)
    kept, deleted, lost = claim(store, 3, lease=5)
    store.transact(lambda connection: store.tasks.delete(connection, deleted.id))
    pairs = [one.lease for one in (kept, deleted)] + [(lost.id, "another")]
    assert store.transact(lambda connection: store.leases.renew(connection, pairs, 300)) == {
        pairs[0]
    }
    renewed = get(store, kept.id)
    assert renewed.due_at is not None
    assert kept.due_at is not None
    assert renewed.due_at - kept.due_at > 200 * SECOND
    assert get(store, lost.id).due_at == lost.due_at


def test_renewing_leaves_the_row_of_a_keyed_task_alone(store: Store) -> None:
    """A transaction that replaces the task need not know the renewal; for everybody else the
    lease lasts until the renewal has run out.
    """
    add(store, unique_key="k")
    (held,) = claim(store, lease=30)
    tables, pair = store.database.tables, held.lease
    for _ in range(2):
        assert store.transact(lambda connection: store.leases.renew(connection, [pair], 300)) == {
            pair
        }
    with store.reading() as connection:
        assert connection.execute(sa.select(tables.task)).one() == held
    until = get(store, held.id).due_at
    assert until is not None
    assert held.due_at is not None
    assert until - held.due_at > 200 * SECOND
    set_back = sa.update(tables.task).values(due_at=1)
    store.transact(lambda connection: connection.execute(set_back))
    assert take_over(store) is None
    assert get(store, held.id).due_at == until
    run_out = sa.update(tables.renewal).values(until=2)
    store.transact(lambda connection: connection.execute(run_out))
    assert take_over(store) is not None


def test_releasing_burns_no_attempt(store: Store) -> None:
    """What a stopping dispatcher gives back is due at once, as if it had never been taken."""
    add(store)
    (taken,) = claim(store)
    assert store.transact(lambda connection: store.leases.release(connection, [taken.lease])) == 1
    back = get(store, taken.id)
    assert (back.state, back.attempts, back.crashes) == ("scheduled", 0, 0)
    assert [record.attempts for record in claim(store)] == [1]


def test_a_handler_completes_only_while_the_lease_is_its_own(store: Store) -> None:
    """Its transaction and whoever deletes the task cannot both commit; the task ends when that
    is recorded.
    """
    add(store), add(store)
    held, lost = claim(store, 2)
    store.transact(lambda connection: store.tasks.delete(connection, lost.id))
    assert complete(store, held)
    assert not complete(store, lost)
    assert [get(store, one.id).state for one in (held, lost)] == ["leased", "cancelled"]
    assert record(store, held, lost) == {lost.id}
    assert [get(store, one.id).state for one in (held, lost)] == ["succeeded", "cancelled"]
    assert [log(store, one.id) for one in (held, lost)] == [[(1, "success")], [(1, "late")]]


def release(store: Store, held: Record) -> int:
    """Give a lease back while its handler may run."""
    return store.transact(
        lambda connection: store.leases.release(
            connection, [(held.id, str(held.lease_id))], begun=True
        )
    )


ENDED_BY_OTHERS: dict[str, Callable[[Store, Record], object]] = {
    "its deadline": lambda store, held: record(
        store, held, outcome=Outcome(State.SCHEDULED, "timeout", delay=0.0)
    ),
    "a crash": lambda store, held: (expire(store), take_over(store)),
    "an excused crash": lambda store, held: store.transact(
        lambda connection: store.leases.release_killed(connection, "me")
    ),
    "a stop": release,
    "a deletion": lambda store, held: store.transact(
        lambda connection: store.tasks.delete(connection, held.id)
    ),
}


@pytest.mark.parametrize("end", ENDED_BY_OTHERS.values(), ids=ENDED_BY_OTHERS)
def test_of_the_handler_and_whoever_ends_its_lease_the_first_wins(
    store: Store, end: Callable[[Store, Record], object]
) -> None:
    """Once somebody else has ended the lease, the handler cannot complete; once it has, nobody
    takes the success away.
    """
    add(store), add(store)
    first, second = claim(store, 2)
    end(store, first)
    assert not complete(store, first)
    if (
        get(store, second.id).lease_id == second.lease_id
        and get(store, second.id).state == "leased"
    ):
        assert complete(store, second)
        end(store, second)
        record(store, second)
        assert get(store, second.id).state == "succeeded"
        assert log(store, second.id) == [(1, "success")]


def test_a_completed_task_is_not_taken_over_but_ended(store: Store) -> None:
    """The dispatcher died between the handler's commit and the record: what follows, follows
    once.
    """
    add(
        store,
        lock_key="s:a",
        follow_up=pack([NewTask(id=task_id(), request=TaskRequest("POST", "/next", {}, b""))]),
    )
    add(store, lock_key="s:a")
    (held,) = claim(store)
    assert complete(store, held)
    expire(store)
    assert take_over(store) is None
    ended = get(store, held.id)
    assert (ended.state, ended.attempts, ended.crashes, ended.last_status) == (
        "succeeded",
        1,
        0,
        204,
    )
    assert record(store, held) == set()
    assert counted(store) == {"succeeded": 1}
    assert sorted(record.url for record in claim(store, 5)) == ["/next", "/w"]


def test_a_success_is_recorded_whatever_ended_in_the_same_turn(store: Store) -> None:
    """An attempt is known by its task and its lease: those of one claim share the lease, and
    only that.
    """
    for name in ("first", "second", "third"):
        add(
            store,
            follow_up=pack(
                [NewTask(id=task_id(), request=TaskRequest("POST", f"/after-{name}", {}, b""))]
            ),
        )
    shared = claim(store, 3)
    flaky = shared[1]
    record(store, flaky, outcome=Outcome(State.SCHEDULED, "failure", 500, "no", delay=0.0))
    (again,) = claim(store)
    assert again.id == flaky.id
    doomed = shared[2]
    store.transact(lambda connection: store.tasks.delete(connection, doomed.id))
    assert record(store, shared[0], again, doomed) == {doomed.id}
    assert counted(store) == {"succeeded": 2}
    assert sorted(record.url for record in claim(store, 5)) == ["/after-first", "/after-second"]


def test_an_attempt_is_current_only_while_it_is_under_way(store: Store) -> None:
    """Which a delivery over HTTP is checked against."""
    add(store)
    (taken,) = claim(store)

    def current(attempt: int) -> bool:
        with store.reading() as connection:
            return store.leases.is_current(connection, taken.id, attempt) is not None

    assert current(1)
    assert not current(2)
    record(store, taken)
    assert not current(1)


@pytest.mark.timeout(60)
def test_many_claimers_take_each_task_once(store: Store) -> None:
    """Eight threads, small batches, two thousand tasks: no task twice, none left, no error."""
    task = store.database.tables.task
    first = get(store, add(store).id)
    rows = [first._asdict() | {"id": task_id()} for _ in range(1999)]
    store.transact(lambda connection: connection.execute(sa.insert(task), rows))
    taken: list[str] = []

    def work() -> None:
        while found := claim(store, 25):
            taken.extend(record.id for record in found)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 2000
    assert Counter(taken).most_common(1)[0][1] == 1


def counted(store: Store) -> dict[str, int]:
    """How many tasks of the queue default have ended, by how."""
    with store.reading() as connection:
        found = store.statistics.of(connection, ["default"])["default"].counts
    return {
        state: getattr(found, state) for state in ("succeeded", "dead") if getattr(found, state)
    }


def test_a_late_reply_is_late_after_the_crash_that_ended_the_task(store: Store) -> None:
    """The row still names the lease that was lost; the success changes nothing, no count either."""
    add(store)
    (held,) = claim(store)
    for _ in range(3):
        expire(store, str(held.held_by))
        held = take_over(store) or held
    assert record(store, held) == {held.id}
    assert get(store, held.id).state == "dead"
    assert counted(store) == {"dead": 1}


def test_a_late_reply_is_late_after_an_excused_crash(store: Store) -> None:
    """The task is scheduled anew, and will be attempted again."""
    add(store)
    (held,) = claim(store)
    store.transact(lambda connection: store.leases.release_killed(connection, "me"))
    assert record(store, held) == {held.id}
    assert get(store, held.id).state == "scheduled"
    assert counted(store) == {}


@pytest.mark.parametrize(
    "outcome", [SUCCESS, Outcome(State.DEAD, "timeout", None)], ids=["reply", "no reply"]
)
def test_what_a_handler_has_committed_is_a_success_whatever_came_back(
    store: Store, outcome: Outcome
) -> None:
    """A reply that was lost changes nothing: the row of the attempt is asked. All of it is
    counted once.
    """
    store.transact(lambda connection: store.batches.create(connection, "b" * 26, 2, None, None))
    for _ in range(2):
        add(store, batch_id="b" * 26)
    held, other = claim(store, 2)
    assert complete(store, held)
    results = [AttemptResult(held, outcome, 0.1), AttemptResult(other, SUCCESS, 0.1)]
    for _ in range(2):  # the commit of the first was in doubt
        recorded = store.transact(lambda connection: store.recording.record(connection, results))
        assert recorded.lost == set()
        assert {result.outcome for result in recorded.results} == {SUCCESS}
    assert counted(store) == {"succeeded": 2}
    with store.reading() as connection:
        batch = store.batches.get(connection, "b" * 26)
        attempts = store.statistics.of(connection, ["default"])["default"].last_minute
    assert (batch.succeeded, batch.dead, attempts) == (2, 0, 2)
    assert batch.finished_at is not None
    assert [log(store, one.id) for one in (held, other)] == [[(1, "success")], [(1, "success")]]


def test_a_handler_that_commits_while_its_timeout_is_recorded_has_succeeded(store: Store) -> None:
    """Between the look and the change, say: the database lets one of both log the attempt, and
    the other looks again.
    """
    if store.database.dialect.locks_by_writing:
        pytest.skip("one writer: nothing comes between")
    add(store)
    (held,) = claim(store)
    looks: list[int] = []
    store.recording._looks = True

    def work(connection: sa.Connection) -> Recorded:
        if not looks:
            looks.append(1)
            look = store.recording._look  # the handler commits right after the first look

            def once(*given: Any) -> Any:
                found = look(*given)
                store.recording._look = look  # type: ignore[method-assign]
                assert complete(store, held)
                return found

            store.recording._look = once  # type: ignore[method-assign]
        return store.recording.record(
            connection, [AttemptResult(held, Outcome(State.DEAD, "timeout", None), 0.1)]
        )

    recorded = store.transact(work)
    assert [result.outcome for result in recorded.results] == [SUCCESS]
    assert get(store, held.id).state == "succeeded"
    assert counted(store) == {"succeeded": 1}
