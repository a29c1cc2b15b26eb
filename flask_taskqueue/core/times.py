"""Instants and lengths of time, as the tables hold them and as people read them.

Also the clock by which a process judges its leases. An instant is a whole number of microseconds
since 1970 in UTC, which means the same in every database, time zone and driver. It becomes a
``datetime`` only where people see it.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_BOOT = getattr(time, "CLOCK_BOOTTIME", None)

SECOND = 1_000_000
LONGEST = 36_525 * 86_400.0
"""The longest duration, in seconds.

It is a hundred years, so that no instant lies beyond the calendar.
"""
FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)
LAST_MICROS = (LAST - _EPOCH) // _MICROSECOND


def lease_clock() -> float:
    """Return the seconds by which this process judges whether its leases still hold.

    Other machines go on while this one sleeps, so the clock counts that time too. Only Linux has
    such a clock; elsewhere it is the monotonic one.
    """
    return time.monotonic() if _BOOT is None else time.clock_gettime(_BOOT)


def to_micros(instant: datetime) -> int:
    """Return the microseconds of an aware ``datetime``, exactly."""
    return (instant - _EPOCH) // _MICROSECOND


def to_datetime(micros: int) -> datetime:
    """Return the aware UTC ``datetime`` of a number of microseconds, exactly.

    Beyond the calendar, it is the calendar's first or last instant. So is what somebody has written
    by hand in place of a number: SQLite keeps it, and sorts it after all numbers.
    """
    try:
        return _EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        return LAST if micros > 0 else FIRST
    except TypeError:
        return LAST


def duration_micros(seconds: float) -> int:
    """Return a duration in seconds as microseconds."""
    return round(seconds * SECOND)


_SPANS = ((86_400, "d"), (3600, "h"), (60, "m"))


def duration(seconds: float) -> str:
    """Return a length of time in its largest unit, and in the next one where it is short.

    >>> duration(0.42), duration(42), duration(250), duration(5400), duration(3 * 86400)
    ('420 ms', '42 s', '4 m 10 s', '1 h 30 m', '3 d')
    """
    seconds = abs(seconds)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    whole = round(seconds)
    for (size, unit), (smaller, small) in zip(_SPANS, (*_SPANS[1:], (1, "s")), strict=True):
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
