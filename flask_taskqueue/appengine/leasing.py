"""Leases on the tasks of pull queues, as App Engine's code takes them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..api.pulls import lease_tasks, modify_lease
from ..core.states import Record
from ..core.tasks.request import PULL
from ..runtime import Runtime
from .adding import as_tag
from .current import current_runtime
from .described_task import Lease
from .errors import (
    BadTaskStateError,
    InvalidLeaseTimeError,
    InvalidMaxTasksError,
    translated,
)
from .limits import MAX_LEASE_SECONDS, MAX_TASKS_PER_LEASE
from .rpc import UserRPC
from .task import Task


def lease(
    queue: str,
    lease_seconds: float,
    max_tasks: int,
    rpc: UserRPC | None,
    *,
    by_tag: bool = False,
    tag: Any = None,
) -> UserRPC:
    """Lease tasks of a queue; see `Queue.lease_tasks`."""
    _check_seconds(lease_seconds)
    if not isinstance(max_tasks, int):
        raise TypeError(f"max_tasks is {max_tasks!r}; it must be a whole number")
    if not 0 < max_tasks <= MAX_TASKS_PER_LEASE:
        raise InvalidMaxTasksError(
            f"max_tasks is {max_tasks}; one call leases 1 to {MAX_TASKS_PER_LEASE} tasks"
        )
    how = {"by_tag": by_tag, "tag": as_tag(tag)}
    return (rpc or UserRPC()).make(partial(_lease, queue, max_tasks, float(lease_seconds), how))


def modify(queue: str, task: Task, lease_seconds: float) -> None:
    """Change when a lease runs out; see `Queue.modify_task_lease`."""
    _check_seconds(lease_seconds)
    if not task.name:
        raise BadTaskStateError("the task has no name, so it was not leased")
    known = task.lease or Lease("", 0)
    with translated():
        until = modify_lease(
            current_runtime(), queue, task.name, known.id, known.due_at, float(lease_seconds)
        )
    task.move_lease(Lease(known.id, until))


def _lease(queue: str, most: int, seconds: float, how: dict[str, Any]) -> Callable[[], list[Task]]:
    with translated():
        runtime = current_runtime()
        records = lease_tasks(runtime, queue, most, seconds, **how)
        tasks = [_task(runtime, record) for record in records]
    return lambda: tasks


def _task(runtime: Runtime, record: Record) -> Task:
    task = Task(
        runtime.encryption.decrypt(bytes(record.body)),
        name=record.name or record.id,
        method=PULL,
        tag=record.tag,
        _size_check=False,
    )
    found = Lease(record.lease_id or "", record.due_at or 0)
    task.mark_leased(record.queue, found, record.attempts)
    return task


def _check_seconds(seconds: float) -> None:
    if not isinstance(seconds, int | float):
        raise TypeError(f"lease_seconds is {seconds!r}; it must be a number of seconds")
    if not 0 <= seconds <= MAX_LEASE_SECONDS:
        raise InvalidLeaseTimeError(
            f"lease_seconds is {seconds!r}; a lease has 0 to {MAX_LEASE_SECONDS} seconds"
        )
