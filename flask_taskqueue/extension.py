"""The extension: `TaskQueue`."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from flask import Flask, current_app, has_app_context, has_request_context, request

from . import diagnosis
from .api import schedules
from .api.adding import AddedMany, add_batch, add_many, add_task
from .api.queue import Queue
from .api.schedules import ScheduleEntry
from .api.statistics import statistics
from .api.task_maker import TaskMaker
from .api.tasks import batch_of
from .cli import taskqueue
from .config_files import cron_yaml_schedules, with_queue_yaml
from .core.delivery.signatures import webhook_secret
from .core.diagnosis.why import Why
from .core.dispatchers import DispatcherInfo
from .core.queues.statistics import QueueStatistics
from .core.security.targets import Targets
from .core.settings.app import Settings
from .core.tasks.spec import SpecLike, TaskOptions, TaskSpec
from .core.tasks.task import Batch, Task
from .dashboard import mount
from .declarations import Declarations
from .runtime import Runtime, sessions
from .runtime.binding import Binding
from .web.app_checks import check_application, check_at_first_request
from .web.autostart import arrange_start
from .web.csrf import exempt_workers
from .web.guard import verified
from .web.middleware import install
from .web.monitoring import mount as mount_monitoring
from .web.worker import Worker


class TaskQueue(Declarations):
    """A push task queue for Flask applications.

    ``TaskQueue(app)`` or ``TaskQueue(); tasks.init_app(app)``, with ``db``, a Flask-SQLAlchemy
    extension, to say where the tables are. Without it the application's own Flask-SQLAlchemy is
    used if it was initialised before, otherwise a SQLite file in the instance folder. One
    TaskQueue serves any number of applications.
    """

    def __init__(self, app: Flask | None = None, db: Any = None) -> None:
        self._apps: weakref.WeakKeyDictionary[Flask, Runtime] = weakref.WeakKeyDictionary()
        super().__init__(lambda: self._apps[self._app()], self._apps)
        self._db = db
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, db: Any = None) -> None:
        """Set an application up: settings, tables, worker routes, commands, dispatcher.

        Raises `ConfigurationError` for a ``TASKQUEUE_`` key that is unknown or cannot be used, for
        a queue.yaml or cron.yaml that is malformed, by file and line, for workers that cannot work
        in this application, and for another extension in the place of Flask-SQLAlchemy;
        `UnknownQueueError` for a worker or schedule whose queue is not configured.
        """
        settings = with_queue_yaml(app, Settings.of(app.config))
        of_files = cron_yaml_schedules(app, settings)
        self._schedules.check(settings.queues)
        binding = Binding.of(app, db if db is not None else self._db, settings)
        targets = Targets.of(settings)
        new_task = TaskMaker(app, settings, targets).new_task
        find_schedules = self._schedules.find(new_task, of_files)
        runtime = Runtime(app, settings, targets, binding, new_task, find_schedules)
        self._workers.check(app, runtime)
        app.extensions["taskqueue"] = runtime
        self._apps[app] = runtime
        for session in binding.sessions(app):
            sessions.watch(session)
        self._workers.register(app)
        install(app)
        exempt_workers(app)
        app.cli.add_command(taskqueue)
        mount(app, runtime)
        mount_monitoring(app, runtime)
        arrange_start(app, runtime)
        check_at_first_request(app)

    def add(
        self,
        url: str | Worker[..., Any] | TaskSpec | None = None,
        params: Mapping[str, Any] | None = None,
        *,
        transactional: bool | None = None,
        **options: Unpack[TaskOptions],
    ) -> Task:
        """Store a task: a request that will be sent to ``url`` until it gets a 2xx.

        Once this has returned, or once the transaction it joined has committed, the task is
        attempted at least once, until it succeeds, is dead or is deleted.

        ``url`` is a path of the application, an endpoint name, a worker, or an absolute URL
        where ``TASKQUEUE_TARGETS`` allows it; by default ``/_ah/queue/<queue>``, as App Engine's.
        ``params`` are sent as a form (a list repeats its key), with GET, HEAD and DELETE in the
        query. The other arguments are those of `TaskOptions`. Or ``url`` is a `TaskSpec`, which
        has them all.

        With ``transactional`` None the task is part of the session's transaction if the session
        holds uncommitted changes, and is stored at once otherwise; True and False force either.

        Raises `InvalidTaskError` and its kinds, `UnknownQueueError`, `BadTransactionStateError`,
        `TablesMissingError`, `ConfigurationError` for tables that are another application's, and
        `TransientError` when the database cannot be reached; then nothing was stored. Limits and
        errors are App Engine's.
        """
        spec = url if isinstance(url, TaskSpec) else TaskSpec(url, params, **options)
        return add_task(self._runtime, spec, transactional)

    def add_many(
        self, specs: Iterable[SpecLike], *, transactional: bool | None = None
    ) -> AddedMany:
        """Store any number of tasks, a few hundred to a transaction; how many.

        ``specs`` may be a generator. Each is a `TaskSpec`, a URL, a pair of URL and params, or a
        mapping of arguments. Those whose name or unique_key is taken are skipped. When one is
        malformed this raises: nothing of its own transaction is stored, but what earlier
        transactions stored stays. As part of the session's transaction it takes at most 1,000
        tasks, all or none. No ``task_added`` is sent.
        """
        return add_many(self._runtime, map(TaskSpec.of, specs), transactional)

    def batch(
        self,
        specs: Iterable[SpecLike],
        *,
        on_finish: TaskSpec | None = None,
        on_dead: TaskSpec | None = None,
        transactional: bool | None = None,
    ) -> Batch:
        """Store up to 1,000 tasks, in one transaction, that are counted together.

        ``on_finish`` is added once, when all of them have ended, whatever dies when; ``on_dead``
        once, when the first of them is dead. Within those ``current_task.batch`` has the counts.
        """
        return batch_of(
            add_batch(
                self._runtime,
                [TaskSpec.of(spec) for spec in specs],
                on_finish,
                on_dead,
                transactional,
            )
        )

    def queue(self, name: str) -> Queue:
        """A queue, to look at it and to work on it. Raises `UnknownQueueError`."""
        return Queue(name, self._runtime)

    def queues(self) -> list[Queue]:
        """The queues that are configured."""
        return [self.queue(name) for name in self._runtime.settings.queues]

    def schedules(self) -> list[ScheduleEntry]:
        """The schedules that are declared or have been, by name."""
        return schedules.entries(self._runtime)

    def get_schedule(self, name: str) -> ScheduleEntry:
        """A schedule, to look at it, to pause it or to run it now. Raises
        `UnknownScheduleError`.
        """
        return schedules.entry(self._runtime, name)

    def statistics(self) -> list[QueueStatistics]:
        """The statistics of every queue that has ever been configured, by name."""
        return statistics(self._runtime)

    def dispatchers(self) -> list[DispatcherInfo]:
        """The dispatchers of all processes and hosts that are known, the oldest first; which of
        them are alive.

        One that drains only, as `drain` and ``flask taskqueue run --burst`` do, is not among them.
        """
        store = self._runtime.store
        with store.reading() as connection:
            return list(store.dispatchers.list(connection))

    def why(self, task: Task | str) -> Why:
        """What a task (or the one of that id) waits for, or what became of it, in one sentence.

        Of several causes it is the one that matters first. Raises `UnknownTaskError`.
        """
        return diagnosis.why(self._runtime, task.id if isinstance(task, Task) else task)

    def drain(self) -> int:
        """Attempt in this process what is due, until nothing is; how many attempts ended.

        For tests, scripts and cron: nothing has to run beside it. Where a dispatcher runs,
        both share the work. Not for use inside a transaction.
        """
        check_application(self._app())
        return self._runtime.drain()

    def is_task_request(self) -> bool:
        """Whether the current request is a delivery of this application, proven, not claimed.

        For a login hook: ``if tasks.is_task_request(): return``.
        """
        return has_request_context() and verified(self._app(), request) is not None

    def webhook_secret(self, target: str) -> str:
        """The secret (``whsec_…``) by which another host verifies deliveries, after Standard
        Webhooks.

        ``target`` is the URL that tasks are sent to, or its host and port. Each host and port has a
        secret of its own, so that none can sign for another. Raises `InvalidUrlError`.
        """
        return webhook_secret(self._runtime.keys.webhook, target)

    def _app(self) -> Flask:
        """The current application; outside of any, the only one that was set up."""
        if has_app_context():
            app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
            if app not in self._apps:
                raise RuntimeError(
                    f"this TaskQueue is not set up for application {app.name!r}: call "
                    "tasks.init_app(app)"
                )
            return app
        apps = list(self._apps)
        if len(apps) != 1:
            raise RuntimeError(
                "outside of an application context it must be clear which application is "
                "meant, and this TaskQueue is set up for "
                f"{len(apps)}: use it inside 'with app.app_context():'"
            )
        return apps[0]
