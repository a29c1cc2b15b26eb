"""Whether receivers asked for less."""

from __future__ import annotations

from collections.abc import Iterator

from ..core.clock import to_datetime
from ..core.diagnosis.finding import Finding
from ..core.errors import TablesMissingError, TransientError
from ..core.humanize import utc
from ..core.queues.rates import rate_text
from ..core.queues.slowdowns import Slowdown
from ..runtime import Runtime


def look(runtime: Runtime) -> Iterator[Finding]:
    """Each that is slowed."""
    store = runtime.store
    try:
        with store.reading() as connection:
            found = store.slowdowns.active(connection)
    except (TransientError, TablesMissingError):
        return  # which the look at the database tells
    yield from map(judge_slowdown, found.values())


def judge_slowdown(one: Slowdown) -> Finding:
    """A receiver that is slowed: since when, until when, and what it said."""
    since, asked, over = (
        utc(to_datetime(instant)) for instant in (one.slowed_at, one.asked_at, one.over_at)
    )
    return Finding(
        "warning",
        f"{one.name} asked for less ({one.said}) and is slowed since {since}: from {asked} "
        f"it is sent {rate_text(one.rate)}, "
        f"twice as much every half minute, and as fast as ever at {over}",
        "wait, for it recovers by itself; if it asks again and again, send it less, or ask "
        "whoever runs it for more",
        "queues#slowing-down",
    )
