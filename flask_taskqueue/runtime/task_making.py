"""Task making, as the runtime asks the floor above for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from ..core.settings.queue import QueueSettings
from ..core.tasks.request import TaskRequest
from ..core.tasks.spec import NewTask, SpecOptions, TaskSpec
from ..store import ScheduleDefinition

FindQueue = Callable[[str], QueueSettings]
"""A function that returns the settings of a queue; it raises `UnknownQueueError`."""


class MakeTask(Protocol):
    """A function that makes the task for a spec.

    ``item`` says which item of a list the spec is. ``find_queue`` finds queues that are not
    configured; one that several calls share reads each queue once.
    """

    def __call__(
        self, spec: TaskSpec, *, item: str = "", find_queue: FindQueue | None = None
    ) -> NewTask:
        """Make the task.

        Raises `InvalidTaskError` and its subclasses.
        """


class MakesTasks(Protocol):
    """A maker of tasks, from their specs or from finished requests."""

    def new_task(
        self, spec: TaskSpec, *, item: str = "", find_queue: FindQueue | None = None
    ) -> NewTask:
        """Make the task for a spec, as `MakeTask` does."""

    def new_task_of(
        self,
        request: TaskRequest,
        options: SpecOptions,
        surface: str | None = None,
        *,
        find_queue: FindQueue | None = None,
    ) -> NewTask:
        """Make the task that sends a request as it is.

        Raises `InvalidTaskError` and its subclasses.
        """


class FindsSchedules(Protocol):
    """A finder of the schedules that the app declares."""

    @property
    def broken(self) -> Mapping[str, str]:
        """The schedules that were left out because their task cannot be made, and why."""

    def __call__(self, known: Collection[str]) -> Collection[ScheduleDefinition]:
        """Return the definitions of the schedules other than those with the given names."""
