"""What applications are tested with: tasks are stored, nothing runs by itself, and time passes
when a test says so.
"""

from __future__ import annotations

from .attempts import Attempt, Run
from .mixin import TaskQueueMixin
from .tester import TaskQueueTester

__all__ = ["Attempt", "Run", "TaskQueueMixin", "TaskQueueTester"]
