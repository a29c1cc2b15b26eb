"""Instants as the tables hold them: whole microseconds since 1970 in UTC.

An integer means the same in every database, time zone and driver; it becomes a ``datetime`` only
where people see it.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

SECOND = 1_000_000
LONGEST = 36_525 * 86_400.0
"""The longest duration, in seconds.

It is a hundred years, so that no instant lies beyond the calendar.
"""
FIRST = datetime.min.replace(tzinfo=UTC)
LAST = datetime.max.replace(tzinfo=UTC)


def to_micros(instant: datetime) -> int:
    """Return the microseconds of an aware ``datetime``, exactly."""
    return (instant - _EPOCH) // _MICROSECOND


def to_datetime(micros: int) -> datetime:
    """Return the aware UTC ``datetime`` of a number of microseconds, exactly.

    Beyond the calendar, it is the calendar's first or last instant.
    """
    try:
        return _EPOCH + timedelta(microseconds=micros)
    except OverflowError:
        return LAST if micros > 0 else FIRST


def duration_micros(seconds: float) -> int:
    """Return a duration in seconds as microseconds."""
    return round(seconds * SECOND)
