"""The page of queues, and what can be done with one."""

from __future__ import annotations

from flask import g

from ..operations import QueueOperations
from ..runtime import Runtime
from .done import Done


def pause(runtime: Runtime, queue: str) -> Done:
    """Take nothing more from a queue."""
    return Done("pause", queue, QueueOperations(queue, runtime).pause(by=g.taskqueue_access.user or "somebody on the dashboard"))


def resume(runtime: Runtime, queue: str) -> Done:
    """Take from it again."""
    return Done("resume", queue, QueueOperations(queue, runtime).resume())
