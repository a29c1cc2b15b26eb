"""Small decisions: which lane first, who is a suspect, where a dispatcher starts."""

from __future__ import annotations

from flask_taskqueue.core.names import task_id
from flask_taskqueue.core.queues.lanes import Lane, Lanes
from flask_taskqueue.core.queues.poison import PROBATION, may_take_suspect
from flask_taskqueue.core.queues.rates import Gate
from flask_taskqueue.core.times import SECOND

MINUTE = 60 * SECOND
NOW = 10**15


def lane(
    priority: int, age: int | None, expired: int | None = None, queue: str = "default"
) -> Lane:
    """A lane whose first task is due, and first lease runs out, so many microseconds ago."""
    return Lane(
        queue,
        priority,
        None if age is None else NOW - age,
        None if expired is None else NOW - expired,
    )


def test_the_higher_priority_goes_first_and_nothing_starves() -> None:
    """One step of priority is worth a minute of waiting: what has waited longer than that comes
    before.
    """
    urgent, ordinary, starved = (
        lane(1, 0),
        lane(0, 59 * SECOND),
        lane(0, 61 * SECOND, queue="other"),
    )
    assert Lanes(NOW, (ordinary, urgent, starved)).due() == [starved, urgent, ordinary]


def test_only_what_is_due_is_due() -> None:
    """A lane whose first task lies in the future is not taken from; it says when to look again."""
    lanes = Lanes(NOW, (lane(0, -5 * SECOND), lane(1, None, -2 * SECOND)))
    assert lanes.due() == []
    assert lanes.expired() == []
    assert lanes.next_in() == 2
    assert Lanes(NOW, ()).next_in() is None


def test_the_next_lane_is_the_one_that_can_be_taken_from_first() -> None:
    """For a new task or for a lease that runs out; limits postpone it."""
    soon, later, running = (
        lane(0, -5 * SECOND),
        lane(1, -9 * SECOND, queue="other"),
        lane(2, None, -2 * SECOND),
    )
    assert Lanes(NOW, (later, soon)).next_lane() == soon
    assert Lanes(NOW, (later, soon, running)).next_lane() == running
    assert Lanes(NOW, (later, soon), {"default": Gate(NOW, rate=0.0)}).next_lane() == later
    assert Lanes(NOW, (soon,), {"default": Gate(NOW, rate=0.0)}).next_lane() is None
    assert Lanes(NOW, ()).next_lane() is None


def test_leases_that_ran_out_come_in_their_order() -> None:
    """The longest ago first."""
    first, second = lane(0, None, 2 * SECOND), lane(9, None, SECOND)
    assert Lanes(NOW, (second, first)).expired() == [first, second]


def test_a_suspect_starts_beside_nothing_young() -> None:
    """What has run for the probation time has shown that it does not kill at once."""
    assert may_take_suspect([])
    assert may_take_suspect([PROBATION, 600])
    assert not may_take_suspect([PROBATION, 0.1])


def test_ids_sort_by_creation_and_are_never_the_same() -> None:
    """Twenty-six characters of Crockford's alphabet."""
    ids = [task_id() for _ in range(2000)]
    assert len(set(ids)) == len(ids)
    assert {len(task_id) for task_id in ids} == {26}
    assert [task_id[:10] for task_id in ids] == sorted(task_id[:10] for task_id in ids)
