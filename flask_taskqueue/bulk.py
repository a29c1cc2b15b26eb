"""Many tasks, changed at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from .core.ids import task_id
from .engine.janitor import Retention
from .runtime import Runtime
from .store import CHANGED_AT_ONCE, Action, Filter


def change_matching(runtime: Runtime, action: Action, wanted: Filter, told: Callable[[int], object] = lambda _: None) -> int:
    """Change the tasks that match, some to a transaction so that nobody waits long; how many.

    Only those that were there when it began; ``told`` is called with each number that is done.
    """
    tasks = runtime.store.tasks
    those = wanted if wanted.before is not None else replace(wanted, before=task_id())
    total, changed = 0, CHANGED_AT_ONCE
    while changed == CHANGED_AT_ONCE:
        changed = runtime.store.transact(lambda connection: tasks.change_some(connection, those, action))
        total += changed
        told(changed)
    if action is not Action.DELETE:
        runtime.wake()
    runtime.tell_changed(action.value, total)
    return total


def change_ids(runtime: Runtime, action: Action, ids: Sequence[str], *, queue: str | None = None) -> int:
    """Change these tasks, as far as their states allow (and only those of this queue, if one is given); how many."""
    tasks, total = runtime.store.tasks, 0
    for start in range(0, len(ids), CHANGED_AT_ONCE):
        some = Filter(ids=ids[start : start + CHANGED_AT_ONCE], queue=queue)
        total += runtime.store.transact(partial(tasks.change_some, wanted=some, action=action))
    if total and action is not Action.DELETE:
        runtime.wake()
    runtime.tell_changed(action.value, total)
    return total


def forget_matching(runtime: Runtime, wanted: Filter, told: Callable[[int], object] = lambda _: None) -> int:
    """Forget the finished tasks that match, but for names that are kept from being taken again; how many. As `change_matching`."""
    history, tombstones, total = runtime.store.history, Retention.of(runtime.settings).tombstones, 0
    while forgotten := runtime.store.transact(partial(history.forget_some, wanted=wanted, tombstones=tombstones)):
        total += forgotten
        told(forgotten)
    runtime.tell_changed("forget", total)
    return total
