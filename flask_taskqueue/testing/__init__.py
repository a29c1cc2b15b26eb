"""The test kit: tasks are stored, nothing runs by itself, and a test moves the clock."""

from __future__ import annotations

from .attempts import Attempt, Run
from .mixin import TaskQueueMixin
from .tester import TaskQueueTester

__all__ = ["Attempt", "Run", "TaskQueueMixin", "TaskQueueTester"]
