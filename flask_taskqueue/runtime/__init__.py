"""The runtime of one application: its database, its resources and its dispatcher."""

from __future__ import annotations

from .queue_lookup import QueueLookup, session_view
from .runtime import Runtime, live_runtimes
from .task_making import FindQueue, MakeTask

__all__ = ["FindQueue", "MakeTask", "QueueLookup", "Runtime", "live_runtimes", "session_view"]
