"""Looking at what is stored: found, asserted, refuted."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from flask import Flask

from .. import sessions
from ..api.tasks import TasksOf
from ..core.record import Record
from ..core.states import State
from ..core.task import Task
from ..core.urls import is_absolute, normal
from ..runtime import Runtime
from ..store import Filter
from ..web.routes import RouteFinder
from ..web.task_function import TaskFunction
from ..web.worker import Worker
from .matching import Wanted, closest, params_of

_MOST = 100_000


class Looking:
    """What `TaskQueueTester` offers to look at tasks, ended ones too. A task is there once its transaction has committed."""

    def __init__(self, app: Flask, runtime: Runtime) -> None:
        self.app = app
        self._runtime = runtime
        self._routes = RouteFinder(app)
        self._actions = TasksOf(runtime)

    def tasks(self, url: Any = None, *, name: str | None = None, queue: str | None = None, state: State | str | None = None) -> list[Task]:
        """The tasks that match every argument given, in the order in which they were added.

        ``url`` is a path (with any query, unless it has one itself), an absolute URL, an endpoint
        name, a handler or a task function.
        """
        return [Task.of(record, self._actions) for record in self._matching(self._wanted(url, name=name, queue=queue, state=state))]

    def get(self, task: Any) -> Task:
        """A task as it is now; or the only one with a URL (as `tasks`). AssertionError if there is none or more."""
        if isinstance(task, Task):
            return self._actions.get(task.id)
        found = self.tasks(task)
        if len(found) != 1:
            raise AssertionError(f"there are {len(found)} tasks for {task!r}, not one:{self._report(self._wanted(task))}")
        return found[0]

    def params(self, task: Task) -> dict[str, Any]:
        """What a task brings: its JSON object, or its form and query parameters, whose values are texts."""
        with self._runtime.store.reading() as connection:
            return params_of(self._runtime.store.tasks.get(connection, task.id))

    def assert_enqueued(
        self,
        url: Any = None,
        *,
        params: Mapping[str, Any] | None = None,
        queue: str | None = None,
        name: str | None = None,
        state: State | str | None = None,
        eta: datetime | timedelta | None = None,
        count: int | None = None,
    ) -> Task:
        """The newest task that matches; AssertionError, telling what came close, if there is none, or not ``count`` of them.

        ``params`` must be among those of the task, equal: texts for a form, what JSON has for
        JSON. ``eta`` is an instant or the time from when the task was added, to the second.
        """
        wanted = self._wanted(url, params=params, queue=queue, name=name, state=state, eta=eta)
        found = self._matching(wanted)
        if count is not None and len(found) != count:
            raise AssertionError(f"{len(found)} tasks matched {wanted}, not {count}{self._report(wanted)}")
        if not found:
            raise AssertionError(f"no task matched {wanted}{self._report(wanted)}")
        return Task.of(found[-1], self._actions)

    def refute_enqueued(
        self,
        url: Any = None,
        *,
        params: Mapping[str, Any] | None = None,
        queue: str | None = None,
        name: str | None = None,
        state: State | str | None = None,
    ) -> None:
        """AssertionError if a task matches; the arguments are those of `assert_enqueued`."""
        wanted = self._wanted(url, params=params, queue=queue, name=name, state=state)
        found = self._matching(wanted)
        if found:
            raise AssertionError(f"{len(found)} tasks matched {wanted}{_lines(closest(wanted, found))}")

    def _wanted(self, url: Any = None, *, state: State | str | None = None, **fields: Any) -> Wanted:
        return Wanted(url=self._path(url), state=None if state is None else State(state).value, **fields)

    def _path(self, url: Any) -> str | None:
        worker = url.worker if isinstance(url, TaskFunction) else url
        if isinstance(worker, Worker):
            return normal(self._routes.build(self._routes.endpoint_of(worker), {}, worker.route.methods[0])[0])
        if url is None:
            return None
        return normal(url if url.startswith("/") or is_absolute(url) else self._routes.build(url, {}, "POST")[0])

    def _matching(self, wanted: Wanted) -> list[Record]:
        return [record for record in self._records() if not wanted.differences(record)]

    def _records(self, state: State | None = None) -> list[Record]:
        """Every task, in the order in which they were added."""
        store = self._runtime.store
        with store.reading() as connection:
            return [self._runtime.vault.opened(one) for one in store.newest.find(connection, Filter(state=state), _MOST)][::-1]

    def _report(self, wanted: Wanted) -> str:
        """What is there, for an assertion that failed."""
        records = self._records()
        told = _lines([f"closest: {line}" for line in closest(wanted, records)]) if records else "\n  there are no tasks at all"
        return told + (_UNCOMMITTED if self._has_uncommitted() else "")

    def _has_uncommitted(self) -> bool:
        session = self._session()
        return session is not None and sessions.has_changes(session)

    def _session(self) -> Any | None:
        """The session of this application's context, if the test is in one."""
        binding = self._runtime.binding
        return binding.session() if binding.db is not None and sessions.is_current(self.app) else None


_UNCOMMITTED = "\n  the session holds uncommitted changes: a task that was added with them is not there before the commit"


def _lines(lines: list[str]) -> str:
    return "".join(f"\n  {line}" for line in lines)
