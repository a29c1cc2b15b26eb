"""Changes of many tasks at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import sqlalchemy as sa

from ..core.names import task_id
from ..core.times import plural, to_micros
from ..engine.maintenance import Retention, tombstones_of
from ..runtime import Runtime
from ..store import CHANGED_AT_ONCE, Action, Filter
from .changes import joins_session, make_change, refuse_many, refuse_own_task


class _Step:
    """One transaction of a change of many tasks.

    It knows what it has changed even if the answer to its commit was lost.
    """

    def __init__(
        self,
        filter: Filter,
        find: Callable[[sa.Connection, Filter], list[str]],
        change: Callable[[sa.Connection, Filter], int],
        is_left: Callable[[sa.Connection, Filter, Sequence[str]], bool],
    ) -> None:
        """Take what finds some tasks that match, changes them, and tells whether one is left."""
        self._filter, self._find, self._change, self._is_left = filter, find, change, is_left
        self._ids: list[str] = []
        self._changed = 0

    @classmethod
    def of(cls, runtime: Runtime, action: Action, filter: Filter) -> _Step:
        """Return the step that applies an action."""
        tasks = runtime.store.tasks
        return cls(
            filter,
            lambda connection, filter: tasks.selection.ids(connection, action, filter),
            lambda connection, filter: tasks.change_some(connection, filter, action),
            lambda connection, filter, ids: tasks.selection.is_left(
                connection, action, filter, ids
            ),
        )

    def work(self, connection: sa.Connection) -> int:
        """Change some tasks that match, and return how many."""
        self._ids = self._find(connection, self._filter)
        self._changed = self._change(connection, replace(self._filter, ids=self._ids))
        return self._changed

    def done(self, connection: sa.Connection) -> int | None:
        """Return how many tasks `work` has changed; None if its commit did not happen."""
        return None if self._is_left(connection, self._filter, self._ids) else self._changed


def change_matching(
    runtime: Runtime,
    action: Action,
    filter: Filter,
    on_progress: Callable[[int], object] = lambda _: None,
    *,
    transactional: bool | None = None,
) -> int:
    """Change the tasks that match, and return how many were changed.

    The transactions are small, so that nobody waits long. Tasks added after the change began are
    left alone. ``on_progress`` is called with the number of tasks that each transaction changed.
    Raises `BadTransactionStateError` if the change would have to be part of the session's
    transaction.
    """
    refuse_many(runtime, transactional, f"to {action.value} whatever matches")
    store = runtime.store
    earlier = filter if filter.before is not None else replace(filter, before=task_id())
    if action.starts:
        earlier = replace(earlier, untried_since=to_micros(store.read(store.schedules.now)))
    total, changed = 0, CHANGED_AT_ONCE
    while changed == CHANGED_AT_ONCE:
        step = _Step.of(runtime, action, earlier)
        changed, _ = make_change(runtime, step.work, False, wakes=False, done=step.done)
        total += changed
        on_progress(changed)
    if action.starts:
        runtime.wake()
    runtime.tell_changed(action.value, total)
    return total


def purge_queue(runtime: Runtime, queue: str, transactional: bool | None) -> int:
    """Cancel every task of a queue, note when that began, and return how many were cancelled.

    Raises as `change_matching`.
    """
    store = runtime.store
    began = store.read(store.schedules.now)
    cancelled = change_matching(
        runtime, Action.DELETE, Filter(queue=queue), transactional=transactional
    )

    def note(connection: sa.Connection) -> int:
        store.queues.note_purge(connection, queue, began)
        return 0  # tasks

    make_change(runtime, note, False, wakes=False, done=lambda _: None)  # twice does no harm
    return cancelled


def change_ids(
    runtime: Runtime,
    action: Action,
    ids: Sequence[str],
    *,
    queue: str | None = None,
    transactional: bool | None = None,
) -> int:
    """Change these tasks, as far as their states allow, and return how many were changed.

    With ``queue``, only tasks of that queue are changed. If the change is part of the session's
    transaction, it takes that one transaction; otherwise it takes several small ones.
    """
    if action is Action.DELETE:
        refuse_own_task(runtime, ids, transactional)
    tasks, wakes = runtime.store.tasks, action is not Action.DELETE
    tell = partial(runtime.tell_changed, action.value)
    parts = _parts(ids, queue)

    def work(connection: sa.Connection, filters: Sequence[Filter]) -> int:
        return sum(tasks.change_some(connection, part, action) for part in filters)

    if joins_session(runtime, transactional):
        name = f"to {action.value} {plural(len(ids), 'task')}"
        total: int = make_change(
            runtime,
            partial(work, filters=parts),
            True,
            wakes=wakes,
            tell=tell,
            name=lambda _: [name],
        )[0]
        return total
    steps = [_Step.of(runtime, action, part) for part in parts]
    total = sum(
        make_change(runtime, step.work, transactional, wakes=False, done=step.done)[0]
        for step in steps
    )
    if total and wakes:
        runtime.wake()
    tell(total)
    return total


def delete_named(
    runtime: Runtime, queue: str, names: Sequence[str], *, transactional: bool | None = None
) -> list[bool]:
    """Cancel the tasks of a queue that have these names; a task without a name has its id.

    Returns, for each name, whether there was a task that had not ended. It takes one transaction.
    """
    tasks = runtime.store.tasks

    def work(connection: sa.Connection) -> list[bool]:
        ids = tasks.ids_of(connection, queue, names)
        refuse_own_task(runtime, sorted(ids.values()), transactional)
        deleted = {
            task_id
            for task_id in sorted(ids.values())
            if tasks.delete_some(connection, Filter(ids=[task_id]))
        }
        return [ids.get(name) in deleted for name in names]

    def tell(deleted: list[bool]) -> None:
        runtime.tell_changed(Action.DELETE.value, sum(deleted))

    return make_change(
        runtime,
        work,
        transactional,
        wakes=False,
        tell=tell,
        name=lambda _: [f"to delete {plural(len(names), 'task')}"],
    )[0]


def forget_matching(
    runtime: Runtime,
    filter: Filter,
    on_progress: Callable[[int], object] = lambda _: None,
    *,
    transactional: bool | None = None,
) -> int:
    """Forget the finished tasks that match, and return how many were forgotten.

    The transactions are small, as those of `change_matching`. A task is not forgotten while a
    tombstone still keeps its name from being taken again.
    """
    refuse_many(runtime, transactional, "to forget whatever matches")
    history, total = runtime.store.finished_tasks, 0
    kept = runtime.store.read(
        lambda connection: tombstones_of(runtime.store, Retention.of(runtime.settings), connection)
    )
    step = _Step(
        filter,
        lambda connection, filter: history.forgettable(connection, filter, kept),
        lambda connection, filter: history.forget_some(connection, filter, kept),
        lambda connection, _, ids: bool(runtime.store.tasks.get_all(connection, ids)),
    )
    while forgotten := make_change(runtime, step.work, False, wakes=False, done=step.done)[0]:
        total += forgotten
        on_progress(forgotten)
    runtime.tell_changed("forget", total)
    return total


def _parts(ids: Sequence[str], queue: str | None) -> list[Filter]:
    """Return the filters of small transactions that together select these tasks."""
    return [
        Filter(ids=ids[start : start + CHANGED_AT_ONCE], queue=queue)
        for start in range(0, len(ids), CHANGED_AT_ONCE)
    ]
