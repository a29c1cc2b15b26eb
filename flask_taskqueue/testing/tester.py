"""The tester: an app's task queue, controlled by a test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, Unpack

from flask import Flask

from ..api.adding import add_task
from ..core.errors import BadTaskStateError, BadTransactionStateError, ConfigurationError
from ..core.settings import checks
from ..core.states import State
from ..core.tasks.spec import TaskOptions, TaskSpec
from ..core.times import LONGEST, duration_micros, to_datetime
from ..runtime import Runtime
from ..store import DatabaseForTests
from .attempts import Attempt, Run, endless, reply_maker
from .inspector import Inspector
from .manual_dispatcher import ManualDispatcher
from .script import Scene, Script

MAX_TASKS = 1000


class TaskQueueTester(Inspector):
    """An app's task queue under test: tasks are stored, and run when and where the test says.

    ``with TaskQueueTester(app) as taskqueue:`` empties the queue and gives it its own clock, which
    `advance` moves forward. Deliveries are real requests to the app, with its hooks, in the test's
    own thread. Deadlines are not enforced; `respond` simulates them. Raises `ConfigurationError`
    unless ``app.testing``.
    """

    def __init__(self, app: Flask) -> None:
        runtime: Runtime | None = app.extensions.get("taskqueue")
        if runtime is None or not app.testing:
            raise ConfigurationError(
                "the test kit empties the queue, so it needs an app with TESTING = True and a "
                "TaskQueue"
            )
        super().__init__(app, runtime)
        self._script = Script(app)
        self._immediately = self._running = False

    def __enter__(self) -> Self:
        if self._runtime.scheduler is not None:
            raise ConfigurationError(
                "a dispatcher runs in this process: do not set TASKQUEUE_DISPATCHER in tests"
            )
        runtime = self._runtime
        if runtime.is_substituted:
            raise ConfigurationError(
                "the queue of this app is under test already, by the fixture taskqueue, a mixin or "
                "another TaskQueueTester: use that one"
            )
        parts = runtime.binding.parts(self.app, runtime.settings)
        self._database = DatabaseForTests(**parts, isolated=runtime.binding.isolation(self.app))
        runtime.substitute(self._database, self._woken)
        self._dispatcher = ManualDispatcher(runtime, self._database, self._script)
        self._database.clear()
        runtime.store.ensure_queues()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._give_up()
            self._database.clear()
        finally:
            self._dispatcher.close()
            self._runtime.substitute()

    @property
    def now(self) -> datetime:
        """The time of the queue's clock."""
        return to_datetime(self._database.now())

    def run(self, task: Any) -> Attempt:
        """Attempt a task (or that with this id, or the only one of a handler), whatever it awaits.

        Raises `BadTaskStateError` unless it is scheduled, and for a task of a pull queue.
        """
        self._settle()
        task_id = task if isinstance(task, str) else self.get(task).id
        with self._as_running():
            record = self._dispatcher.take(task_id)
            if record is None:
                found = self._actions.get(task_id)
                raise BadTaskStateError(
                    f"task {task_id} is of the pull queue {found.queue}: lease it as a worker does"
                    if found.state is State.SCHEDULED
                    else f"task {task_id} is {found.state}; only a scheduled task can be run"
                )
            return self._dispatcher.attempt(record)

    def run_due(self) -> Run:
        """Fire the schedules and attempt each due task once, in the order of a dispatcher.

        Pauses, limits and keys apply. Tasks that are added or due again meanwhile wait for the
        next call.
        """
        self._settle()
        with self._as_running():
            self._runtime.cron.tick()
            now = self._database.now()
            waiting = {
                record.id
                for state in (State.SCHEDULED, State.LEASED)
                for record in self._records(state)
                if (record.due_at or 0) <= now
            }
            attempts, later = [], []
            while (record := self._dispatcher.next()) is not None:
                if record.id in waiting:
                    waiting.discard(record.id)
                    attempts.append(self._dispatcher.attempt(record))
                else:
                    later.append(record)
            self._dispatcher.release(later)
        return Run(attempts)

    def run_all(self, *, max_tasks: int = MAX_TASKS) -> Run:
        """Fire the schedules and attempt due tasks until there are none, new ones included.

        Raises AssertionError if that takes more than ``max_tasks`` attempts. Tasks that are due
        later, such as retries, stay: see `advance`.
        """
        self._settle()
        return self._run_all(max_tasks)

    def advance(
        self, duration: float | str | timedelta, *, run: bool = False, max_tasks: int = MAX_TASKS
    ) -> Run:
        """Move the queue's clock forward, in seconds or as "10m"; schedules fire on their way.

        With ``run`` tasks are attempted too, each when it is due, as if a dispatcher ran; otherwise
        none is, and the `Run` is empty. The app's own clock does not move: an eta that it computes
        from ``datetime.now()`` is that much nearer.
        """
        self._settle()
        left = duration_micros(checks.duration(0, LONGEST)("the time to advance", duration))
        attempts: list[Attempt] = []
        while True:
            looked_at = self._database.now()
            self._runtime.cron.tick()
            ran = self._run_all(max_tasks - len(attempts)) if run else ()
            attempts += ran
            if left <= 0:
                return Run(attempts)
            # A schedule may have waited for what ran.
            step = 1 if ran else min(left, self._dispatcher.next_event(looked_at, run=run) or left)
            self._database.ahead += step
            left -= step

    @contextmanager
    def respond(
        self,
        status: int | None = None,
        *,
        times: int | None = None,
        exc: BaseException | type[BaseException] | None = None,
        timeout: bool = False,
        url: Any = None,
        headers: Mapping[str, str] | None = None,
        body: str | bytes = b"",
    ) -> Iterator[None]:
        """Give the next deliveries in this block a reply instead of calling their handlers.

        It applies to the next ``times`` deliveries, or all, to ``url``, or any. Give a ``status``
        with ``headers`` and ``body``, a ``timeout``, or ``exc``: ConnectionError and TimeoutError
        mean that the request failed. Any other exception is raised where the handler would be
        called, so it is answered as the app answers it. Absolute URLs are answered as well.
        """
        reply = reply_maker(status, exc, timeout, headers or {}, body)
        with self._scene(
            Scene(self._url(url), times, reply=reply, raises=None if reply is not None else exc)
        ):
            yield

    @contextmanager
    def chaos(
        self,
        *,
        duplicate: bool = False,
        crash: bool = False,
        times: int | None = 1,
        url: Any = None,
    ) -> Iterator[None]:
        """Let the next deliveries in this block go wrong as they may in production.

        ``duplicate``: the request arrives twice. ``crash``: the dispatcher's process dies after
        the handler, before the result is recorded; the task is due immediately and has one more
        crash.
        """
        with self._scene(Scene(self._url(url), times, duplicate=duplicate, crash=crash)):
            yield

    @contextmanager
    def immediate(self) -> Iterator[None]:
        """Run tasks inside ``add()`` in this block, or right after their transaction commits.

        At the end of the block, what the test's session has loaded is expired, unless it holds
        changes.
        """
        before, self._immediately = self._immediately, True
        try:
            yield
        finally:
            self._immediately = before
        self._refresh()

    def assert_worker_ok(
        self, url: Any, params: Mapping[str, Any] | None = None, **options: Unpack[TaskOptions]
    ) -> Attempt:
        """Deliver a task to a worker, with genuine headers, and expect a 2xx response.

        It takes the arguments of ``tasks.add``.
        """
        self._settle()
        with self._as_running():
            record = add_task(self._runtime, TaskSpec(url, params, **options), transactional=False)
            taken = self._dispatcher.take(record.id)
            if taken is None:
                raise AssertionError(f"not added: task {record.id} already has this unique key")
            attempt = self._dispatcher.attempt(taken)
        if not attempt.ok:
            raise AssertionError(f"the worker did not succeed: {attempt}") from attempt.exception
        return attempt

    def _run_all(self, max_tasks: int) -> Run:
        attempts: list[Attempt] = []
        with self._as_running():
            self._runtime.cron.tick()
            while (record := self._dispatcher.next()) is not None:
                if len(attempts) >= max_tasks:
                    self._dispatcher.release([record])
                    raise AssertionError(endless(attempts, record.url))
                attempts.append(self._dispatcher.attempt(record))
        return Run(attempts)

    def _settle(self) -> None:
        """End the transaction of the test's session, so that it sees what handlers do.

        Raises `BadTransactionStateError` if it has changes, because handlers may wait for its
        locks.
        """
        if self._has_uncommitted():
            raise BadTransactionStateError(
                "the session holds uncommitted changes: commit or roll back before tasks are run"
            )
        self._refresh()

    def _give_up(self) -> None:
        """Roll back what the test's session has not committed, because its locks are in the way.

        A test that is rolled back as a whole does so itself.
        """
        session = self._session()
        if session is not None and not self._database.is_isolated and self._has_uncommitted():
            session.rollback()

    def _refresh(self) -> None:
        """End the transaction of the test's session, unless it has changes."""
        session = self._session()
        if session is None or self._has_uncommitted():
            return
        if session.in_transaction():
            session.commit()
        session.expire_all()

    def _woken(self) -> None:
        if self._immediately and not self._running:
            self._run_all(MAX_TASKS)

    @contextmanager
    def _as_running(self) -> Iterator[None]:
        """Make tasks that are added in this block wait for its end."""
        before, self._running = self._running, True
        try:
            yield
        finally:
            self._running = before

    @contextmanager
    def _scene(self, scene: Scene) -> Iterator[None]:
        self._script.scenes.append(scene)
        try:
            yield
        finally:
            self._script.scenes.remove(scene)
