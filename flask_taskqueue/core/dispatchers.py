"""What is known of a dispatcher, from the tables and from its own process."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatcherInfo:
    """What was known of a dispatcher when this value was read; it does not change afterwards.

    A dispatcher reports every ten seconds. ``is_alive`` is whether it reported within the last
    thirty, by the database's clock; a dispatcher that was stopped is forgotten immediately, one
    that was killed after an hour at most. ``concurrency`` is how many tasks it attempts at a time,
    ``in_flight`` how many it was attempting at its last report, ``queues`` the queues it takes from
    (None for all). ``replaced`` is how many processes before it were replaced because of
    ``--max-tasks`` or ``--max-memory``, ``replaced_for`` the reason for the last replacement. All
    datetimes are aware, in UTC.
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
    ``refusing_since`` is when the database began to refuse that, or None while it does not;
    ``last_error`` is the database's last error, kept after it has recovered. Datetimes are by this
    machine's clock, aware, in UTC.
    """

    turned_at: datetime | None
    refusing_since: datetime | None
    last_error: str | None
