"""Looking at what is stored: found, asserted, refuted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs

from flask import Flask

from ..api.tasks import Tasks
from ..core.clock import duration_micros, to_datetime, to_micros
from ..core.record import Record
from ..core.states import State
from ..core.tasks.task import Task
from ..core.urls import is_absolute, normal
from ..runtime import Runtime, sessions
from ..store import Filter
from ..web.routes import RouteFinder
from ..web.task_function import TaskFunction
from ..web.worker import Worker

_TOLERANCE = 1_000_000
"""Microseconds by which an eta may differ."""
_SHOWN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a task is asked to be; None leaves a field open. ``params`` are among those of the
    task.
    """

    url: str | None = None
    params: Mapping[str, Any] | None = None
    queue: str | None = None
    name: str | None = None
    state: str | None = None
    eta: datetime | timedelta | None = None

    def differences(self, record: Record) -> list[str]:
        """In what a task is not as it is asked to be, in words."""
        found = [
            f"{field} is {actual!r}"
            for field, actual in (
                ("url", record.url),
                ("queue", record.queue),
                ("name", record.name),
                ("state", record.state),
            )
            if (asked := getattr(self, field)) is not None and not _equal(field, asked, actual)
        ]
        if self.params is not None:
            found += _params_differ(self.params, record)
        if self.eta is not None and not _is_eta(self.eta, record):
            found.append(f"eta is {to_datetime(record.eta).isoformat()}")
        return found

    def __str__(self) -> str:
        parts = [
            f"{one}={getattr(self, one)!r}"
            for one in ("url", "queue", "name", "state")
            if getattr(self, one) is not None
        ]
        parts[1:1] = [] if self.params is None else [f"params⊇{dict(self.params)!r}"]
        return " ".join(parts + ([] if self.eta is None else [f"eta={self.eta!s}"])) or "anything"


def params_of(record: Record) -> dict[str, Any]:
    """What a task brings: its JSON object, or its form and query parameters; a form's values
    are texts, of one given twice a list.
    """
    headers = {name.lower(): value for name, value in json.loads(record.headers or "{}").items()}
    kind = headers.get("content-type", "")
    if kind.startswith("application/json"):
        found = json.loads(record.body)
        return found if isinstance(found, dict) else {}
    query = record.url.partition("?")[2]
    form = (
        record.body.decode("utf-8", "replace")
        if kind.startswith("application/x-www-form-urlencoded")
        else ""
    )
    values = parse_qs("&".join(filter(None, (query, form))), keep_blank_values=True)
    return {name: found[0] if len(found) == 1 else found for name, found in values.items()}


def shown(record: Record) -> str:
    """A task in one line."""
    return (
        f"{record.url.partition('?')[0]} params={params_of(record)!r} (queue {record.queue}, "
        f"{record.state})"
    )


def closest(wanted: Wanted, records: Sequence[Record]) -> list[str]:
    """The tasks that came closest, one line each, with what is different about them."""
    ranked = sorted(
        records,
        key=lambda record: (
            wanted.url is not None and not _equal("url", wanted.url, record.url),
            _distance(wanted, record),
        ),
    )
    return [
        f"{shown(record)}: {', '.join(wanted.differences(record)) or 'as asked'}"
        for record in ranked[:_SHOWN]
    ]


def _distance(wanted: Wanted, record: Record) -> int:
    return len(wanted.differences(record))


def _equal(field: str, asked: str, actual: str | None) -> bool:
    if field == "url" and actual is not None and "?" not in asked:
        return asked == actual.partition("?")[0]
    return asked == actual


def _params_differ(asked: Mapping[str, Any], record: Record) -> list[str]:
    actual = params_of(record)
    found = []
    for name, value in asked.items():
        wanted = list(value) if isinstance(value, tuple) else value
        if name not in actual:
            found.append(f"there is no param {name!r}")
        elif actual[name] != wanted:
            hint = (
                "; form params are strings"
                if isinstance(actual[name], str) and str(wanted) == actual[name]
                else ""
            )
            found.append(f"params[{name!r}] is {actual[name]!r}, not {value!r}{hint}")
    return found


