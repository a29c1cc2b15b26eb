"""Declarations of handlers, task functions, webhooks and schedules, and their blueprint."""

from .schedules import Declarations, scheduled_spec

__all__ = ["Declarations", "scheduled_spec"]
