"""Adding App Engine's tasks to a queue: one alone, or as many of a list as can be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from ..api.adding import add_new, add_news
from ..api.changes import joins_session
from ..core.delivery.surface import Surface
from ..core.names import check_queue_name
from ..core.tasks.request import PULL, TaskRequest, check_headers, check_size
from ..core.tasks.spec import NewTask, SpecOptions
from ..core.tasks.task import Task as StoredTask
from ..runtime import Runtime
from . import limits
from .contents import Headers, pairs
from .current import current_runtime
from .described_task import DescribedTask
from .errors import (
    BadTaskStateError,
    DuplicateTaskNameError,
    InvalidTagError,
    InvalidTaskError,
    InvalidTaskNameError,
    TaskAlreadyExistsError,
    TombstonedTaskError,
    TooManyTasksError,
    TransactionalRequestTooLargeError,
    translated,
)
from .rpc import UserRPC

_SURFACE = Surface(api="appengine").to_json()
_SET_BY_TRANSPORT = frozenset({"content-length"})


def several(task: Any) -> tuple[list[Any], bool]:
    """Return tasks as a list, and whether they were given as several."""
    return (list(task), True) if isinstance(task, Iterable) else ([task], False)


def add_async(
    queue_name: str, task: Any, transactional: bool = False, rpc: UserRPC | None = None
) -> UserRPC:
    """Add a task, or up to 100, to a queue; see `Queue.add_async`."""
    tasks, multiple = several(task)
    with translated():
        name = check_queue_name(queue_name)
    _check(tasks, transactional)
    work = partial(_store, name, tasks, multiple, transactional)
    return (rpc or UserRPC()).make(work)


def _check(tasks: Sequence[DescribedTask], transactional: bool) -> None:
    """Check what needs no queue, in App Engine's order."""
    if len({task.method == "PULL" for task in tasks}) > 1:
        raise InvalidTaskError("one call adds tasks to be sent or tasks to be pulled, not both")
    if len(tasks) > limits.MAX_TASKS_PER_ADD:
        raise TooManyTasksError(
            f"{len(tasks)} tasks are more than one call adds ({limits.MAX_TASKS_PER_ADD})"
        )
    seen: set[str] = set()
    for task in tasks:
        if task.name and task.name in seen:
            raise DuplicateTaskNameError(f"two tasks are named {task.name!r}")
        seen.add(task.name or "")
        if task.was_enqueued:
            raise BadTaskStateError(f"the task is in queue {task.queue_name!r} already")
    if not transactional:
        return
    with translated():
        joins_session(current_runtime(), True)
    size = sum(task.size for task in tasks)
    if size > limits.MAX_TRANSACTIONAL_REQUEST_SIZE_BYTES:
        raise TransactionalRequestTooLargeError(
            f"the tasks of a transactional call have {size} bytes together; they may have "
            f"{limits.MAX_TRANSACTIONAL_REQUEST_SIZE_BYTES}"
        )


def _store(
    queue: str, tasks: Sequence[DescribedTask], multiple: bool, transactional: bool
) -> Callable[[], Any]:
    """Store tasks, and return the function that tells them so and returns them.

    A task that cannot be stored at all keeps all others from being stored. One whose name is taken
    does not; the function then raises an error for it.
    """
    runtime = current_runtime()
    joins = True if transactional else None
    with translated():
        makers = [partial(_new_task, runtime, queue, task) for task in tasks]
        if len(tasks) == 1:
            stored = [add_new(runtime, makers[0], joins)]
        else:
            stored = add_news(runtime, [make() for make in makers], joins)

    def tell() -> Any:
        refused = None
        for task, found in zip(tasks, stored, strict=True):
            if found.was_enqueued:
                task.mark_enqueued(queue, found.name or found.id)
            else:
                refused = _taken(found)
        if refused is not None:
            raise refused
        return tasks if multiple else tasks[0]

    return tell


def _taken(found: StoredTask) -> InvalidTaskNameError | InvalidTaskError:
    """Return the error for a name that a stored task has."""
    if found.state.is_finished:
        return TombstonedTaskError(
            f"queue {found.queue!r} had a task named {found.name!r}, which has ended"
        )
    return TaskAlreadyExistsError(f"queue {found.queue!r} has a task named {found.name!r} already")


def _new_task(runtime: Runtime, queue: str, task: DescribedTask) -> NewTask:
    url = f"/_ah/queue/{queue}{task.url}" if task.on_queue_url else task.url
    pulled = task.method == PULL
    options: SpecOptions = {"queue": queue, **task.due()}
    if task.name:
        options["name"] = task.name
    if task.given_target is not None:
        options["target"] = (
            "default" if task.given_target is limits.DEFAULT_APP_VERSION else task.given_target
        )
    if task.retry_options is not None and not pulled:  # whose SDK sends none, either
        options["retry"] = task.retry_options.to_options()
    if task.dispatch_deadline_usec is not None:
        options["deadline"] = task.dispatch_deadline_usec / 1_000_000
    body = task.payload or b""
    request = TaskRequest(
        task.method,
        url,
        {} if pulled else _headers(task.headers, with_body=bool(body)),
        body.encode() if isinstance(body, str) else body,
    )
    new = runtime.new_task_of(request, options, _SURFACE)
    if pulled:
        return replace(new, tag=as_tag(task.tag))
    if task.make_body is None:
        return new
    request = replace(new.request, body=task.make_body(new.id))
    check_size(request, runtime.settings.max_body)
    return replace(new, request=request)


def as_tag(given: str | bytes | None) -> str | None:
    """Return a tag as it is stored; an empty one is none. Raises `InvalidTagError`."""
    try:
        return (given.decode() if isinstance(given, bytes) else given) or None
    except UnicodeDecodeError as error:
        raise InvalidTagError(f"the tag {given!r} is no UTF-8") from error


def _headers(given: Headers, *, with_body: bool) -> dict[str, str]:
    """Return the headers as they are sent; several values of one are sent as a list."""
    values: dict[str, list[str]] = {}
    for name, value in pairs(given):
        if name.decode().lower() not in _SET_BY_TRANSPORT:
            values.setdefault(name.decode(), []).append(value.decode("latin-1"))
    if with_body and "Content-Type" not in given:
        values["Content-Type"] = ["application/octet-stream"]
    return check_headers({name: ", ".join(several) for name, several in values.items()})
