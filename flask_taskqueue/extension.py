"""The Flask extension, `TaskQueue`."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from flask import Flask, has_request_context, request

from . import diagnosis
from .api import schedules
from .api.adding import AddedMany, add_many, add_task
from .api.batches import add_batch
from .api.declared_schedules import DeclaredSchedule
from .api.run_time_queues import RunTimeQueues
from .api.schedules import ScheduleEntry
from .api.statistics import statistics
from .api.task_maker import TaskMaker
from .api.tasks import batch_of
from .cli import taskqueue
from .cloudtasks import check_installed
from .config_files import cron_yaml_schedules, with_queue_yaml
from .core.diagnosis.why import Why
from .core.dispatchers import DispatcherInfo
from .core.queues.statistics import QueueStatistics
from .core.schedules.schedule import Misfire, Overlap
from .core.security.targets import Targets
from .core.settings.app import Settings
from .core.tasks.spec import ScheduleOptions, SpecLike, TaskOptions, TaskSpec
from .core.tasks.task import Batch, Task
from .dashboard import mount
from .declarations import Declarations, scheduled_spec
from .runtime import Runtime, sessions
from .runtime.binding import Binding
from .runtime.contexts import chosen_app
from .store import note_transactions
from .web.guard import verified
from .web.middleware import install
from .web.monitoring.mounting import mount as mount_monitoring
from .web.other_extensions import let_deliveries_pass
from .web.progress import mount as mount_progress
from .web.progress import progress_url
from .web.starting.app_checks import (
    check_application,
    check_at_first_request,
    check_kind,
)
from .web.starting.autostart import arrange_start
from .web.worker import Worker


class TaskQueue(Declarations, RunTimeQueues):
    """A push task queue for Flask applications.

    Set it up with ``TaskQueue(app)``, or with ``TaskQueue()`` and later ``tasks.init_app(app)``.
    Pass ``db``, a Flask-SQLAlchemy extension, to say which database holds the tables. Without it,
    the app's own Flask-SQLAlchemy is used if it was initialised first, and otherwise a SQLite file
    in the instance folder. One TaskQueue can serve any number of apps.
    """

    def __init__(self, app: Flask | None = None, db: Any = None) -> None:
        self._apps: weakref.WeakKeyDictionary[Flask, Runtime] = weakref.WeakKeyDictionary()
        super().__init__(lambda: self._apps[self._app()], self._apps)
        self._db = db
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, db: Any = None) -> None:
        """Set up an application: settings, tables, worker routes, commands and dispatcher.

        Raises `ConfigurationError` for a ``TASKQUEUE_`` key that is unknown or has an unusable
        value, for an app that is not Flask's or has a `TaskQueue` already, for a malformed
        queue.yaml or cron.yaml (naming file and line), for workers that cannot work in this app,
        and if another extension is registered in place of Flask-SQLAlchemy. Raises
        `UnknownQueueError` for a worker or schedule whose queue is not configured.
        """
        check_kind(app)
        settings = with_queue_yaml(app, Settings.of(app.config))
        for queue in settings.queues.values():
            if queue.engine is not None:
                check_installed(f"the engine of queue {queue.name!r}")
        of_files = cron_yaml_schedules(app, settings)
        self._schedules.check(settings.queues)
        binding = Binding.of(app, db if db is not None else self._db, settings)
        targets = Targets.of(settings)
        maker = TaskMaker(app, settings, targets)
        find_schedules = self._schedules.of_app(maker.new_task, of_files)
        runtime = Runtime(app, settings, targets, binding, maker, find_schedules)
        self._workers.check(app, runtime)
        app.extensions["taskqueue"] = runtime
        self._apps[app] = runtime
        for session in binding.sessions(app):
            sessions.watch(session)
        for engine in binding.app_engines(app):
            note_transactions(engine)
        self._workers.register(app)
        install(app)
        let_deliveries_pass(app)
        app.cli.add_command(taskqueue)
        mount(app, runtime)
        mount_monitoring(app, runtime)
        mount_progress(app, runtime)
        _mount_if_wanted(app, runtime)
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
        """Store a task: a request that is sent to ``url`` until it receives a 2xx response.

        Once this has returned, or once the transaction that the task joined has committed, the task
        is attempted at least once, and again until it succeeds, is dead or is deleted.

        ``url`` is a path of the app, an endpoint name, a worker, or an absolute URL that
        ``TASKQUEUE_TARGETS`` allows. It defaults to ``/_ah/queue/<queue>``, as in App Engine.
        ``params`` are sent as a form (a list repeats its key), or in the query for GET, HEAD and
        DELETE. The other arguments are those of `TaskOptions`. Instead of all these, ``url`` can be
        a `TaskSpec`, which holds them.

        With ``transactional=None`` the task joins the session's transaction if the session holds
        uncommitted changes, and is stored at once otherwise; True and False force one or the other.

        Raises `InvalidTaskError` and its subclasses, `UnknownQueueError`,
        `BadTransactionStateError`, `TablesMissingError`, `ConfigurationError` if the tables belong
        to another application, and `TransientError` if the database cannot be reached. In each case
        nothing was stored. Limits and errors are those of App Engine.
        """
        spec = url if isinstance(url, TaskSpec) else TaskSpec(url, params, **options)
        return add_task(self._runtime, spec, transactional)

    def add_many(
        self, specs: Iterable[SpecLike], *, transactional: bool | None = None
    ) -> AddedMany:
        """Store any number of tasks, a few hundred per transaction, and return how many.

        ``specs`` may be a generator. Each item is a `TaskSpec`, a URL, a pair of URL and params, or
        a mapping of arguments. Tasks whose name or unique_key is taken are skipped. A malformed
        item raises an error: nothing of its own transaction is stored, but what earlier
        transactions stored stays. As part of the session's transaction, at most 1,000 tasks are
        accepted, and either all or none are stored. No ``task_added`` signal is sent.
        """
        return add_many(self._runtime, TaskSpec.each(specs), transactional)

    def batch(
        self,
        specs: Iterable[SpecLike],
        *,
        on_finish: SpecLike | None = None,
        on_dead: SpecLike | None = None,
        transactional: bool | None = None,
    ) -> Batch:
        """Store up to 1,000 tasks in one transaction and count them together.

        ``on_finish`` is added exactly once, when all of the tasks have ended, even if processes
        crash meanwhile. ``on_dead`` is added once, when the first of them is dead. In these
        callbacks ``tasks.get_batch(current_task.batch_id)`` gives the counts.
        """
        return batch_of(
            add_batch(
                self._runtime,
                list(TaskSpec.each(specs)),
                on_finish,
                on_dead,
                transactional,
            )
        )

    def schedules(self) -> list[ScheduleEntry]:
        """Return the schedules that were added, and that are or once were declared, by name."""
        return schedules.entries(self._runtime)

    def get_schedule(self, name: str) -> ScheduleEntry:
        """Return a schedule, to inspect it, pause it, run it now, change or delete it.

        Raises `UnknownScheduleError`.
        """
        return schedules.entry(self._runtime, name)

    def add_schedule(
        self,
        name: str,
        url: Any,
        schedule: str,
        params: Mapping[str, Any] | None = None,
        *,
        timezone: str = "UTC",
        misfire: Misfire = "run_once",
        overlap: Overlap = "skip",
        description: str | None = None,
        transactional: bool | None = None,
        **options: Unpack[ScheduleOptions],
    ) -> None:
        """Add a schedule while the app runs, which every dispatcher fires until it is deleted.

        The arguments are those of `schedule`, which declares one in code; ``transactional`` is that
        of `add`. Dispatchers know of it within five seconds. Change or delete it by `get_schedule`.
        Raises what `schedule` and `add` raise, and `InvalidScheduleError` for a name that another
        schedule has.
        """
        declared = DeclaredSchedule.of(
            name,
            scheduled_spec(url, params, options),
            schedule,
            timezone,
            misfire=misfire,
            overlap=overlap,
            description=description,
        )
        schedules.add(self._runtime, declared, transactional)

    def statistics(self) -> list[QueueStatistics]:
        """Return the statistics of every queue that was ever configured, sorted by name."""
        return statistics(self._runtime)

    def dispatchers(self) -> list[DispatcherInfo]:
        """Return the known dispatchers of all processes and hosts, oldest first.

        Each says whether it is alive. Processes that only drain, as `drain` and ``flask taskqueue
        run --burst`` do, are included while they run.
        """
        store = self._runtime.store
        return store.read(lambda connection: list(store.dispatchers.list(connection)))

    def why(self, task: Task | str) -> Why:
        """Return what a task waits for, or what became of it, in one sentence.

        ``task`` is a task or its id. If there are several causes, the one that matters first is
        given. Raises `UnknownTaskError`.
        """
        return diagnosis.why(self._runtime, task.id if isinstance(task, Task) else task)

    def progress_url(self, task: Task | str) -> str:
        """Return the URL at which a page can ask how far a task has come.

        It needs ``TASKQUEUE_PROGRESS`` and a request or ``SERVER_NAME``. Its token is signed for
        this one task, so give it only to those who may see the progress; they see what
        `Task.report` returns. ``task`` is a task or its id. Raises `ConfigurationError` if the
        route is closed, or if the app has no secret.
        """
        return progress_url(self._runtime, task.id if isinstance(task, Task) else task)

    def drain(self) -> int:
        """Attempt due tasks in this process until none is left, and return how many attempts ended.

        This is for tests, scripts and cron, because nothing else has to run. If a dispatcher runs
        as well, the two share the work. Do not use it inside a transaction.
        """
        check_application(self._app())
        return self._runtime.drain()

    def is_task_request(self) -> bool:
        """Return whether the current request is a genuine delivery of this application.

        The request has to prove it; a claim is not enough. Use this in a login hook: ``if
        tasks.is_task_request(): return``.
        """
        return has_request_context() and verified(self._app(), request) is not None

    def cloud_tasks_channel(self) -> Any:
        """Return a gRPC channel through which Google's Cloud Tasks client uses this queue.

        Give it to the client as ``CloudTasksGrpcTransport(channel=tasks.cloud_tasks_channel())``.
        Calls are answered in process, by the current app. What they change, such as the task that
        ``create_task`` adds, is part of the session's transaction if the session holds changes.
        Raises `ConfigurationError` unless google-cloud-tasks is installed.
        """
        check_installed("tasks.cloud_tasks_channel()")
        from .cloudtasks.channel import InProcessChannel

        return InProcessChannel(lambda: self._runtime)

    def _app(self) -> Flask:
        return chosen_app(self._apps)


def _mount_if_wanted(app: Flask, runtime: Runtime) -> None:
    """Register the routes that few apps want; their modules are imported only where one does."""
    settings = runtime.settings
    if settings.api or settings.oidc_key:
        from .cloudtasks.mounting import mount as mount_api

        mount_api(app, runtime)
    if settings.deferred is not None or "flask_taskqueue.appengine.deferred" in sys.modules:
        from .appengine.deferred_route import mount as mount_deferred

        mount_deferred(app, runtime)
