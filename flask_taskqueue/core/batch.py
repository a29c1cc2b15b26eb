"""A batch of tasks, as its user sees it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What was known of a batch when this value was read."""

    id: str
    created_at: datetime
    finished_at: datetime | None
    total: int
    succeeded: int
    dead: int
    cancelled: int

    @property
    def pending(self) -> int:
        """How many of its tasks have not ended."""
        return max(0, self.total - self.succeeded - self.dead - self.cancelled)

    @property
    def is_finished(self) -> bool:
        """Whether all have ended; dead ones that are requeued afterwards are not counted again."""
        return self.finished_at is not None
