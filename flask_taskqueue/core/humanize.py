"""Numbers, durations and instants in the form in which people read them."""

from __future__ import annotations

from datetime import datetime

_UNITS = ((86_400, "d"), (3600, "h"), (60, "m"))


def duration(seconds: float) -> str:
    """Return a length of time in its largest unit, and in the next one where it is short.

    >>> duration(0.42), duration(42), duration(250), duration(5400), duration(3 * 86400)
    ('420 ms', '42 s', '4 m 10 s', '1 h 30 m', '3 d')
    """
    seconds = abs(seconds)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    whole = round(seconds)
    for (size, unit), (smaller, small) in zip(_UNITS, (*_UNITS[1:], (1, "s")), strict=True):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (
                f" {rest} {small}" if rest and whole < 10 * size else ""
            )
    return f"{whole} s"


def relative(instant: datetime, now: datetime) -> str:
    """Return how far away an instant is.

    >>> from datetime import timedelta
    >>> now = datetime(2026, 1, 1)
    >>> relative(now + timedelta(minutes=4), now), relative(now - timedelta(hours=6), now)
    ('in 4 m', '6 h ago')
    """
    seconds = (instant - now).total_seconds()
    if abs(seconds) < 0.5:
        return "now"
    return f"in {duration(seconds)}" if seconds > 0 else f"{duration(seconds)} ago"


def utc(instant: datetime) -> str:
    """Return an instant in UTC, to the second.

    >>> utc(datetime(2026, 1, 1, 12, 0, 5))
    '2026-01-01 12:00:05Z'
    """
    return f"{instant:%Y-%m-%d %H:%M:%S}Z"


def plural(number: int, noun: str, nouns: str | None = None) -> str:
    """Return a number with its noun; ``nouns`` is the plural where it is not the noun with an s.

    >>> plural(1, "task"), plural(12000, "task"), plural(2, "process", "processes")
    ('1 task', '12,000 tasks', '2 processes')
    """
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"
