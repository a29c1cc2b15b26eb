"""A queue, as its user works with it: ``tasks.queue("mail")``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Unpack, overload

from .adding import Adding
from .core import signals
from .core.spec import TaskOptions, TaskSpec
from .core.task import Task
from .operations import QueueOperations
from .runtime import Runtime
from .web.worker import Worker


class AddedMany(NamedTuple):
    """How many tasks were added, and how many were not because their name or key was taken."""

    added: int
    skipped: int


class Queue(QueueOperations):
    """One queue of one application, with all that can be done with it."""

    def __init__(self, name: str, runtime: Runtime, adding: Adding) -> None:
        super().__init__(name, runtime)
        self._adding = adding

    @overload
    def add(self, url: list[Any], *, transactional: bool | None = None) -> list[Task]: ...

    @overload
    def add(
        self,
        url: str | Worker[..., Any] | TaskSpec | None = None,
        params: Mapping[str, Any] | None = None,
        *,
        transactional: bool | None = None,
        **options: Unpack[TaskOptions],
    ) -> Task: ...

    def add(
        self, url: Any = None, params: Mapping[str, Any] | None = None, *, transactional: bool | None = None, **options: Any
    ) -> Task | list[Task]:
        """``tasks.add`` with this queue; or a list of up to 1,000 tasks, in one transaction.

        In a list each is a `TaskSpec`, a URL, a pair of URL and params, or a mapping of arguments.
        If one is malformed none is added. One whose name or unique_key is taken comes back as the
        task that has it, with ``was_enqueued`` False; the others are stored. Raises
        `TooManyTasksError`, `DuplicateTaskNameError` and what ``tasks.add`` raises.
        """
        if not isinstance(url, list):
            spec = url if isinstance(url, TaskSpec) else TaskSpec(url, params, **options)
            record, disposition = self._adding.add(spec.in_queue(self.name), transactional)
            task = Task.of(record, self._tasks, disposition)
            signals.task_added.send(self._runtime.app, task=task)
            return task
        if params is not None or options:
            raise TypeError("a list of tasks takes no params or options: give each of its own")
        added = self._adding.add_all([TaskSpec.of(spec).in_queue(self.name) for spec in url], transactional)
        return [Task.of(record, self._tasks, disposition) for record, disposition in added]

    def add_many(self, specs: Iterable[Any], *, transactional: bool | None = None) -> AddedMany:
        """``tasks.add_many`` with this queue."""
        return AddedMany(*self._adding.add_many((TaskSpec.of(spec).in_queue(self.name) for spec in specs), transactional))
