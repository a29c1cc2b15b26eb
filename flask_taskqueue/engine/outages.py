"""Outages: the times when the database refuses a dispatcher's work."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from ..core.dispatchers import DispatcherHealth
from ..core.ids import chance
from ..store import refusal

logger = logging.getLogger("flask_taskqueue")

_LONGEST_BACKOFF = 5.0


class Outages:
    """The outages that one dispatcher meets, noted by its drain.

    `health` may be read in any thread. Each outage is logged once when it begins and once when it
    ends.
    """

    def __init__(self) -> None:
        self.backoff = 0.0
        """The seconds for which to leave the database alone."""
        self._turned_at: datetime | None = None
        self._since: datetime | None = None
        self._last_error: str | None = None

    @property
    def health(self) -> DispatcherHealth:
        """The time of the last successful turn, and the outage if there is one."""
        return DispatcherHealth(
            turned_at=self._turned_at, refusing_since=self._since, last_error=self._last_error
        )

    def refused(self, error: Exception) -> None:
        """Note a failure; the next wait is longer, up to five seconds."""
        self.backoff = chance.uniform(0.5, 1) * min(_LONGEST_BACKOFF, self.backoff * 2 + 0.1)
        self._last_error = refusal(error) or str(error)
        if self._since is None:
            self._since = datetime.now(UTC)
            logger.warning(
                "the database refuses, and is tried until it does not: %s", self._last_error
            )

    def worked(self) -> None:
        """Note a success, which ends an outage."""
        self.backoff = 0.0
        self._turned_at = now = datetime.now(UTC)
        if self._since is not None:
            logger.warning(
                "the database works again, after %.1f s", (now - self._since).total_seconds()
            )
            self._since = None
