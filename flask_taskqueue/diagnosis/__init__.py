"""Diagnosis: what a task waits for."""

from __future__ import annotations

from .waiting import why

__all__ = ["why"]
