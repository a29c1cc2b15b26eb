"""The tester: one application's queue in the hands of a test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, Unpack

from flask import Flask

from ..api.adding import add_task
from ..core.clock import LONGEST, SECOND, duration_micros, to_datetime, to_micros
from ..core.errors import BadTaskStateError, BadTransactionStateError, ConfigurationError
from ..core.settings import checks
from ..core.states import State
from ..core.tasks.spec import TaskOptions, TaskSpec
from ..core.tasks.task import Task
from ..runtime import Runtime
from ..store import Rehearsal
from .attempts import Attempt, Run, reply_maker
from .looking import Looking
from .script import Scene, Script
from .steps import Steps

MAX_TASKS = 1000


class TaskQueueTester(Looking):
    """The queue of an application in testing: tasks are stored, and run when the test says so, in
    its own thread.

    ``with TaskQueueTester(app) as taskqueue:`` empties the queue and gives it a clock of its own,
    which `advance` puts forward. Deliveries are real requests to the application, with its hooks;
    deadlines are not enforced (`respond` plays them). Raises `ConfigurationError` unless
    ``app.testing``.
    """

    def __init__(self, app: Flask) -> None:
        runtime: Runtime | None = app.extensions.get("taskqueue")
        if runtime is None or not app.testing:
            raise ConfigurationError(
                "the testing kit empties the queue: it needs an application with TESTING = "
                "True and a TaskQueue"
            )
        super().__init__(app, runtime)
        self._script = Script()
        self._immediately = self._running = False

    def __enter__(self) -> Self:
        if self._runtime.scheduler is not None:
            raise ConfigurationError(
                "a dispatcher runs in this process: leave TASKQUEUE_DISPATCHER out of the tests"
            )
        runtime = self._runtime
        parts = runtime.binding.parts(self.app, runtime.settings)
        self._rehearsal = Rehearsal(**parts, isolated=runtime.binding.isolation(self.app))
        runtime.substitute(self._rehearsal, self._woken)
        self._steps = Steps(runtime, self._rehearsal, self._script)
        self._rehearsal.clear()
        runtime.store.ensure_queues()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._rehearsal.clear()
        finally:
            self._steps.close()
            self._runtime.substitute()

    @property
    def now(self) -> datetime:
        """The queue's clock."""
        return to_datetime(self._rehearsal.now())

    def run(self, task: Task | str) -> Attempt:
        """Attempt one task (or its id) once, whatever it waits for. Raises `BadTaskStateError`
        unless it is scheduled.
        """
        self._settle()
        task_id = task if isinstance(task, str) else task.id
        with self._as_running():
            record = self._steps.take(task_id)
            if record is None:
                raise BadTaskStateError(
                    f"task {task_id} is {self._actions.get(task_id).state}; only a scheduled "
                    "task can be run"
                )
            return self._steps.attempt(record)

    def run_due(self) -> Run:
        """Fire the schedules and attempt each task that is due now, once, in the dispatchers'
        order.

        Pauses, limits and keys hold. What is added or due again meanwhile waits for the next call.
        """
        self._settle()
        with self._as_running():
            self._runtime.cron.tick()
            now = self._rehearsal.now()
            waiting = {
                one.id
                for state in (State.SCHEDULED, State.LEASED)
                for one in self._records(state)
                if (one.due_at or 0) <= now
            }
            attempts, aside = [], []
            while (record := self._steps.next()) is not None:
                if record.id in waiting:
                    waiting.discard(record.id)
                    attempts.append(self._steps.attempt(record))
                else:
                    aside.append(record)
            self._steps.release(aside)
        return Run(attempts)

    def run_all(self, *, max_tasks: int = MAX_TASKS) -> Run:
        """Fire the schedules and attempt what is due until nothing is, with what is added
        meanwhile.

        AssertionError when more than ``max_tasks`` attempts would be made. What is due later, a
        retry say, stays: see `advance`.
        """
        self._settle()
        return self._run_all(max_tasks)

    def advance(
        self, duration: float | str | timedelta, *, run: bool = False, max_tasks: int = MAX_TASKS
    ) -> Run:
        """Let so much time pass, in seconds or as "10m", for the queue; schedules fire, each at its
        time.

        With ``run`` tasks are attempted too, each when it is due, as if a dispatcher ran; otherwise
        none is, and the `Run` is empty. The application's own clock stands still: an eta that it
        computes from ``datetime.now()`` lies so much nearer.
        """
        self._settle()
        left = duration_micros(checks.duration(0, LONGEST)("the time to advance", duration))
        attempts: list[Attempt] = []
        while True:
            self._runtime.cron.tick()
            if run:
                attempts += self._run_all(max_tasks - len(attempts))
            if left <= 0:
                return Run(attempts)
            step = min(left, self._next_event(run) or left)
            self._rehearsal.ahead += step
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
        """Within this, the next deliveries (``times``, or all; of one URL, or any) get this reply,
        and no handler is called.

        A ``status``, with ``headers`` and ``body``; or ``exc``: a ConnectionError or TimeoutError
        is trouble on the way, any other what the handler raised; or a ``timeout``. Absolute URLs
        are not called either, so tests need no network.
        """
        with self._scene(
            Scene(
                self._path(url), times, reply=reply_maker(status, exc, timeout, headers or {}, body)
            )
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
        """Within this, the next deliveries go wrong as they may in production.

        ``duplicate``: the request arrives twice. ``crash``: the dispatcher's process dies after
        the handler, before the result is recorded; the task is due at once, one crash richer.
        """
        with self._scene(Scene(self._path(url), times, duplicate=duplicate, crash=crash)):
            yield

    @contextmanager
    def immediate(self) -> Iterator[None]:
        """Within this, tasks run inside ``add()``, or right after the commit of the transaction
        they are part of.
        """
        before, self._immediately = self._immediately, True
        try:
            yield
        finally:
            self._immediately = before

    def assert_worker_ok(
        self, url: Any, params: Mapping[str, Any] | None = None, **options: Unpack[TaskOptions]
    ) -> Attempt:
        """Deliver a task to a worker, with genuine headers, and expect a 2xx. The arguments are
        those of ``tasks.add``.
        """
        self._settle()
        with self._as_running():
            record = add_task(self._runtime, TaskSpec(url, params, **options), transactional=False)
            taken = self._steps.take(record.id)
            if taken is None:
                raise AssertionError(
                    f"the task was not stored, for another stands for it: {record.id}"
                )
            attempt = self._steps.attempt(taken)
        if not attempt.ok:
            raise AssertionError(f"the worker did not succeed: {attempt}") from attempt.exception
        return attempt

    def _run_all(self, max_tasks: int) -> Run:
        attempts: list[Attempt] = []
        with self._as_running():
            self._runtime.cron.tick()
            while (record := self._steps.next()) is not None:
                if len(attempts) >= max_tasks:
                    self._steps.release([record])
                    raise AssertionError(_endless(attempts, record.url))
                attempts.append(self._steps.attempt(record))
        return Run(attempts)

    def _next_event(self, run: bool) -> int | None:
        """Microseconds until a schedule fires or, if they run, a task may be taken; None if
        neither waits.
        """
        store = self._runtime.store
        names = self._runtime.cron.declare()
        now = self._rehearsal.now()
        with store.reading() as connection:
            waits = [
                to_micros(at) - now
                for name, at in store.schedules.waiting(connection).items()
                if name in names
            ]
            next_in = store.claims.lanes(connection).next_in() if run else None
        waits += [] if next_in is None else [int(next_in * SECOND)]
        return max(1, min(waits)) if waits else None

    def _settle(self) -> None:
        """End the transaction of the test's session, which only read, so that it sees what handlers
        do.

        One with changes must not wait for handlers, who may wait for its locks.
        """
        session = self._session()
        if session is None:
            return
        if self._has_uncommitted():
            raise BadTransactionStateError(
                "the session holds uncommitted changes: commit or roll back before tasks are run"
            )
        session.commit()
        session.expire_all()

    def _woken(self) -> None:
        if self._immediately and not self._running:
            self._run_all(MAX_TASKS)

    @contextmanager
    def _as_running(self) -> Iterator[None]:
        """While tasks run, what they add waits for them to end."""
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


def _endless(attempts: list[Attempt], url: str) -> str:
    counts: dict[str, int] = {}
    for attempt in attempts:
        counts[attempt.task.url] = counts.get(attempt.task.url, 0) + 1
    most = ", ".join(
        f"{one} {count} times"
        for one, count in sorted(counts.items(), key=lambda pair: -pair[1])[:3]
    )
    return (
        f"after {len(attempts)} attempts ({most}) {url} is due: do tasks add tasks for ever? "
        "max_tasks allows more"
    )
