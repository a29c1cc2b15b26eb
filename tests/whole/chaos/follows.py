"""Whether what follows others came once: ``then``, callbacks of batches, tasks that handlers
add, fire times of schedules.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise

from .asked import Asked
from .history import Batch, Row
from .operations import Step

MINUTE = 60_000_000


def followers(asked: Asked) -> Iterator[str]:
    """What is to follow a success is there once if there was one, and otherwise not."""
    for label, wish in asked.wishes.items():
        succeeded = any(row.state == "succeeded" for row in asked.labelled.get(label, ()))
        due = [follower.label for follower in wish.then] + ([wish.grows] if wish.grows else [])
        for follower in due:
            count = len(asked.labelled.get(follower, ()))
            if count != succeeded:
                yield (
                    f"{follower} is there {count} times, and {label}, which it follows, has "
                    f"{'' if succeeded else 'not '}succeeded"
                )


def batches(asked: Asked) -> Iterator[str]:
    """The counts of batches are those of their tasks, and each callback is there once when it
    was due.
    """
    tasks: dict[str, list[Row]] = defaultdict(list)
    for row in asked.history.rows:
        if row.batch_id is not None:
            tasks[row.batch_id].append(row)
    for batche in asked.history.left.batches:
        yield from _counts(asked, batche, tasks[batche.id])
        step = _step(asked, tasks[batche.id])
        if step is not None:
            yield from _callbacks(asked, batche, tasks[batche.id], step)


def fires(asked: Asked) -> Iterator[str]:
    """Each fire time has one task, and each task of a schedule a fire time, unless somebody ran
    it now.
    """
    for fire in asked.history.left.fires:
        row = asked.rows.get(fire.task_id or "")
        if row is None or (row.schedule, row.eta) != (fire.schedule, fire.fire_at):
            yield (
                f"schedule {fire.schedule} fired at {fire.fire_at} without its task {fire.task_id}"
            )
    fired = Counter(fire.task_id for fire in asked.history.left.fires)
    runs = [
        operation
        for operation in asked.operations
        if operation.step.do == "cron_run_now" and operation.done is not False
    ]
    told = {task_id for run in runs for task_id, _ in run.told.values()}
    of_schedules = [row for row in asked.history.rows if row.schedule is not None]
    yield from (
        f"{row.id} is the task of {fired[row.id]} fire times"
        for row in of_schedules
        if fired[row.id] > 1
    )
    others = [row for row in of_schedules if row.id not in fired and row.id not in told]
    if len(others) > sum(not run.told for run in runs):
        yield from (
            f"{row.id} of schedule {row.schedule} is there without a fire time" for row in others
        )
    done = {task_id for run in runs if run.done for task_id, _ in run.told.values()}
    yield from (
        f"{task_id}, which was run now, is gone" for task_id in sorted(done - {*asked.rows})
    )


def left_out(asked: Asked) -> Iterator[str]:
    """Fire times, from the first to which it was set back, at which the schedule did not fire
    that nobody pauses.
    """
    rewound: dict[str, list[int]] = defaultdict(list)
    for operation in asked.operations:
        if operation.step.do == "rewind" and operation.done:
            rewound[operation.step.schedule].append(operation.answer)
    for name, starts in rewound.items():
        seen = {fire.fire_at for fire in asked.history.left.fires if fire.schedule == name}
        if name == "steady":
            missed = [
                at for at in range(min(starts), max(seen, default=0), MINUTE) if at not in seen
            ]
            yield from (f"schedule {name} left out its fire time {at}" for at in missed)


def overlapping(asked: Asked) -> Iterator[str]:
    """Tasks of a schedule that skips fire times while one has not ended, of which two had not."""
    rows = sorted(
        (row for row in asked.history.rows if row.schedule == "single"),
        key=lambda row: row.created_at,
    )
    for earlier, later in pairwise(rows):
        if earlier.finished_at is None or earlier.finished_at > later.created_at:
            yield f"schedule single added {later.id} while {earlier.id} had not ended"


def _counts(asked: Asked, batch: Batch, rows: Sequence[Row]) -> Iterator[str]:
    states = Counter(row.state for row in rows)
    counted = {"succeeded": batch.succeeded, "dead": batch.dead, "cancelled": batch.cancelled}
    if len(rows) != batch.total:
        yield f"batch {batch.id} has {len(rows)} tasks, not {batch.total}"
    if any(row.id in asked.history.requeued for row in rows):
        return
    for state, count in counted.items():
        if states[state] != count:
            yield f"batch {batch.id} counts {count} {state}, and {states[state]} are"
    if (batch.finished_at is not None) != (sum(counted.values()) == batch.total):
        yield (
            f"batch {batch.id} is {'' if batch.finished_at else 'not '}finished, and "
            f"{sum(counted.values())} of {batch.total} have ended"
        )


def _callbacks(asked: Asked, batch: Batch, rows: Sequence[Row], step: Step) -> Iterator[str]:
    died = {any(row.state == "dead" for row in rows)}
    if any(row.id in asked.history.requeued for row in rows):
        died = {True, False}
    for wish, due in ((step.on_finish, {batch.finished_at is not None}), (step.on_dead, died)):
        if wish is not None and (count := len(asked.labelled.get(wish.label, ()))) not in due:
            yield f"{wish.label} is there {count} times after batch {batch.id}"


def _step(asked: Asked, rows: Sequence[Row]) -> Step | None:
    """The step that added a batch."""
    added = next((one for row in rows if (one := asked.added(row)) is not None), None)
    return None if added is None else added.step
