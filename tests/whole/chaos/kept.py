"""Whether the answers that clients were given hold."""

from __future__ import annotations

from collections.abc import Iterator

from .asked import Asked
from .history import Fault
from .operations import DEADLOCK, Operation, Wish

_AFTER = 5.0
"""Seconds after a fault within which it may be the cause of a refusal."""
_TAKEN = ("TaskAlreadyExistsError", "TombstonedTaskError")
_REFUSED = {
    "requeue": ("BadTaskStateError", "TaskAlreadyExistsError"),
    "run_now": ("BadTaskStateError",),
}
_DATABASE = (
    "TransientError",
    "OperationalError",
    "InternalError",
    "InterfaceError",
    "DatabaseError",
    "PendingRollbackError",
)


def missing(asked: Asked) -> Iterator[str]:
    """Tasks whose add was acknowledged, and that are not there."""
    for operation in asked.operations:
        if not operation.done or operation.error is not None:
            continue
        for wish in operation.step.wishes:
            task_id, how = operation.told.get(wish.label, (None, None))
            if task_id is not None and task_id not in asked.rows:
                yield (
                    f"{wish.label} of step {operation.step.number} ({how}, {task_id}) is not in "
                    "the table"
                )
            if task_id is None and wish.label not in asked.labelled and not _is_keyed(wish):
                yield f"{wish.label} of step {operation.step.number} is not in the table"


def uncommitted(asked: Asked) -> Iterator[str]:
    """Tasks that were refused or rolled back, and are there; and those that nobody wished for."""
    for operation in asked.operations:
        if operation.done is False:
            for wish in operation.step.everything:
                if wish.label in asked.labelled:
                    yield (
                        f"{wish.label} of step {operation.step.number} was "
                        f"{operation.error or 'rolled back'}, and is in the table"
                    )
    if not asked.operations:
        return
    grown = {wish.grows for wish in asked.wishes.values()}
    for row in asked.history.rows:
        if row.schedule is None and row.label not in asked.wishes and row.label not in grown:
            yield f"{row.id} ({row.label}) was wished for by nobody"


def doubled(asked: Asked) -> Iterator[str]:
    """Tasks that are there more than once."""
    for label, rows in asked.labelled.items():
        if label and len(rows) > 1:
            yield f"{label} is there {len(rows)} times: {', '.join(row.id for row in rows)}"


def broken_words(asked: Asked) -> Iterator[str]:
    """Operations whose answer does not hold, or that raised what nothing explains."""
    for operation in asked.operations:
        head = f"step {operation.step.number} ({operation.step.do})"
        if operation.error is not None and not _may_raise(asked, operation):
            yield f"{head} raised {operation.error}"
        if operation.done and operation.error is None:
            yield from (f"{head}: {text}" for text in _unkept(asked, operation))


def _unkept(asked: Asked, one: Operation) -> Iterator[str]:
    if one.step.do == "delete" and one.answer == [True]:
        row = next(
            iter(
                asked.rows[task_id]
                for task_id in asked.ids(one.step.targets)
                if task_id in asked.rows
            ),
            None,
        )
        if row is not None and row.state != "cancelled":
            yield f"{row.id} was deleted and is {row.state}"
    if one.step.transaction == "rollback":
        yield "was rolled back, and the application's row is there"
    for label, (task_id, how) in one.told.items():
        row = asked.rows.get(task_id)
        if row is None or row.id in asked.history.requeued or how not in ("skipped", "debounced"):
            continue
        if row.finished_at is not None and row.finished_at < one.asked_at - 1000:
            yield f"{label} was {how} for {row.id}, which had ended before"
        tries = [each.started_at for each in asked.history.left.attempts if each.task_id == row.id]
        if (
            how == "debounced"
            and row.state == "succeeded"
            and max(tries, default=0) < one.asked_at - 1000
        ):
            yield f"{label} was debounced into {row.id}, which was not attempted after that"


def _may_raise(asked: Asked, one: Operation) -> bool:
    if one.error == DEADLOCK:  # a transaction of the queue's own is run again
        return one.step.transaction is not None
    if one.error in _DATABASE:
        return any(_near(fault, one) for fault in asked.history.faults if fault.kind != "stop")
    if one.error in _REFUSED.get(one.step.do, ()):
        return True
    return one.error in _TAKEN and any(_stands(asked, one, wish) for wish in one.step.wishes)


def _stands(asked: Asked, one: Operation, wish: Wish) -> bool:
    """Whether another task had the name of a wish, or its key while it was asked for."""
    queue, name, key = (wish.options.get(what) for what in ("queue", "name", "unique_key"))
    for row in asked.history.rows:
        if row.queue != queue:
            continue
        if name is not None and row.name == name:
            return True
        ended = (
            row.finished_at is not None
            and row.finished_at < one.asked_at
            and row.id not in asked.history.requeued
        )
        if (
            key is not None
            and row.given_key == key
            and not ended
            and wish.options.get("on_conflict") == "raise"
        ):
            return True
    return False


def _near(fault: Fault, one: Operation) -> bool:
    return fault.since <= one.until and fault.until + _AFTER >= one.since


def _is_keyed(wish: Wish) -> bool:
    return "name" in wish.options or "unique_key" in wish.options
