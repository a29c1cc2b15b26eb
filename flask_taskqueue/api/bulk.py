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
    store, tasks = runtime.store, runtime.store.tasks
    earlier = filter if filter.before is not None else replace(filter, before=task_id())
    if action.starts:
        earlier = replace(earlier, untried_since=to_micros(store.read(store.schedules.now)))
    total, changed = 0, CHANGED_AT_ONCE
    while changed == CHANGED_AT_ONCE:
        changed, _ = make_change(
            runtime,
            lambda connection: tasks.change_some(connection, earlier, action),
            False,
            wakes=False,
        )
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

    make_change(runtime, note, False, wakes=False)
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
    total = sum(
        make_change(runtime, partial(work, filters=[part]), transactional, wakes=False)[0]
        for part in parts
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
    while forgotten := make_change(
        runtime,
        lambda connection: history.forget_some(connection, filter, kept),
        False,
        wakes=False,
    )[0]:
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
