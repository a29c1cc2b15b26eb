"""The inspector: finding, asserting and refuting stored tasks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from flask import Flask

from ..api.tasks import Tasks
from ..core.security.targets import Targets
from ..core.states import Record, State
from ..core.tasks.options import aware_utc
from ..core.tasks.request import METHODS
from ..core.tasks.task import Task
from ..core.urls import is_absolute, no_url, normal
from ..runtime import Runtime, sessions
from ..runtime.contexts import is_current
from ..store import Filter
from ..web.routes import RouteFinder, answers
from ..web.task_function import TaskFunction
from ..web.worker import Worker
from .expected import ExpectedTask, closest, params_of
from .expected_url import ExpectedRoute, ExpectedUrl

_MOST = 100_000


class Inspector:
    """The part of `TaskQueueTester` that finds and checks tasks, ended ones too.

    A task is stored once its transaction has committed.
    """

    def __init__(self, app: Flask, runtime: Runtime) -> None:
        self.app = app
        self._runtime = runtime
        self._routes = RouteFinder(app)
        self._actions = Tasks.of(runtime)

    def tasks(
        self,
        url: Any = None,
        *,
        name: str | None = None,
        queue: str | None = None,
        state: State | str | None = None,
    ) -> list[Task]:
        """Return the tasks that match every argument, in the order in which they were added.

        ``url`` is a path (with any query, unless it has one itself), an absolute URL, an endpoint
        name, a handler or a task function. A handler whose URL has variables stands for all their
        values.
        """
        return [
            Task.of(record, self._actions)
            for record in self._matching(self._expected(url, name=name, queue=queue, state=state))
        ]

    def get(self, task: Any) -> Task:
        """Return a task as it is now, or the only task with a URL (as in `tasks`).

        Raises AssertionError if there is not exactly one.
        """
        if isinstance(task, Task):
            return self._actions.get(task.id)
        found = self.tasks(task)
        if len(found) != 1:
            raise AssertionError(
                f"there are {len(found)} tasks for {task!r}, not "
                f"one:{self._report(self._expected(task))}"
            )
        return found[0]

    def params(self, task: Any) -> dict[str, Any]:
        """Return the parameters of a task, or of the only one with a URL (as in `tasks`).

        They are its JSON object, or those of its form and query, as texts.
        """
        task_id = self.get(task).id
        with self._runtime.store.reading() as connection:
            return params_of(self._runtime.store.tasks.get(connection, task_id))

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
        """Return the newest task that matches.

        Raises AssertionError, naming the closest tasks, if none matches, or not ``count`` of them,
        of which there must be one at least.
        ``params`` must be among those of the task and equal: texts for a form, JSON values for
        JSON. ``eta`` is an instant or the time from when the task was added, to the second.
        """
        if count == 0:
            raise ValueError("count=0: use refute_enqueued() to say that no task matches")
        expected = self._expected(url, params=params, queue=queue, name=name, state=state, eta=eta)
        found = self._matching(expected)
        if count is not None and len(found) != count:
            raise AssertionError(
                f"{len(found)} tasks matched {expected}, not {count}{self._report(expected)}"
            )
        if not found:
            raise AssertionError(f"no task matched {expected}{self._report(expected)}")
        return Task.of(found[-1], self._actions)

    def refute_enqueued(
        self,
        url: Any = None,
        *,
        params: Mapping[str, Any] | None = None,
        queue: str | None = None,
        name: str | None = None,
        state: State | str | None = None,
        eta: datetime | timedelta | None = None,
    ) -> None:
        """Raise AssertionError if a task matches.

        It takes the arguments of `assert_enqueued`, except ``count``. Raises `InvalidUrlError` for
        a path that no task can have, because no route of the app answers it and tasks go nowhere
        else.
        """
        expected = self._expected(url, params=params, queue=queue, name=name, state=state, eta=eta)
        found = self._matching(expected)
        if found:
            raise AssertionError(
                f"{len(found)} tasks matched {expected}{_lines(closest(expected, found))}"
            )
        self._check(expected.url)

    def _check(self, url: ExpectedUrl | None) -> None:
        """Raise `InvalidUrlError` for a path that no task can have, as ``add()`` would."""
        if url is None or is_absolute(url.text) or isinstance(url, ExpectedRoute):
            return
        if Targets.of(self._runtime.settings).policy != "internal":
            return  # it may be the path of another host
        if not any(answers(self.app, url.text, method, redirected=True) for method in METHODS):
            self._routes.find(url.text, "POST")

    def _expected(
        self, url: Any = None, *, state: State | str | None = None, **fields: Any
    ) -> ExpectedTask:
        if isinstance(eta := fields.get("eta"), datetime):
            fields["eta"] = aware_utc("the eta", eta)
        return ExpectedTask(
            url=self._url(url), state=None if state is None else State(state).value, **fields
        )

    def _url(self, url: Any) -> ExpectedUrl | None:
        """Return what a test means by a URL, an endpoint name, a handler or a task function."""
        if url is None:
            return None
        method = "POST"
        worker = url.worker if isinstance(url, TaskFunction) else url
        if isinstance(worker, Worker):
            endpoint, method = self._routes.endpoint_of(worker), worker.route.methods[0]
        elif not isinstance(url, str):
            raise no_url(url)
        elif url.startswith("/") or is_absolute(url):
            return ExpectedUrl(normal(url))
        else:
            endpoint = url
        for rule in self.app.url_map.iter_rules():
            if rule.endpoint == endpoint and rule.arguments:
                return ExpectedRoute(rule.rule, endpoint, self.app)
        return ExpectedUrl(normal(self._routes.build(endpoint, {}, method)[0]))

    def _matching(self, expected: ExpectedTask) -> list[Record]:
        return [record for record in self._records() if not expected.differences(record)]

    def _records(self, state: State | None = None) -> list[Record]:
        """Return every task, in the order in which they were added."""
        store = self._runtime.store
        with store.reading() as connection:
            return [
                self._runtime.encryption.decrypt_record(record)
                for record in store.search.find(connection, Filter(state=state), _MOST)
            ][::-1]

    def _report(self, expected: ExpectedTask) -> str:
        """Describe the tasks that are stored, for an assertion that failed."""
        records = self._records()
        report = (
            _lines([f"closest: {line}" for line in closest(expected, records)])
            if records
            else "\n  there are no tasks at all"
        )
        return report + (_UNCOMMITTED if self._has_uncommitted() else "")

    def _has_uncommitted(self) -> bool:
        session = self._session()
        return session is not None and sessions.has_changes(session)

    def _session(self) -> Any | None:
        """Return the session of the app's context, if the test is in one."""
        binding = self._runtime.binding
        return binding.session() if binding.db is not None and is_current(self.app) else None


_UNCOMMITTED = (
    "\n  the session holds uncommitted changes: a task that was added with them is not there "
    "before the commit"
)


def _lines(lines: list[str]) -> str:
    return "".join(f"\n  {line}" for line in lines)
