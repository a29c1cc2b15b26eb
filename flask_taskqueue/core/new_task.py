"""A task that is about to be stored."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from .payload import TaskRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTask:
    """What add() makes of its arguments, all of it checked.

    ``eta`` is the instant asked for, or None: then the task is due ``delay`` microseconds after
    the database's clock says it was stored.
    """

    id: str
    request: TaskRequest
    name: str | None = None
    queue: str = "default"
    priority: int = 0
    eta: datetime | None = None
    delay: int = 0
    deadline: float | None = None
    retry: str | None = None
    target: str | None = None

    @property
    def headers(self) -> str | None:
        """The headers as they are stored: JSON, or None for none."""
        return json.dumps(self.request.headers, separators=(",", ":")) if self.request.headers else None
