"""The eta: the earliest time asked for."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

from .clock import FIRST, LAST
from .durations import seconds
from .errors import ConfigurationError, InvalidEtaError, InvalidTaskError
from .quoting import shown


def resolve_delay(
    eta: datetime | None, countdown: float | str | timedelta | None, *, now: datetime, max_eta: timedelta
) -> timedelta | None:
    """How far away the instant asked for is; None when none was asked for. It may lie in the past.

    Raises `InvalidTaskError` when both are given or are no instant and no duration,
    `InvalidEtaError` for a naive eta and for more than ``max_eta``.
    """
    if eta is None and countdown is None:
        return None
    if eta is not None and countdown is not None:
        raise InvalidTaskError("eta and countdown exclude each other: give one of them")
    delay = _until(eta, now) if eta is not None else _counted(countdown)
    _check_readable(now, delay)
    if delay > max_eta:
        raise InvalidEtaError(f"the eta is {delay.total_seconds():.0f} s away; TASKQUEUE_MAX_ETA allows {max_eta.total_seconds():.0f}")
    return delay


def aware_utc(what: str, instant: datetime) -> datetime:
    """An instant in UTC. Raises `InvalidEtaError` for a naive one.

    One that has no date in UTC, as ``datetime.max`` west of Greenwich, is the last one that has, or the first.
    """
    if instant.tzinfo is None or instant.utcoffset() is None:
        raise InvalidEtaError(
            f"{what} {instant.isoformat()} is naive: attach its time zone, as in datetime.now(UTC) + timedelta(minutes=5)"
        )
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        return FIRST if instant.year == 1 else LAST


def _until(eta: datetime, now: datetime) -> timedelta:
    if not isinstance(eta, datetime):
        raise InvalidTaskError(f"eta is {shown(eta)}; it must be a datetime")
    return aware_utc("eta", eta) - now


def _check_readable(now: datetime, delay: timedelta) -> None:
    try:
        now + delay
    except OverflowError:
        raise InvalidEtaError(f"the eta is {delay.total_seconds():.0f} s away, where the calendar has no date") from None


def _counted(countdown: float | str | timedelta | None) -> timedelta:
    negative = isinstance(countdown, str) and countdown.startswith("-")
    try:
        number = seconds(countdown[1:] if negative else countdown, what="countdown")  # type: ignore[index, arg-type]
        return timedelta(seconds=-number if negative else number)
    except OverflowError as error:
        if isinstance(countdown, float) and countdown == -math.inf:
            raise InvalidTaskError("countdown is -inf; it must be finite") from error
        raise InvalidEtaError(f"countdown is {shown(countdown)}, further away than any eta may be") from error
    except ConfigurationError as error:
        raise InvalidTaskError(str(error)) from error
