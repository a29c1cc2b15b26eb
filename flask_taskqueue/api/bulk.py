"""Many tasks, changed at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import sqlalchemy as sa

from ..core.humanize import plural
from ..core.ids import task_id
from ..engine.maintenance import Retention
from ..runtime import Runtime
from ..store import CHANGED_AT_ONCE, Action, Filter
from .changes import joins_session, make_change, refuse_many, refuse_own_task


def change_matching(
    runtime: Runtime,
    action: Action,
    wanted: Filter,
    told: Callable[[int], object] = lambda _: None,
    *,
    transactional: bool | None = None,
) -> int:
    """Change the tasks that match, some to a transaction so that nobody waits long; how many.

    Only those that were there when it began; ``told`` is called with each number that is done.
    Raises `BadTransactionStateError` if it would have to be part of the session's transaction.
    """
    refuse_many(runtime, transactional, f"to {action.value} whatever matches")
    tasks = runtime.store.tasks
    those = wanted if wanted.before is not None else replace(wanted, before=task_id())
    total, changed = 0, CHANGED_AT_ONCE
    while changed == CHANGED_AT_ONCE:
        changed, _ = make_change(
            runtime, partial(tasks.change_some, filter=those, action=action), False, wakes=False
        )
        total += changed
        told(changed)
    if action is not Action.DELETE:
        runtime.wake()
    runtime.tell_changed(action.value, total)
    return total


def change_ids(
    runtime: Runtime,
    action: Action,
    ids: Sequence[str],
    *,
    queue: str | None = None,
    transactional: bool | None = None,
) -> int:
    """Change these tasks, as far as their states allow (and only those of this queue, if one is
    given); how many.

    In one transaction if that is the session's, otherwise some to a transaction.
    """
    if action is Action.DELETE:
        refuse_own_task(runtime, ids, transactional)
    tasks, wakes, tell = (
        runtime.store.tasks,
        action is not Action.DELETE,
        partial(runtime.tell_changed, action.value),
    )
    parts = [
        Filter(ids=ids[start : start + CHANGED_AT_ONCE], queue=queue)
        for start in range(0, len(ids), CHANGED_AT_ONCE)
    ]

    def work(connection: sa.Connection, some: Sequence[Filter]) -> int:
        return sum(tasks.change_some(connection, one, action) for one in some)

    if joins_session(runtime, transactional):
        name = f"to {action.value} {plural(len(ids), 'task')}"
        total: int = make_change(
            runtime, partial(work, some=parts), True, wakes=wakes, tell=tell, name=lambda _: [name]
        )[0]
        return total
    total = sum(
        make_change(runtime, partial(work, some=[one]), transactional, wakes=False)[0]
        for one in parts
    )
    if total and wakes:
        runtime.wake()
    tell(total)
    return total


def forget_matching(
    runtime: Runtime,
    wanted: Filter,
    told: Callable[[int], object] = lambda _: None,
    *,
    transactional: bool | None = None,
) -> int:
    """Forget the finished tasks that match, but for names that are kept from being taken again;
    how many. As `change_matching`.
    """
    refuse_many(runtime, transactional, "to forget whatever matches")
    history, tombstones, total = (
        runtime.store.finished_tasks,
        Retention.of(runtime.settings).tombstones,
        0,
    )
    while forgotten := make_change(
        runtime,
        partial(history.forget_some, filter=wanted, tombstones=tombstones),
        False,
        wakes=False,
    )[0]:
        total += forgotten
        told(forgotten)
    runtime.tell_changed("forget", total)
    return total
