"""The runtime of one application: its database, its resources and its dispatcher."""

from __future__ import annotations

from .resources import MakeTask
from .runtime import Runtime

__all__ = ["MakeTask", "Runtime"]
