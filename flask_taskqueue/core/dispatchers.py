"""What is known of a dispatcher: by the tables, and by its own process."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatcherInfo:
    """What was known of a dispatcher when this value was read; it does not change afterwards.

    A dispatcher reports every ten seconds that it is there. ``is_alive`` is whether it was seen
    within the last thirty, by the database's clock; one that was stopped is forgotten at once, one
    that was killed after an hour at most. ``concurrency`` is how many tasks it attempts at a time,
    ``in_flight`` how many it did when it was last seen, ``queues`` those it takes from (None for
    all). ``replaced`` is how many processes before it were replaced in its place because of
    ``--max-tasks`` or ``--max-memory``, ``replaced_for`` what said so of the last. All instants are
    aware, in UTC.
    """

    id: str
    host: str
    pid: int
    version: str
    transport: str
    queues: tuple[str, ...] | None
    concurrency: int
    in_flight: int
    started_at: datetime
    seen_at: datetime
    is_alive: bool
    replaced: int = 0
    replaced_for: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatcherHealth:
    """How a dispatcher gets on with the database, at one moment.

    ``turned_at`` is when it could last look, record and claim; None if it never could.
    ``refusing_since`` is when the database began to refuse that, None while it does not, and
    ``last_error`` what it said last, kept after it has recovered. Instants are by this machine's
    clock, aware, in UTC.
    """

    turned_at: datetime | None
    refusing_since: datetime | None
    last_error: str | None

    @property
    def is_refused(self) -> bool:
        """Whether the database refuses."""
        return self.refusing_since is not None
