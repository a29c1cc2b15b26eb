"""Receivers that asked for less."""

from __future__ import annotations

from collections.abc import Iterator

from ..core.diagnosis.facts import Finding
from ..core.errors import TablesMissingError, TransientError
from ..core.queues.rates import rate_text
from ..core.queues.slowdowns import Slowdown
from ..core.times import to_datetime, utc
from ..runtime import Runtime


def check(runtime: Runtime) -> Iterator[Finding]:
    """Report each receiver that is slowed."""
    store = runtime.store
    try:
        with store.reading() as connection:
            slowdowns = store.slowdowns.active(connection)
    except (TransientError, TablesMissingError):
        return  # the check of the database reports it
    yield from map(judge_slowdown, slowdowns.values())


def judge_slowdown(slowdown: Slowdown) -> Finding:
    """Say since when a receiver is slowed, until when, and what it answered."""
    since, asked, over = (
        utc(to_datetime(instant))
        for instant in (slowdown.slowed_at, slowdown.asked_at, slowdown.over_at)
    )
    return Finding(
        "warning",
        f"{slowdown.name} asked for less ({slowdown.said}) and is slowed since {since}: from "
        f"{asked} it is sent {rate_text(slowdown.rate)}, "
        f"twice as much every half minute, and as fast as ever at {over}",
        "wait, it recovers by itself; if it keeps asking, send it less, or ask whoever runs it to "
        "allow more",
        "queues#slowing-down",
    )
