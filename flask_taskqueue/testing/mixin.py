"""A mixin for unittest."""

from __future__ import annotations

from flask import Flask

from .tester import TaskQueueTester


class TaskQueueMixin:
    """A mixin that gives a ``unittest.TestCase`` its app's task queue as ``self.taskqueue``.

    Set ``self.app`` before you call ``super().setUp()``.
    """

    app: Flask
    taskqueue: TaskQueueTester

    def setUp(self) -> None:
        """Start with an empty queue."""
        super().setUp()  # type: ignore[misc]
        self.taskqueue = self.enterContext(TaskQueueTester(self.app))  # type: ignore[attr-defined]
