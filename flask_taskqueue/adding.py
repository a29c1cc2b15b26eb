"""Adding tasks: from the arguments of add() to a row."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, has_app_context

from . import sessions
from .core.clock import duration_micros
from .core.config import MAX_DEADLINE
from .core.durations import seconds
from .core.errors import (
    BadTransactionStateError,
    ConfigurationError,
    InvalidDeadlineError,
    InvalidTaskError,
    InvalidUrlError,
    UnknownQueueError,
)
from .core.eta import resolve_delay
from .core.fairness import PRIORITIES
from .core.ids import task_id
from .core.names import check_queue_name, check_task_name
from .core.new_task import NewTask
from .core.payload import UNSET, build_request
from .core.record import Record
from .core.retry import RetryOptions
from .core.urls import check_absolute, check_path, is_absolute
from .runtime import Runtime
from .web.routes import RouteFinder
from .web.worker import Route, Worker

logger = logging.getLogger("flask_taskqueue")

_NO_ROUTE = Route(rule="", endpoint="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The arguments of add() beside URL and params, as they were given."""

    json: Any = UNSET
    payload: str | bytes | None = None
    method: str | None = None
    headers: Mapping[str, str] | None = None
    name: str | None = None
    queue: str | None = None
    eta: datetime | None = None
    countdown: float | str | timedelta | None = None
    deadline: float | str | timedelta | None = None
    retry: RetryOptions | Mapping[str, Any] | None = None
    priority: int = 0
    target: str | None = None
    transactional: bool | None = None


class Adding:
    """Makes and stores the tasks of one application."""

    def __init__(self, app: Flask, runtime: Runtime) -> None:
        self._runtime = runtime
        self._settings = runtime.settings
        self._routes = RouteFinder(app)

    def add(self, url: str | Worker[..., Any] | None, params: Mapping[str, Any] | None, options: Options) -> Record:
        """Store a task; in the session's transaction or at once, as the transaction rule says."""
        new = self._new_task(url, params, options)
        if self._joins_session(options.transactional):
            return self._add_to_session(new)
        store = self._runtime.store
        store.ensure_queues()
        record = store.transact(lambda connection: store.tasks.add(connection, new))
        self._runtime.wake()
        return record

    def _new_task(self, url: str | Worker[..., Any] | None, params: Mapping[str, Any] | None, options: Options) -> NewTask:
        method = (options.method or _method_of(url)).upper()
        path, worker, params = self._resolve(url, params, method, options)
        route = worker.route if worker is not None else _NO_ROUTE
        queue = self._queue(options.queue or route.queue or "default")
        eta, delay = self._when(options)
        retry = options.retry if options.retry is not None else route.retry
        return NewTask(
            id=task_id(),
            request=build_request(
                path,
                params,
                json=options.json,
                payload=options.payload,
                method=method,
                headers=options.headers,
                max_body=self._settings.max_body,
            ),
            name=None if options.name is None else check_task_name(options.name),
            queue=queue,
            priority=_priority(options.priority),
            eta=eta,
            delay=delay,
            deadline=_deadline(options.deadline if options.deadline is not None else route.deadline),
            retry=None if retry is None else _retry_json(retry),
            target=self._target(options.target or self._settings.queues[queue].target, path),
        )

    def _resolve(
        self, url: str | Worker[..., Any] | None, params: Mapping[str, Any] | None, method: str, options: Options
    ) -> tuple[str, Worker[..., Any] | None, Mapping[str, Any] | None]:
        """The path or absolute URL, the worker that answers there, and the params it has no place for."""
        if url is None or url == "":
            url = f"/_ah/queue/{options.queue or 'default'}"
        if isinstance(url, Worker):
            path, params = self._routes.build(self._routes.endpoint_of(url), dict(params or {}), method)
            return path, url, params or None
        if not isinstance(url, str):
            raise InvalidUrlError(f"the url is {url!r}; it must be a path, an absolute URL, an endpoint name or a worker")
        if is_absolute(url):
            return check_absolute(url, self._settings.allowed_hosts), None, params
        if not url.startswith("/"):
            path, rest = self._routes.build(url, dict(params or {}), method)
            return path, self._routes.find(path, method).worker, rest or None
        if options.target is not None:
            return check_path(url), None, params
        place = self._routes.find(check_path(url), method)
        return place.path, place.worker, params

    def _queue(self, name: str) -> str:
        if name not in self._settings.queues:
            check_queue_name(name)
            known = ", ".join(sorted(self._settings.queues))
            raise UnknownQueueError(f"there is no queue {name!r}; TASKQUEUE_QUEUES has {known}")
        return name

    def _when(self, options: Options) -> tuple[datetime | None, int]:
        """The instant asked for, or the microseconds to wait from when the database stores the task."""
        limit = timedelta(seconds=self._settings.max_eta)
        delay = resolve_delay(options.eta, options.countdown, now=datetime.now(UTC), max_eta=limit)
        if options.eta is not None or delay is None:
            return options.eta, 0
        return None, duration_micros(delay.total_seconds())

    def _target(self, target: str | None, path: str) -> str | None:
        if target is None:
            return None
        if is_absolute(path):
            raise InvalidTaskError("an absolute URL names its host; leave target out")
        base = target.rstrip("/")
        hosts = (*self._settings.allowed_hosts, *(urlsplit(one.target).netloc for one in self._settings.queues.values() if one.target))
        check_absolute(base + path, hosts)
        return base

    def _joins_session(self, transactional: bool | None) -> bool:
        binding = self._runtime.binding
        if binding.db is None or not has_app_context():
            if transactional:
                raise BadTransactionStateError(
                    "transactional=True needs Flask-SQLAlchemy, an application context, and the queue's tables in the session's database"
                )
            return False
        return sessions.has_changes(binding.session()) if transactional is None else transactional

    def _add_to_session(self, new: NewTask) -> Record:
        binding, store = self._runtime.binding, self._runtime.store
        store.database.open()
        connection = binding.session_connection()
        store.ensure_queues(connection)
        record = store.tasks.add(connection, new)
        session = binding.session()
        sessions.mark_changed(session)
        sessions.after_commit(session, self._runtime.wake)
        return record


def _method_of(url: str | Worker[..., Any] | None) -> str:
    return url.route.methods[0] if isinstance(url, Worker) else "POST"


def _priority(priority: int) -> int:
    if isinstance(priority, bool) or not isinstance(priority, int) or priority not in PRIORITIES:
        raise InvalidTaskError(f"priority is {priority!r}; it must be a whole number from {PRIORITIES[0]} to {PRIORITIES[-1]}")
    return priority


def _deadline(deadline: float | str | timedelta | None) -> float | None:
    if deadline is None:
        return None
    try:
        number = seconds(deadline, what="deadline")
    except ConfigurationError as error:
        raise InvalidDeadlineError(str(error)) from error
    if not 0 < number <= MAX_DEADLINE:
        raise InvalidDeadlineError(f"deadline is {deadline!r}; it must be more than 0 seconds and at most 24 hours")
    return number


def _retry_json(retry: RetryOptions | Mapping[str, Any]) -> str:
    options = RetryOptions.of(retry)
    return "{}" if options is None else options.to_json()
