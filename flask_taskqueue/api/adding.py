"""Adding: the one place where tasks are stored, in the transaction they belong to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import NamedTuple

import sqlalchemy as sa

from ..core.errors import DuplicateTaskNameError, TooManyTasksError
from ..core.states import Record
from ..core.tasks.request import PULL
from ..core.tasks.spec import Disposition, NewTask, TaskSpec
from ..core.tasks.task import Task
from ..core.times import plural
from ..core.urls import leads_out
from ..process.tracing import of_caller, sending, with_trace
from ..runtime import FindQueue, QueueLookup, Runtime
from ..store import Inserts, Store, in_order
from .changes import joins_session, make_change, named, send_added
from .tasks import Tasks

MOST_AT_ONCE = 1000
_CHUNK = 500

Added = tuple[Record, Disposition]
"""A task as it is stored now, with how that came about."""


class AddedMany(NamedTuple):
    """The number of tasks added, and of those left out because their name or key was taken."""

    added: int
    skipped: int


def add_task(runtime: Runtime, spec: TaskSpec, transactional: bool | None) -> Task:
    """Store a task, in the session's transaction or at once, as the transaction rule says."""
    spec, transactional = spec.split_transactional(transactional)
    find_queue = QueueLookup(runtime, transactional)
    return add_new(runtime, partial(runtime.new_task, spec, find_queue=find_queue), transactional)


def add_new(runtime: Runtime, make: Callable[[], NewTask], transactional: bool | None) -> Task:
    """Store the task that ``make`` returns, as `add_task` does."""
    return store_new(runtime, make, transactional)[1]


def store_new(
    runtime: Runtime, make: Callable[[], NewTask], transactional: bool | None
) -> tuple[Record, Task]:
    """Store a task as `add_new` does, and return its row too, which nobody else may see yet."""
    store = runtime.store
    with sending(wanted=runtime.settings.trace_propagation) as describe:
        new = traced(make(), trace_context(runtime))
        describe(new)
        (record, disposition), commitment = make_change(
            runtime,
            lambda connection: _insert(store, connection, new),
            transactional,
            name=lambda added: [named(added[0])],
            waits=may_wait(new),
            done=lambda connection: next(iter(_inserted(store, connection, [new]) or ()), None),
        )
    task = Task.of(record, Tasks.of(runtime), disposition, commitment)
    send_added(runtime, task)
    return record, task


def add_tasks(
    runtime: Runtime, specs: Sequence[TaskSpec], transactional: bool | None
) -> list[Task]:
    """Store up to 1,000 tasks in one transaction, and return each as it is now.

    If one is malformed, none is stored. Raises `TooManyTasksError` for more than 1,000, and
    `DuplicateTaskNameError` if two have the same name.
    """
    if len(specs) > MOST_AT_ONCE:
        raise TooManyTasksError(
            f"{len(specs)} tasks are more than one transaction takes ({MOST_AT_ONCE}); "
            "add_many() takes any number, in several"
        )
    news = new_tasks(runtime, specs, QueueLookup(runtime, transactional))
    return add_news(runtime, news, transactional)


def add_news(runtime: Runtime, news: Sequence[NewTask], transactional: bool | None) -> list[Task]:
    """Store finished tasks as `add_tasks` does, and return each as it is now."""
    context = trace_context(runtime)
    news = [traced(new, context) for new in news]
    check_names(news)
    if not news:
        return []
    store = runtime.store
    added, commitment = make_change(
        runtime,
        lambda connection: _insert_all(store, connection, news),
        transactional,
        name=lambda added: [named(record) for record, _ in added],
        waits=any(map(may_wait, news)),
        done=lambda connection: _inserted(store, connection, news),
    )
    tasks = Tasks.of(runtime)
    return [Task.of(record, tasks, disposition, commitment) for record, disposition in added]


def add_many(runtime: Runtime, specs: Iterable[TaskSpec], transactional: bool | None) -> AddedMany:
    """Store any number of tasks, a few hundred to a transaction, and return how many."""
    if joins_session(runtime, transactional):
        added = add_tasks(runtime, list(islice(specs, MOST_AT_ONCE + 1)), True)
        new = sum(task.was_enqueued for task in added)
        return AddedMany(new, len(added) - new)
    total = skipped = 0
    store, context = runtime.store, trace_context(runtime)
    for chunk in _chunks(specs):
        find_queue = QueueLookup(runtime, False)
        news = [traced(runtime.new_task(spec, find_queue=find_queue), context) for spec in chunk]
        missing, _ = make_change(
            runtime,
            partial(_insert_many, store.inserts, news=news),
            False,
            name=partial(_counted, len(news)),
            waits=any(map(may_wait, news)),
            done=partial(_inserted_many, store, news=news),
        )
        total += len(news) - missing
        skipped += missing
    return AddedMany(total, skipped)


