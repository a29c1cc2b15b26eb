"""Diagnosis: what a task waits for, and what is wrong with the surroundings."""

from __future__ import annotations

from .findings import findings
from .waiting import why

__all__ = ["findings", "why"]
