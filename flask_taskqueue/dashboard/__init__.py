"""The dashboard: pages that show an app's task queue, and actions on it."""

from __future__ import annotations

from .mounting import mount

__all__ = ["mount"]