def _is_eta(asked: datetime | timedelta, record: Record) -> bool:
    if isinstance(asked, timedelta):
        return (
            abs(record.eta - record.created_at - duration_micros(asked.total_seconds()))
            < _TOLERANCE
        )
    return abs(record.eta - to_micros(asked)) < _TOLERANCE


_MOST = 100_000


class Looking:
    """What `TaskQueueTester` offers to look at tasks, ended ones too. A task is there once its
    transaction has committed.
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
        """The tasks that match every argument given, in the order in which they were added.

        ``url`` is a path (with any query, unless it has one itself), an absolute URL, an endpoint
        name, a handler or a task function.
        """
        return [
            Task.of(record, self._actions)
            for record in self._matching(self._wanted(url, name=name, queue=queue, state=state))
        ]

    def get(self, task: Any) -> Task:
        """A task as it is now; or the only one with a URL (as `tasks`). AssertionError if there
        is none or more.
        """
        if isinstance(task, Task):
            return self._actions.get(task.id)
        found = self.tasks(task)
        if len(found) != 1:
            raise AssertionError(
                f"there are {len(found)} tasks for {task!r}, not "
                f"one:{self._report(self._wanted(task))}"
            )
        return found[0]

    def params(self, task: Task) -> dict[str, Any]:
        """What a task brings: its JSON object, or its form and query parameters, whose values
        are texts.
        """
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
        """The newest task that matches; AssertionError, telling what came close, if there is none,
        or not ``count`` of them.

        ``params`` must be among those of the task, equal: texts for a form, what JSON has for
        JSON. ``eta`` is an instant or the time from when the task was added, to the second.
        """
        wanted = self._wanted(url, params=params, queue=queue, name=name, state=state, eta=eta)
        found = self._matching(wanted)
        if count is not None and len(found) != count:
            raise AssertionError(
                f"{len(found)} tasks matched {wanted}, not {count}{self._report(wanted)}"
            )
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
            raise AssertionError(
                f"{len(found)} tasks matched {wanted}{_lines(closest(wanted, found))}"
            )

    def _wanted(
        self, url: Any = None, *, state: State | str | None = None, **fields: Any
    ) -> Wanted:
        return Wanted(
            url=self._path(url), state=None if state is None else State(state).value, **fields
        )

    def _path(self, url: Any) -> str | None:
        worker = url.worker if isinstance(url, TaskFunction) else url
        if isinstance(worker, Worker):
            return normal(
                self._routes.build(self._routes.endpoint_of(worker), {}, worker.route.methods[0])[0]
            )
        if url is None:
            return None
        return normal(
            url
            if url.startswith("/") or is_absolute(url)
            else self._routes.build(url, {}, "POST")[0]
        )

    def _matching(self, wanted: Wanted) -> list[Record]:
        return [record for record in self._records() if not wanted.differences(record)]

    def _records(self, state: State | None = None) -> list[Record]:
        """Every task, in the order in which they were added."""
        store = self._runtime.store
        with store.reading() as connection:
            return [
                self._runtime.vault.opened(one)
                for one in store.newest.find(connection, Filter(state=state), _MOST)
            ][::-1]

    def _report(self, wanted: Wanted) -> str:
        """What is there, for an assertion that failed."""
        records = self._records()
        told = (
            _lines([f"closest: {line}" for line in closest(wanted, records)])
            if records
            else "\n  there are no tasks at all"
        )
        return told + (_UNCOMMITTED if self._has_uncommitted() else "")

    def _has_uncommitted(self) -> bool:
        session = self._session()
        return session is not None and sessions.has_changes(session)

    def _session(self) -> Any | None:
        """The session of this application's context, if the test is in one."""
        binding = self._runtime.binding
        return (
            binding.session() if binding.db is not None and sessions.is_current(self.app) else None
        )


_UNCOMMITTED = (
    "\n  the session holds uncommitted changes: a task that was added with them is not there "
    "before the commit"
)


def _lines(lines: list[str]) -> str:
    return "".join(f"\n  {line}" for line in lines)
