"""A task of App Engine's code, which adds itself to a queue."""

from __future__ import annotations

from typing import Any

from .adding import add_async
from .described_task import DescribedTask
from .rpc import UserRPC


class Task(DescribedTask):
    __doc__ = DescribedTask.__doc__

    def add(self, queue_name: str = "default", transactional: bool = False) -> Task:
        """Add it to a queue, and return it; see `Queue.add`."""
        added: Task = self.add_async(queue_name, transactional).get_result()
        return added

    def add_async(
        self, queue_name: str = "default", transactional: bool = False, rpc: UserRPC | None = None
    ) -> UserRPC:
        """Add it to a queue; see `Queue.add_async`."""
        return add_async(queue_name, self, transactional, rpc)


def add(*args: Any, **kwargs: Any) -> Task:
    """Make a task and add it to a queue.

    The arguments are those of `Task` and those of `Task.add`: ``queue_name`` and ``transactional``.
    """
    queue_name = kwargs.pop("queue_name", "default")
    transactional = kwargs.pop("transactional", False)
    return Task(*args, **kwargs).add(queue_name, transactional)
