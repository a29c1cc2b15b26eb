"""A queue, as its user works with it: ``tasks.queue("mail")``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Unpack

from .adding import Adding
from .core.spec import TaskOptions, TaskSpec
from .core.task import Task
from .operations import QueueOperations
from .runtime import Runtime


class AddedMany(NamedTuple):
    """How many tasks were added, and how many were not because their name or key was taken."""

    added: int
    skipped: int


class Queue(QueueOperations):
    """One queue of one application, with all that can be done with it."""

    def __init__(self, name: str, runtime: Runtime, adding: Adding) -> None:
        super().__init__(name, runtime)
        self._adding = adding

    def add(
        self,
        url: Any = None,
        params: Mapping[str, Any] | None = None,
        *,
        transactional: bool | None = None,
        **options: Unpack[TaskOptions],
    ) -> Task:
        """``tasks.add`` with this queue."""
        spec = url if isinstance(url, TaskSpec) else TaskSpec(url, params, **options)
        record, disposition = self._adding.add(spec.in_queue(self.name), transactional)
        return Task.of(record, self._tasks, disposition)

    def add_all(self, specs: Iterable[Any], *, transactional: bool | None = None) -> list[Task]:
        """Add up to 1,000 tasks in one transaction; ``was_enqueued`` says which of them were stored.

        Each is a `TaskSpec`, a URL, a pair of URL and params, or a mapping of arguments. If one is
        malformed none is added. One whose name or unique_key is taken comes back as the task that
        has it, with ``was_enqueued`` False. Raises `TooManyTasksError`, `DuplicateTaskNameError`
        and what ``tasks.add`` raises.
        """
        added = self._adding.add_all([TaskSpec.of(spec).in_queue(self.name) for spec in specs], transactional)
        return [Task.of(record, self._tasks, disposition) for record, disposition in added]

    def add_many(self, specs: Iterable[Any], *, transactional: bool | None = None) -> AddedMany:
        """``tasks.add_many`` with this queue."""
        return AddedMany(*self._adding.add_many((TaskSpec.of(spec).in_queue(self.name) for spec in specs), transactional))
