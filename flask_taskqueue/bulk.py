"""Many tasks, changed at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .core.ids import task_id
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
    return total
