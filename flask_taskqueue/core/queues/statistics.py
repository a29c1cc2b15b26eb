"""The statistics of a queue, as its user sees them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatistics:
    """The exact numbers of one moment; the words are App Engine's where it had them.

    ``tasks`` counts those that have not ended: ``scheduled``, ``in_flight`` and ``forwarded`` (to
    the engine of the queue). ``waiting_for_key`` of the scheduled ones wait for a key.
    ``oldest_eta`` is when the first of the scheduled ones is or was due.
    ``succeeded``, ``dead`` and ``cancelled`` count the tasks that are kept.
    ``executed_last_minute`` and ``executed_last_hour`` count attempts, in steps of ten seconds, but
    not those whose result came too late to count; ``failed_last_hour`` counts those that failed.
    ``rate`` (tasks per second), ``bucket_size`` and ``max_concurrent`` are the limits,
    ``rate_per_key`` and ``bucket_size_per_key`` those of each rate key; ``enforced_rate`` is below
    the rate while the app's own routes ask for less (503 or 429, with Retry-After). None means no
    limit. The ``mode`` is "push", or "pull" for a queue whose tasks are leased.
    """

    queue: str
    scheduled: int
    in_flight: int
    forwarded: int
    waiting_for_key: int
    succeeded: int
    dead: int
    cancelled: int
    oldest_eta: datetime | None
    executed_last_minute: int
    executed_last_hour: int
    failed_last_hour: int
    rate: float | None
    bucket_size: int
    max_concurrent: int | None
    rate_per_key: float | None
    bucket_size_per_key: int
    enforced_rate: float | None
    paused_at: datetime | None
    paused_by: str | None
    mode: str = "push"

    @property
    def tasks(self) -> int:
        """The number of tasks that have not ended."""
        return self.scheduled + self.in_flight + self.forwarded

    @property
    def is_paused(self) -> bool:
        """Whether the queue is paused, so that nothing is taken from it."""
        return self.paused_at is not None or self.has_rate_0

    @property
    def has_rate_0(self) -> bool:
        """Whether its rate lets no task start; resuming it does not change that."""
        return self.rate == 0 and self.mode == "push"
