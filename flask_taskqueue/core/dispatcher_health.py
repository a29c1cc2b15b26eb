"""The health of a dispatcher, as its own process sees it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatcherHealth:
    """How a dispatcher gets on with the database, at one moment.

    ``turned_at`` is when it last could look, record and claim; None if it never could.
    ``refusing_since`` is when the database began to refuse that, None while it does not, and
    ``last_error`` what it said last, kept after it has recovered. By this machine's clock, aware, in UTC.
    """

    turned_at: datetime | None
    refusing_since: datetime | None
    last_error: str | None

    @property
    def is_refused(self) -> bool:
        """Whether the database refuses."""
        return self.refusing_since is not None
