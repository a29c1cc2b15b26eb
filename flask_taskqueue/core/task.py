"""A task as its user sees it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from .clock import to_datetime
from .record import Record
from .states import State
from .urls import redacted


class TaskActions(Protocol):
    """What a task can ask of the queue that holds it."""

    def wait(self, task_id: str, timeout: float | None) -> Task: ...
    def requeue(self, task_id: str) -> Task: ...
    def delete(self, task_id: str) -> bool: ...
    def run_now(self, task_id: str) -> Task: ...


@dataclass(frozen=True, slots=True)
class Task:
    """What was known of a task when this value was read; it does not change afterwards.

    ``eta`` is the earliest time asked for and never changes; ``due_at`` is when the task may next
    be taken (for a leased one, when its lease runs out; None once it has ended). ``attempts``
    counts deliveries started, ``crashes`` those whose process died. All instants are aware, in UTC.
    """

    id: str
    name: str | None
    queue: str
    url: str
    method: str
    state: State
    priority: int
    eta: datetime
    due_at: datetime | None
    created_at: datetime
    first_tried_at: datetime | None
    finished_at: datetime | None
    attempts: int
    crashes: int
    last_status: int | None
    last_error: str | None
    _actions: TaskActions = field(repr=False, compare=False)

    @classmethod
    def of(cls, record: Record, actions: TaskActions) -> Task:
        """The task of a row."""
        return cls(
            id=record.id,
            name=record.name,
            queue=record.queue,
            url=record.url,
            method=record.method,
            state=State(record.state),
            priority=record.priority,
            eta=to_datetime(record.eta),
            due_at=_instant(record.due_at),
            created_at=to_datetime(record.created_at),
            first_tried_at=_instant(record.first_tried_at),
            finished_at=_instant(record.finished_at),
            attempts=record.attempts,
            crashes=record.crashes,
            last_status=record.last_status,
            last_error=record.last_error,
            _actions=actions,
        )

    def __repr__(self) -> str:
        """Without query string and user information: a repr ends up in logs."""
        return f"<Task {self.id} {self.method} {redacted(self.url)} {self.state} queue={self.queue}>"

    def wait(self, timeout: float | None = None) -> Task:
        """Block until the task has ended and return it as it is then.

        ``timeout`` is in seconds; None waits for ever. Raises `WaitTimeoutError` when it passes
        (the task itself goes on). Inside a transaction that has not been committed there is
        nothing to wait for: commit first.
        """
        return self._actions.wait(self.id, timeout)

    def requeue(self) -> Task:
        """Schedule a dead task again, due now, its attempts and crashes counted from zero.

        Raises `BadTaskStateError` unless the task is dead, `UnknownTaskError` when it was pruned.
        """
        return self._actions.requeue(self.id)

    def delete(self) -> bool:
        """Cancel the task; whether it was still scheduled or leased.

        A delivery under way is not interrupted, but ``current_task.cancelled`` becomes true within
        a heartbeat, and its result is not recorded as success.
        """
        return self._actions.delete(self.id)

    def run_now(self) -> Task:
        """Make a scheduled task due at once; its eta stays what it was.

        Raises `BadTaskStateError` unless the task is scheduled.
        """
        return self._actions.run_now(self.id)


def _instant(micros: int | None) -> datetime | None:
    return None if micros is None else to_datetime(micros)
