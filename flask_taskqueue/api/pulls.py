"""Pulls: leasing, keeping and completing the tasks of pull queues."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from ..core.delivery.outcome import Death
from ..core.errors import (
    BadTaskStateError,
    InvalidQueueModeError,
    TombstonedTaskError,
    UnknownTaskError,
)
from ..core.settings.queue import QueueSettings
from ..core.states import Record, State
from ..core.times import plural
from ..runtime import QueueLookup, Runtime
from ..store import Tag
from .changes import make_change


class LeaseExpiredError(BadTaskStateError):
    """The lease has run out, or is no longer the one that was taken."""


class PausedError(BadTaskStateError):
    """The queue is paused."""


def pull_queue(runtime: Runtime, name: str) -> QueueSettings:
    """Return the settings of a pull queue.

    Raises `UnknownQueueError`, and `InvalidQueueModeError` for a push queue.
    """
    queue = QueueLookup(runtime)(name)
    if not queue.is_pulled:
        raise InvalidQueueModeError(
            f"queue {name!r} is a push queue, whose tasks are sent: give it mode 'pull' to lease "
            "them"
        )
    return queue


def lease_tasks(
    runtime: Runtime,
    name: str,
    limit: int,
    seconds: float,
    *,
    by_tag: bool = False,
    tag: str | None = None,
) -> list[Record]:
    """Lease up to ``limit`` due tasks of a pull queue for ``seconds``, and return them.

    With ``by_tag`` all of them have the same tag: the one given, or that of the task which has been
    due longest. No other caller can lease them during that time. From a paused queue nothing is
    leased. The leases follow the transaction rule of ``tasks.add``.
    """
    queue, pulls = pull_queue(runtime, name), runtime.store.pulls

    def work(connection: sa.Connection) -> tuple[list[Record], list[Death]]:
        if pulls.is_paused(connection, name):
            return [], []
        wanted = None if tag is None else Tag(tag)
        if by_tag and wanted is None:
            wanted = pulls.first_tag(connection, name)
            if wanted is None:
                return [], []
        return pulls.lease(connection, name, limit, seconds, retry=queue.retry, tag=wanted)

    return make_change(
        runtime,
        work,
        None,
        wakes=False,
        tell=lambda found: runtime.tell_dead(*found[1]),
        name=lambda found: [f"to lease {plural(len(found[0]), 'task')}"],
    )[0][0]


def modify_lease(
    runtime: Runtime, name: str, task_name: str, lease: str, due_at: int, seconds: float
) -> int:
    """Have the lease of a task run out ``seconds`` from now; return when, in microseconds.

    ``lease`` and ``due_at`` say which lease is meant. Raises `LeaseExpiredError`, `PausedError`,
    and `UnknownTaskError` or `TombstonedTaskError` for a task that never was or has ended.
    """
    pull_queue(runtime, name)
    store = runtime.store

    def work(connection: sa.Connection) -> int:
        if store.pulls.is_paused(connection, name):
            raise PausedError(f"queue {name!r} is paused")
        found = store.tasks.ids_of(connection, name, [task_name])
        if not found:
            raise UnknownTaskError(f"queue {name!r} has no task named {task_name!r}")
        record = store.tasks.get(connection, found[task_name])
        if State(record.state).is_finished:
            raise TombstonedTaskError(f"task {task_name!r} of queue {name!r} has ended")
        until = store.pulls.modify(connection, record, lease, due_at, seconds)
        if until is None:
            raise LeaseExpiredError(
                f"the lease of task {task_name!r} has run out, or is another's now"
            )
        return until

    return make_change(
        runtime, work, None, wakes=False, name=lambda _: [f"to keep task {task_name}"]
    )[0]


def complete_tasks(runtime: Runtime, name: str, task_names: Sequence[str]) -> list[bool]:
    """End tasks of a pull queue as succeeded; return, for each name, whether it had not ended."""
    store = runtime.store

    def work(connection: sa.Connection) -> list[bool]:
        ids = store.tasks.ids_of(connection, name, task_names)
        done = store.pulls.complete(connection, list(ids.values()))
        return [ids.get(task_name) in done for task_name in task_names]

    return make_change(
        runtime,
        work,
        None,
        wakes=False,
        name=lambda _: [f"to complete {plural(len(task_names), 'task')}"],
    )[0]
