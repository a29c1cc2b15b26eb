"""Diagnosis: what a task waits for, and what keeps tasks from running."""

from __future__ import annotations

from .findings import findings
from .waiting import why

__all__ = ["findings", "why"]
