"""Adding tasks: from the arguments of add() to rows."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any

import sqlalchemy as sa
from flask import Flask

from ..core import signals
from ..core.arguments.form import fields
from ..core.clock import duration_micros
from ..core.errors import (
    DuplicateTaskNameError,
    InvalidTaskError,
    InvalidUrlError,
    TooManyTasksError,
    UnknownQueueError,
)
from ..core.humanize import plural
from ..core.ids import task_id
from ..core.names import check_key, check_queue_name, check_task_name
from ..core.settings.queue import QueueSettings
from ..core.tasks.new_task import NewTask, pack
from ..core.tasks.options import (
    check_deadline,
    check_flag,
    check_priority,
    conflict,
    expiry,
    lock,
    resolve_delay,
    retry_json,
)
from ..core.tasks.request import UNSET, build_request, check_method
from ..core.tasks.spec import SpecOptions, TaskSpec
from ..core.tasks.task import Task
from ..core.urls import check_path, is_absolute, no_url
from ..engine.tracing import of_caller, sending, with_trace
from ..runtime import Runtime
from ..store import in_order
from ..web.routes import RouteFinder
from ..web.worker import Route, Worker
from .changes import joins_session, make_change, named
from .inserting import insert, insert_all, insert_many, inserted, inserted_many
from .tasks import TasksOf

logger = logging.getLogger("flask_taskqueue")

MOST_AT_ONCE = 1000
_CHUNK = 500
_NO_ROUTE = Route(rule="", endpoint="")


class Adding:
    """Makes and stores the tasks of one application."""

    def __init__(self, app: Flask, runtime: Runtime) -> None:
        self._runtime = runtime
        self._settings = runtime.settings
        self._routes = RouteFinder(app)
        self._tasks = TasksOf(runtime)

    def add(self, spec: TaskSpec, transactional: bool | None) -> Task:
        """Store a task; in the session's transaction or at once, as the transaction rule says."""
        spec, transactional = spec.split_transactional(transactional)
        with sending(wanted=self._settings.trace_propagation) as describe:
            new = self._traced(spec, self._context())
            describe(new)
            (record, disposition), commitment = make_change(
                self._runtime,
                lambda connection: insert(self._runtime.store, connection, new),
                transactional,
                name=lambda added: [named(added[0])],
                waits=_waits(new),
                done=lambda connection: next(
                    iter(inserted(self._runtime.store, connection, [new]) or ()), None
                ),
            )
        task = Task.of(record, self._tasks, disposition, commitment)
        signals.task_added.send(self._runtime.app, task=task)
        return task

    def add_all(self, specs: Sequence[TaskSpec], transactional: bool | None) -> list[Task]:
        """Store tasks in one transaction, all or, if one is malformed, none; each with what
        became of it.
        """
        if len(specs) > MOST_AT_ONCE:
            raise TooManyTasksError(
                f"{len(specs)} tasks are more than one transaction takes ({MOST_AT_ONCE}); "
                "add_many() takes any number, in several"
            )
        news = self._all_traced(specs)
        if not news:
            return []
        added, commitment = make_change(
            self._runtime,
            lambda connection: insert_all(self._runtime.store, connection, news),
            transactional,
            name=lambda added: [named(record) for record, _ in added],
            waits=any(map(_waits, news)),
            done=lambda connection: inserted(self._runtime.store, connection, news),
        )
        return [
            Task.of(record, self._tasks, disposition, commitment) for record, disposition in added
        ]

    def add_many(self, specs: Iterable[TaskSpec], transactional: bool | None) -> tuple[int, int]:
        """Store any number of tasks, a few hundred to a transaction; how many were added, and
        how many were there already.
        """
        if joins_session(self._runtime, transactional):
            added = self.add_all(list(islice(specs, MOST_AT_ONCE + 1)), True)
            new = sum(task.was_enqueued for task in added)
            return new, len(added) - new
        total = skipped = 0
        store = self._runtime.store
        context = self._context()
        for chunk in self._chunks(specs):
            news = [self._traced(spec, context) for spec in chunk]
            waits = any(map(_waits, news))
            work, done = (
                partial(insert_many, store.inserts, news=news),
                partial(inserted_many, store, news=news),
            )
            missing, _ = make_change(
                self._runtime,
                work,
                False,
                name=partial(_counted, len(news)),
                waits=waits,
                done=done,
            )
            total += len(news) - missing
            skipped += missing
        return total, skipped

    def add_batch(
        self,
        specs: Sequence[TaskSpec],
        on_finish: TaskSpec | None,
        on_dead: TaskSpec | None,
        transactional: bool | None,
    ) -> sa.Row[Any]:
        """Store a batch and its tasks in one transaction; its row."""
        batch_id = task_id()
        if len(specs) > MOST_AT_ONCE:
            raise TooManyTasksError(
                f"{len(specs)} tasks are more than one batch takes ({MOST_AT_ONCE})"
            )
        news = [replace(new, batch_id=batch_id) for new in self._all_traced(specs)]
        if any(new.unique_key is not None for new in news):
            raise InvalidTaskError(
                "tasks of a batch cannot have a unique_key: one that is skipped would never "
                "be counted"
            )
        callbacks = [
            None if spec is None else pack([self.new_task(spec)]) for spec in (on_finish, on_dead)
        ]
        store = self._runtime.store

        def work(connection: sa.Connection) -> sa.Row[Any]:
            store.batches.create(connection, batch_id, len(news), *callbacks)
            for new in in_order(news):
                store.inserts.add(connection, new)
            if not news:
                store.batches.count(connection, {batch_id: {"succeeded": 0}})
            return store.batches.get(connection, batch_id)

        named = [f"batch {batch_id} of {len(news)} tasks"]
        waits = any(map(_waits, news))
        done = partial(store.batches.find, batch_id=batch_id)
        return make_change(
            self._runtime, work, transactional, name=lambda _: named, waits=waits, done=done
        )[0]

    def new_task(self, spec: TaskSpec, *, place: str = "") -> NewTask:
        """The task that a spec asks for. Raises `InvalidTaskError` and its kinds, saying which
        one of a list it is.
        """
        try:
            return self._new_task(spec)
        except InvalidTaskError as error:
            if not place:
                raise
            raise type(error)(f"{place}{error}") from error

    def _context(self) -> Mapping[str, str]:
        """The trace context of whoever asks, if it is wanted."""
        return of_caller() if self._settings.trace_propagation else {}

    def _traced(self, spec: TaskSpec, context: Mapping[str, str], *, place: str = "") -> NewTask:
        """The task that a spec asks for, in the trace of this context."""
        new = self.new_task(spec, place=place)
        if not context:
            return new
        foreign = new.target is not None or is_absolute(new.request.url)
        return replace(new, request=with_trace(new.request, context, foreign=foreign))

    def _all_traced(self, specs: Sequence[TaskSpec]) -> list[NewTask]:
        """The tasks of a list, whose names differ."""
        context = self._context()
        news = [
            self._traced(spec, context, place=f"task {number}: ")
            for number, spec in enumerate(specs)
        ]
        _check_names(news)
        return news

    def _chunks(self, specs: Iterable[TaskSpec]) -> Iterator[list[TaskSpec]]:
        iterator = iter(specs)
        while chunk := list(islice(iterator, _CHUNK)):
            yield chunk

    def _new_task(self, spec: TaskSpec) -> NewTask:
        url, options = spec.url, spec.options
        if options.get("transactional") is not None:
            raise InvalidTaskError(
                "one of several tasks has transactional of its own: give it to the call that "
                "adds them all"
            )
        method = check_method(options.get("method") or _method_of(url))
        path, worker, params = self._resolve(url, spec.params, method, options)
        route = worker.route if worker is not None else _NO_ROUTE
        queue = self._queue(options.get("queue") or route.queue or "default")
        name, unique_key = options.get("name"), options.get("unique_key")
        return NewTask(
            id=task_id(),
            request=build_request(
                path,
                params,
                json=options.get("json", UNSET),
                payload=options.get("payload"),
                method=method,
                headers=options.get("headers"),
                max_body=self._settings.max_body,
            ),
            name=None if name is None else check_task_name(name),
            tombstone_ttl=queue.tombstone_ttl,
            queue=queue.name,
            priority=queue.priority
            if (priority := options.get("priority")) is None
            else check_priority(priority),
            **self._when(options),
            deadline=check_deadline(
                route.deadline if (deadline := options.get("deadline")) is None else deadline
            ),
            retry=retry_json(route.retry if (retry := options.get("retry")) is None else retry),
            target=self._target(options.get("target") or queue.target, path),
            unique_key=None if unique_key is None else check_key("unique_key", unique_key),
            on_conflict=conflict(options),
            **lock(options),
            follow_up=self._follow_up(options),
            keep_result=check_flag("keep_result", options.get("keep_result", False)),
            for_worker=worker is not None,
        )

    def _resolve(
        self,
        url: str | Worker[..., Any] | None,
        params: Mapping[str, Any] | None,
        method: str,
        options: SpecOptions,
    ) -> tuple[str, Worker[..., Any] | None, Mapping[str, Any] | None]:
        """The path or absolute URL, the worker that answers there, and the params it has no
        place for.
        """
        if url is None or url == "":
            url = f"/_ah/queue/{options.get('queue') or 'default'}"
        if params is not None:
            params = fields(params)
        if isinstance(url, Worker):
            path, params = self._routes.build_call(url, {} if params is None else params, method)
            return check_path(path), url, params or None
        if not isinstance(url, str):
            raise no_url(url)
        if is_absolute(url):
            return self._runtime.targets.check(url), None, params
        if not url.startswith("/"):
            path, rest = self._routes.build(url, params or {}, method)
            path = check_path(path)
            return path, self._routes.find(path, method).worker, rest or None
        if options.get("target") is not None:
            return check_path(url), None, params
        place = self._routes.find(check_path(url), method)
        return place.path, place.worker, params

    def _queue(self, name: str) -> QueueSettings:
        if not isinstance(name, str) or name not in self._settings.queues:
            check_queue_name(name)
            known = ", ".join(sorted(self._settings.queues))
            raise UnknownQueueError(f"there is no queue {name!r}; TASKQUEUE_QUEUES has {known}")
        return self._settings.queues[name]

    def _when(self, options: SpecOptions) -> dict[str, Any]:
        """The instant asked for, or the microseconds to wait from when the database stores the
        task; and when it expires.
        """
        limit = timedelta(seconds=self._settings.max_eta)
        eta = options.get("eta")
        delay = resolve_delay(eta, options.get("countdown"), now=datetime.now(UTC), max_eta=limit)
        when: dict[str, Any] = (
            {"eta": eta}
            if eta is not None or delay is None
            else {"delay": duration_micros(delay.total_seconds())}
        )
        return when | expiry(options.get("expires"))

    def _follow_up(self, options: SpecOptions) -> str | None:
        then = options.get("then")
        if then is None:
            return None
        if isinstance(then, str | Mapping) or not isinstance(then, TaskSpec | Iterable):
            raise InvalidTaskError(
                f"then is of type {type(then).__name__}; it must be a TaskSpec, as of "
                "handler.spec(), or a list of them"
            )
        specs = [then] if isinstance(then, TaskSpec) else list(then)
        return pack(
            self.new_task(TaskSpec.of(spec), place=f"then, task {number}: ")
            for number, spec in enumerate(specs)
        )

    def _target(self, target: str | None, path: str) -> str | None:
        if target is None:
            return None
        if not isinstance(target, str):
            raise InvalidUrlError(
                f"target is of type {type(target).__name__}; it must be a base URL, such as "
                "'https://api.example.com'"
            )
        if is_absolute(path):
            raise InvalidTaskError("an absolute URL names its host; leave target out")
        base = target.rstrip("/")
        self._runtime.targets.check(base + path)
        return base


def _method_of(url: str | Worker[..., Any] | None) -> str:
    return url.route.methods[0] if isinstance(url, Worker) else "POST"


def _check_names(news: Sequence[NewTask]) -> None:
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


def _waits(new: NewTask) -> bool:
    """Whether to store a task may wait for another transaction that has stored one: of its name
    or of its keys.
    """
    return new.name is not None or new.unique_key is not None or new.lock_key is not None
