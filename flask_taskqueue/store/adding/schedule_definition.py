"""A schedule as it is declared, apart from when it fires."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleDefinition:
    """A schedule as it is declared; ``task`` is the task that it adds (see `pack`)."""

    name: str
    text: str
    timezone: str
    task: str = field(repr=False)
    misfire: str
    overlap: str
    description: str | None


DECLARED = ("text", "timezone", "task", "misfire", "overlap", "description")
"""The columns that a definition fills."""