def trace_context(runtime: Runtime) -> Mapping[str, str]:
    """Return the caller's trace context, or an empty one if traces are not propagated."""
    return of_caller() if runtime.settings.trace_propagation else {}


def traced(new: NewTask, context: Mapping[str, str]) -> NewTask:
    """Return a new task in the trace of this context."""
    if not context or new.request.method == PULL:
        return new
    foreign = leads_out(new.request.url, new.target)
    return replace(new, request=with_trace(new.request, context, foreign=foreign))


def new_tasks(runtime: Runtime, specs: Sequence[TaskSpec], find_queue: FindQueue) -> list[NewTask]:
    """Make the tasks of a list, each of which is named in the error that it raises."""
    return [
        runtime.new_task(spec, item=f"task {number}: ", find_queue=find_queue)
        for number, spec in enumerate(specs)
    ]


def _chunks(specs: Iterable[TaskSpec]) -> Iterator[list[TaskSpec]]:
    iterator = iter(specs)
    while chunk := list(islice(iterator, _CHUNK)):
        yield chunk


def check_names(news: Sequence[NewTask]) -> None:
    """Raise `DuplicateTaskNameError` if two tasks of a list have the same name."""
    seen: set[tuple[str, str]] = set()
    for new in news:
        if new.name is not None and (new.queue, new.name) in seen:
            raise DuplicateTaskNameError(
                f"the list has two tasks named {new.name!r} in queue {new.queue!r}"
            )
        if new.name is not None:
            seen.add((new.queue, new.name))


def _counted(tasks: int, _missing: int) -> list[str]:
    return [plural(tasks, "task")]


def may_wait(new: NewTask) -> bool:
    """Tell whether storing a task may wait for another transaction.

    It may if that transaction has stored a task with the same name or with one of the same keys.
    """
    return new.name is not None or new.unique_key is not None or new.lock_key is not None


def _insert(store: Store, connection: sa.Connection, new: NewTask) -> Added:
    """Store a task, and return what is stored now and how it came about.

    Raises what `Inserts.add` raises.
    """
    if new.unique_key is None or connection.engine is store.database.engine:
        return store.inserts.add(connection, new)
    return store.inserts.add_joined(connection, store.read, new)


def _insert_all(store: Store, connection: sa.Connection, news: Sequence[NewTask]) -> list[Added]:
    """Store up to a thousand tasks, each as `_insert` does, but skip those whose name is taken."""
    single = {new.id for new in news if new.unique_key is not None}
    missing = store.inserts.add_missing(connection, [new for new in news if new.id not in single])
    found = {
        record.id: record for record in store.tasks.get_all(connection, [new.id for new in news])
    }
    keyed = {new.id: _insert(store, connection, new) for new in in_order(news) if new.id in single}
    results: list[Added] = []
    for new in news:
        if new.id in single:
            results.append(keyed[new.id])
        elif new.id in missing:
            results.append((store.inserts.conflicts.named(connection, new), "skipped"))
        else:
            results.append((found[new.id], "added"))
    return results


def _insert_many(inserts: Inserts, connection: sa.Connection, news: Sequence[NewTask]) -> int:
    """Store tasks, in one statement where possible, and return how many were left out.

    A task is left out because its name or key is taken.
    """
    if all(new.unique_key is None or new.on_conflict == "skip" for new in news):
        return len(inserts.add_missing(connection, news))
    return sum(
        inserts.add(connection, new)[1] not in ("added", "replaced") for new in in_order(news)
    )


def _inserted(
    store: Store, connection: sa.Connection, news: Sequence[NewTask]
) -> list[Added] | None:
    """Return the result of a transaction that was to store these tasks, if it committed.

    Returns None if none of the tasks it would have stored is there.
    """
    found = {
        record.id: record for record in store.tasks.get_all(connection, [new.id for new in news])
    }
    if not found:
        return None
    others = iter(
        _insert_all(store, connection, [new for new in news if new.id not in found])
    )  # which are skipped again
    return [(found[new.id], "added") if new.id in found else next(others) for new in news]


def _inserted_many(store: Store, connection: sa.Connection, news: Sequence[NewTask]) -> int | None:
    """Return how many tasks were not stored; None as for `_inserted`."""
    return (
        len(news) - len(found)
        if (found := store.tasks.get_all(connection, [new.id for new in news]))
        else None
    )
