"""Whether what may not run at a time did not: keys, queues with limits, queues that are paused."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations

from .asked import SLACK, Asked
from .history import Attempt, Delivery, History, Row
from .operations import Operation

Deliveries = Mapping[str, Sequence[Delivery]]
_BESIDE = ("replace", "debounce")


def crowded(asked: Asked, found: Deliveries, *, deleted_hold: bool) -> Iterator[str]:
    """More at a time than a concurrency key, a serial key or a queue allows.

    With ``deleted_hold`` one that was deleted while it ran counts until its handler has ended.
    """
    for key, rows in _by(asked.history.rows, lambda row: row.lock_key).items():
        limit = max(row.lock_limit or 1 for row in rows)
        for later, beside in _beside(asked.history, rows, found, deleted_hold=deleted_hold):
            if len(beside) >= limit:
                yield f"{key}: {later.task_id} began beside {_names(beside)}, at most {limit} may"
    taken = _Taken(asked.history.left.attempts, found)
    for queue, rows in _by(asked.history.rows, lambda row: row.queue).items():
        for later, beside in _beside(asked.history, rows, found, deleted_hold=deleted_hold):
            last = max((taken.at(one) for one in (later, *beside)), default=math.nan)
            limit = _limit(asked, queue, last)
            if len(beside) >= limit:
                yield (
                    f"queue {queue}: {later.task_id} began beside {_names(beside)}, at most "
                    f"{limit} might"
                )


def out_of_turn(asked: Asked) -> Iterator[str]:
    """Tasks of a serial key that were taken while one that had been added before was still to
    be done.
    """
    tries: dict[str, list[int]] = defaultdict(list)
    for attempt in asked.history.left.attempts:
        tries[attempt.task_id].append(attempt.started_at)
    serial = [
        row for row in asked.history.rows if row.lock_key is not None and row.lock_limit is None
    ]
    for key, rows in _by(serial, lambda row: row.lock_key).items():
        for front, behind in combinations(sorted(rows, key=lambda row: row.id), 2):
            added = asked.added(front)
            if added is None or not added.done or front.id in asked.history.requeued:
                continue
            # One that has expired is ended when it is next looked at, together with others of its
            # key.
            ended = front.expires_at if front.last_reason == "expired" else front.finished_at
            over = math.inf if ended is None else ended
            if any(added.answered_at + SLACK < at < over - SLACK for at in tries[behind.id]):
                yield f"{key}: {behind.id} was taken before {front.id}, which was there, had ended"


def unpaused(asked: Asked, found: Deliveries, after: float) -> Iterator[str]:
    """Deliveries that began more than ``after`` seconds after their queue's pause() had
    returned, and before anybody resumed it.
    """
    for pause in asked.operations:
        if pause.step.do != "pause" or not pause.done or pause.error is not None:
            continue
        end = min(
            (one.since for one in _resuming(asked, pause) if one.until >= pause.since),
            default=math.inf,
        )
        for row in asked.history.rows:
            for one in found.get(row.id, ()) if row.queue == pause.step.queue else ():
                if pause.until + after < one.start < end and not _held_up(
                    asked.history, one, pause.until
                ):
                    late = one.start - pause.until
                    yield (
                        f"queue {row.queue}: {row.id} began {late:.3f} s after pause() of step "
                        f"{pause.step.number} had returned"
                    )


def together(asked: Asked) -> Iterator[str]:
    """Two tasks with one unique_key that had not ended, at a time."""
    keyed = [
        row
        for row in asked.history.rows
        if row.given_key is not None and row.id not in asked.history.requeued
    ]
    for key, rows in _by(keyed, lambda row: (row.queue, row.given_key)).items():
        for earlier, later in combinations(sorted(rows, key=lambda row: row.created_at), 2):
            added = asked.added(later)
            took = math.inf if added is None else added.answered_at - added.asked_at
            over = math.inf if earlier.finished_at is None else earlier.finished_at
            if over > later.created_at + took + SLACK and not _superseded(asked, earlier, rows):
                yield f"{key[0]}/{key[1]}: {later.id} was added before {earlier.id} had ended"


def names_twice(asked: Asked) -> Iterator[str]:
    """Names that were given to more than one task."""
    given: dict[tuple[str, str], set[str]] = defaultdict(set)
    for operation in asked.operations:
        for wish in operation.step.wishes if operation.done else ():
            task_id, how = operation.told.get(wish.label, ("", ""))
            if "name" in wish.options and how == "added":
                given[wish.options["queue"], wish.options["name"]].add(task_id)
    for (queue, name), ids in given.items():
        if len(ids) > 1:
            yield f"{queue}/{name} was given to {', '.join(sorted(ids))}"


class _Taken:
    """When the lease of a delivery was taken."""

    def __init__(self, attempts: Iterable[Attempt], found: Deliveries) -> None:
        leases: dict[tuple[str, int], list[int]] = defaultdict(list)
        for attempt in attempts:
            leases[attempt.task_id, attempt.number].append(attempt.started_at)
        self._at: dict[tuple[str, int, float], int] = {}
        for task_id, some in found.items():
            for number in {item.attempt for item in some}:
                same, times = (
                    [item for item in some if item.attempt == number],
                    sorted(leases[task_id, number]),
                )
                if len(same) == len(times):
                    self._at |= {
                        (task_id, number, one.start): at
                        for one, at in zip(same, times, strict=True)
                    }

    def at(self, one: Delivery) -> float:
        """Not a number if it is not known."""
        return self._at.get((one.task_id, one.attempt, one.start), math.nan)


def _beside(
    history: History, rows: Sequence[Row], found: Deliveries, *, deleted_hold: bool
) -> Iterator[tuple[Delivery, list[Delivery]]]:
    """Each delivery of some tasks, with those of other tasks that ran when it began."""
    running: list[Delivery] = []
    counted = {row.id for row in rows if deleted_hold or row.state != "cancelled"}
    for later in sorted(
        (one for row in rows for one in found.get(row.id, ())), key=lambda one: one.start
    ):
        running = [item for item in running if later.start < item.over_at(history.faults)]
        pauses = [
            fault
            for fault in history.faults
            if fault.kind == "pause" and fault.since <= later.start
        ]
        mine = [
            item
            for item in running
            if item.task_id != later.task_id and not any(item.hit_by(each, 0.0) for each in pauses)
        ]
        yield later, mine
        if later.task_id in counted:
            running.append(later)


def _limit(asked: Asked, queue: str, at: float) -> float:
    """The highest max_concurrent that a queue may have had at an instant."""
    if math.isnan(at):
        return math.inf
    changes = [
        operation
        for operation in asked.operations
        if operation.step.queue == queue
        and "max_concurrent" in operation.step.limits
        and operation.done is not False
    ]
    over = [change for change in changes if change.done and change.answered_at + SLACK < at]
    possible = [
        change.step.limits["max_concurrent"]
        for change in changes
        if change.asked_at - SLACK <= at and not _overwritten(change, over)
    ]
    possible += [] if over else [asked.history.limits.get(queue)]
    return max((math.inf if limit is None else limit for limit in possible), default=math.inf)


def _resuming(asked: Asked, pause: Operation) -> Iterator[Operation]:
    for operation in asked.operations:
        if (
            operation.step.do == "resume"
            and operation.step.queue == pause.step.queue
            and operation.done is not False
        ):
            yield operation


def _overwritten(one: Operation, by: Iterable[Operation]) -> bool:
    return any(other.asked_at > one.answered_at for other in by)


def _superseded(asked: Asked, earlier: Row, rows: Iterable[Row]) -> bool:
    """Whether another was added beside a task that ran, as asked for; it has no key then."""
    for row in rows:
        wish = asked.wish(row)
        within = row.created_at >= earlier.created_at and row.created_at <= (
            earlier.finished_at or math.inf
        )
        if (
            row.id != earlier.id
            and within
            and wish is not None
            and wish.options.get("on_conflict") in _BESIDE
        ):
            return True
    return False


def _held_up(history: History, one: Delivery, since: float) -> bool:
    """Whether something stood between the lease of a delivery and its beginning."""
    causes = [
        fault
        for fault in history.faults
        if fault.kind in ("pause", "outage") and fault.pid in (None, one.pid)
    ]
    return any(fault.since <= one.start and fault.until >= since for fault in causes)


def _by(rows: Iterable[Row], key: Callable[[Row], object]) -> dict[object, list[Row]]:
    found: dict[object, list[Row]] = defaultdict(list)
    for row in rows:
        if key(row) is not None:
            found[key(row)].append(row)
    return found


def _names(some: Iterable[Delivery]) -> str:
    return ", ".join(f"{item.task_id} (attempt {item.attempt})" for item in some)
