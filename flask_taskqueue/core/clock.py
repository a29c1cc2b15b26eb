"""Instants as the tables hold them: whole microseconds since 1970 in UTC.

An integer means the same in every database, time zone and driver; ``datetime`` starts where
people look.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

SECOND = 1_000_000


def to_micros(instant: datetime) -> int:
    """The microseconds of an aware ``datetime``, exactly."""
    return (instant - _EPOCH) // _MICROSECOND


def to_datetime(micros: int) -> datetime:
    """The aware UTC ``datetime`` of some microseconds, exactly."""
    return _EPOCH + timedelta(microseconds=micros)


def duration_micros(seconds: float) -> int:
    """A duration in seconds as microseconds."""
    return round(seconds * SECOND)
