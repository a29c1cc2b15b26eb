"""Adding batches: tasks that are stored and counted together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import sqlalchemy as sa

from ..core.errors import InvalidTaskError, TooManyTasksError
from ..core.names import task_id
from ..core.tasks.packed import pack
from ..core.tasks.spec import NewTask, SpecLike, TaskSpec
from ..runtime import FindQueue, QueueLookup, Runtime
from ..store import in_order
from .adding import MOST_AT_ONCE, check_names, may_wait, new_tasks, trace_context, traced
from .changes import make_change


def add_batch(
    runtime: Runtime,
    specs: Sequence[TaskSpec],
    on_finish: SpecLike | None,
    on_dead: SpecLike | None,
    transactional: bool | None,
) -> sa.Row[Any]:
    """Store a batch and its tasks in one transaction, and return the batch's row."""
    batch_id = task_id()
    find_queue = QueueLookup(runtime, transactional)
    news = _of_batch(runtime, specs, batch_id, find_queue)
    callbacks = [
        None if spec is None else pack([runtime.new_task(TaskSpec.of(spec), find_queue=find_queue)])
        for spec in (on_finish, on_dead)
    ]
    store = runtime.store

    def work(connection: sa.Connection) -> sa.Row[Any]:
        store.batches.create(connection, batch_id, len(news), *callbacks)
        for new in in_order(news):
            store.inserts.add(connection, new)
        if not news:
            store.batches.count(connection, {batch_id: {"succeeded": 0}})
        return store.batches.get(connection, batch_id)

    return make_change(
        runtime,
        work,
        transactional,
        name=lambda _: [f"batch {batch_id} of {len(news)} tasks"],
        waits=any(map(may_wait, news)),
        done=partial(store.batches.find, batch_id=batch_id),
    )[0]


def _of_batch(
    runtime: Runtime, specs: Sequence[TaskSpec], batch_id: str, find_queue: FindQueue
) -> list[NewTask]:
    if len(specs) > MOST_AT_ONCE:
        raise TooManyTasksError(
            f"{len(specs)} tasks are more than one batch takes ({MOST_AT_ONCE})"
        )
    context = trace_context(runtime)
    news = [
        replace(traced(new, context), batch_id=batch_id)
        for new in new_tasks(runtime, specs, find_queue)
    ]
    check_names(news)
    if any(new.unique_key is not None for new in news):
        raise InvalidTaskError(
            "tasks of a batch cannot have a unique_key: one that is skipped would never be counted"
        )
    return news
