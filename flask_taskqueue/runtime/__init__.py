"""The runtime of one application: its database, its resources and its dispatcher."""

from __future__ import annotations

from .queue_lookup import QueueLookup
from .resources import FindQueue, MakeTask
from .runtime import Runtime, live_runtimes

__all__ = ["FindQueue", "MakeTask", "QueueLookup", "Runtime", "live_runtimes"]
