"""The extension: `TaskQueue`."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, ParamSpec, TypeVar

from flask import Blueprint, Flask, current_app, has_app_context, has_request_context, request

from . import sessions
from .adding import Adding, Options
from .binding import Binding
from .cli import taskqueue
from .core import signals
from .core.config import Settings
from .core.errors import WaitTimeoutError
from .core.payload import UNSET
from .core.record import Record
from .core.retry import RetryOptions
from .core.signatures import whsec
from .core.states import State
from .core.task import Task
from .logs import log_attempts
from .runtime import Runtime
from .store import Filter
from .web.csrf import exempt_workers
from .web.guard import verified
from .web.serving import arrange_start
from .web.worker import Route, Worker
from .workers import Workers

P = ParamSpec("P")
R = TypeVar("R")

_LONGEST_NAP = 0.25


class TaskQueue:
    """A push task queue for Flask applications.

    ``TaskQueue(app)`` or ``TaskQueue(); tasks.init_app(app)``, with ``db``, a Flask-SQLAlchemy
    extension, to say where the tables are. Without it the application's own Flask-SQLAlchemy is
    used if it was initialised before, otherwise a SQLite file in the instance folder. One
    TaskQueue serves any number of applications.
    """

    def __init__(self, app: Flask | None = None, db: Any = None) -> None:
        self._db = db
        self._workers = Workers()
        self._apps: weakref.WeakKeyDictionary[Flask, Adding] = weakref.WeakKeyDictionary()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, db: Any = None) -> None:
        """Set an application up: settings, tables, worker routes, commands, dispatcher.

        Raises `ConfigurationError` for a ``TASKQUEUE_`` key that is unknown or cannot be used.
        """
        settings = Settings.of(app.config)
        binding = Binding.of(app, db if db is not None else self._db, settings)
        runtime = Runtime(app, settings, binding)
        app.extensions["taskqueue"] = runtime
        self._apps[app] = Adding(app, runtime)
        if binding.db is not None:
            sessions.watch(binding.db.session)
        self._workers.register(app)
        exempt_workers(app)
        log_attempts(app)
        app.cli.add_command(taskqueue)
        arrange_start(app, runtime)

    def worker(
        self,
        rule: str,
        *,
        queue: str | None = None,
        deadline: float | timedelta | None = None,
        retry: RetryOptions | Mapping[str, Any] | None = None,
        methods: tuple[str, ...] = ("POST",),
        transactional: bool = False,
        blueprint: Blueprint | None = None,
        endpoint: str | None = None,
    ) -> Callable[[Callable[P, R]], Worker[P, R]]:
        """Mark a function as the handler that answers at ``rule``.

        It runs as an ordinary view, in a real request, but only for deliveries of this
        application; anybody else gets a 403. Its named parameters are filled from the task's
        params or JSON object and converted by their annotations; one that is missing or does not
        fit makes the task dead, with a reason that names it. None is answered as 204.

        ``queue``, ``deadline`` (seconds) and ``retry`` are what its tasks have unless add() says
        otherwise. With ``transactional`` the handler's changes in ``db.session`` and the task's
        completion commit together, once; it must not commit itself. ``blueprint`` puts the route
        on a blueprint of yours, which is then registered as usual.
        """

        def decorate(function: Callable[P, R]) -> Worker[P, R]:
            route = Route(
                rule=rule,
                endpoint=endpoint or str(getattr(function, "__name__", "worker")),
                methods=tuple(method.upper() for method in methods),
                queue=queue,
                deadline=deadline,
                retry=RetryOptions.of(retry),
                transactional=transactional,
            )
            worker = Worker(function, route, self, self._add_for_worker)
            self._workers.add(worker, blueprint, list(self._apps))
            return worker

        return decorate

    def add(
        self,
        url: str | Worker[..., Any] | None = None,
        params: Mapping[str, Any] | None = None,
        *,
        json: Any = UNSET,
        payload: str | bytes | None = None,
        method: str | None = None,
        headers: Mapping[str, str] | None = None,
        name: str | None = None,
        queue: str | None = None,
        eta: datetime | None = None,
        countdown: float | str | timedelta | None = None,
        deadline: float | str | timedelta | None = None,
        retry: RetryOptions | Mapping[str, Any] | None = None,
        priority: int = 0,
        target: str | None = None,
        transactional: bool | None = None,
    ) -> Task:
        """Store a task: a request that will be sent to ``url`` until it gets a 2xx.

        Once this has returned, or once the transaction it joined has committed, the task is
        attempted at least once, until it succeeds, is dead or is deleted.

        ``url`` is a path of the application, an endpoint name, a worker, or an absolute URL on
        one of ``TASKQUEUE_ALLOWED_HOSTS``; by default ``/_ah/queue/<queue>``, as App Engine's.
        ``params`` are sent as a form (a list repeats its key), with GET, HEAD and DELETE in the
        query; ``json`` or ``payload`` (text or bytes) are sent as the body instead. ``method`` is
        POST unless given. ``eta`` is an aware datetime, ``countdown`` seconds from now: the task
        does not run before. ``deadline`` is what one attempt may take, in seconds. ``priority``
        is from -9 to 9, the higher the sooner, one step being worth a minute of waiting.
        ``target`` is another base URL to send a path to. A ``name`` is unique in its queue for as
        long as the task is kept.

        With ``transactional`` None the task is part of the session's transaction if the session
        holds uncommitted changes, and is stored at once otherwise; True and False force either.

        Raises `InvalidTaskError` and its kinds, `UnknownQueueError`, `BadTransactionStateError`,
        `TablesMissingError`, and `TransientError` when the database cannot be reached; then
        nothing was stored. Limits and errors are App Engine's.
        """
        options = Options(
            json=json,
            payload=payload,
            method=method,
            headers=headers,
            name=name,
            queue=queue,
            eta=eta,
            countdown=countdown,
            deadline=deadline,
            retry=retry,
            priority=priority,
            target=target,
            transactional=transactional,
        )
        app = self._app()
        task = self._task(self._apps[app].add(url, params, options))
        signals.task_added.send(app, task=task)
        return task

    def get(self, task_id: str) -> Task:
        """The task of that id, as it is now. Raises `UnknownTaskError`."""
        store = self._runtime.store
        with store.reading() as connection:
            return self._task(store.tasks.get(connection, task_id))

    def find(
        self,
        *,
        state: State | str | None = None,
        queue: str | None = None,
        url: str | None = None,
        name: str | None = None,
        limit: int = 100,
        before: Task | str | None = None,
    ) -> list[Task]:
        """The newest tasks that match every argument given, newest first, at most ``limit``.

        ``before`` is a task or its id: only older ones are found, so that pages can follow.
        """
        wanted = Filter(
            state=None if state is None else State(state),
            queue=queue,
            url=url,
            name=name,
            before=before.id if isinstance(before, Task) else before,
        )
        store = self._runtime.store
        with store.reading() as connection:
            return [self._task(record) for record in store.tasks.find(connection, wanted, limit)]

    def wait(self, task_id: str, timeout: float | None = None) -> Task:
        """Block until a task has ended; see `Task.wait`."""
        limit = None if timeout is None else time.monotonic() + timeout
        nap = 0.005
        while not (task := self.get(task_id)).state.is_finished:
            if limit is not None and time.monotonic() >= limit:
                raise WaitTimeoutError(f"task {task_id} is still {task.state} after {timeout:g} s")
            time.sleep(nap)
            nap = min(nap * 1.5, _LONGEST_NAP)
        return task

    def requeue(self, task_id: str) -> Task:
        """Schedule a dead task again; see `Task.requeue`."""
        store = self._runtime.store
        store.transact(lambda connection: store.tasks.requeue(connection, task_id))
        self._runtime.wake()
        return self.get(task_id)

    def run_now(self, task_id: str) -> Task:
        """Make a scheduled task due; see `Task.run_now`."""
        store = self._runtime.store
        store.transact(lambda connection: store.tasks.run_now(connection, task_id))
        self._runtime.wake()
        return self.get(task_id)

    def delete(self, task_id: str) -> bool:
        """Cancel a task; see `Task.delete`."""
        store = self._runtime.store
        return store.transact(lambda connection: store.tasks.delete(connection, task_id))

    def drain(self) -> int:
        """Attempt in this process what is due, until nothing is; how many attempts ended.

        For tests, scripts and cron: nothing has to run beside it. Where a dispatcher runs,
        both share the work. Not for use inside a transaction.
        """
        return self._runtime.drain()

    def is_task_request(self) -> bool:
        """Whether the current request is a delivery of this application, proven, not claimed.

        For a login hook: ``if tasks.is_task_request(): return``.
        """
        return has_request_context() and verified(self._app(), request) is not None

    def webhook_secret(self) -> str:
        """The secret (``whsec_…``) by which other hosts verify deliveries, after Standard Webhooks."""
        return whsec(self._runtime.keys.webhook[0])

    @property
    def _runtime(self) -> Runtime:
        runtime: Runtime = self._app().extensions["taskqueue"]
        return runtime

    def _app(self) -> Flask:
        """The current application; outside of any, the only one that was set up."""
        if has_app_context():
            app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
            if app not in self._apps:
                raise RuntimeError(f"this TaskQueue is not set up for application {app.name!r}: call tasks.init_app(app)")
            return app
        apps = list(self._apps)
        if len(apps) != 1:
            raise RuntimeError(
                "outside of an application context it must be clear which application is meant, and this TaskQueue is set up for "
                f"{len(apps)}: use it inside 'with app.app_context():'"
            )
        return apps[0]

    def _task(self, record: Record) -> Task:
        return Task.of(record, self)

    def _add_for_worker(self, worker: Worker[..., Any], params: Mapping[str, Any], **options: Any) -> Task:
        if worker.route.methods[0] in {"POST", "PUT", "PATCH"} and "json" in options:
            raise TypeError("a worker's own parameters are its body; json cannot be given as well")
        return self.add(worker, params or None, **options)
