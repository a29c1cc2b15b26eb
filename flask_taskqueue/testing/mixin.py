"""A mixin for unittest."""

from __future__ import annotations

from flask import Flask

from .tester import TaskQueueTester


class TaskQueueMixin:
    """Gives a ``unittest.TestCase`` the task queue of its application as ``self.taskqueue``.

    ``self.app`` must be there before ``super().setUp()`` is called.
    """

    app: Flask
    taskqueue: TaskQueueTester

    def setUp(self) -> None:
        """Start with an empty queue."""
        super().setUp()  # type: ignore[misc]
        self.taskqueue = self.enterContext(TaskQueueTester(self.app))  # type: ignore[attr-defined]
