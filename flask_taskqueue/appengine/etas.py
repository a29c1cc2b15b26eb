"""The etas of App Engine's tasks, in seconds since 1970."""

from __future__ import annotations

import calendar
import math
import time
from datetime import datetime
from typing import Any

from . import limits
from .errors import InvalidEtaError, InvalidTaskError


def eta_posix(eta: datetime | None, countdown: Any) -> float:
    """Return the seconds since 1970 that are asked for; now if nothing is."""
    if eta is not None and countdown is not None:
        raise InvalidTaskError("eta and countdown exclude each other: give one of them")
    found = time.time()
    if eta is not None:
        found = _instant(eta)
    elif countdown is not None:
        try:
            found += float(countdown)
        except (ValueError, OverflowError) as error:
            raise InvalidTaskError(f"countdown {countdown!r} is no number of seconds") from error
    if found - time.time() > limits.MAX_COUNTDOWN_SECONDS:
        raise InvalidEtaError("the eta is more than 30 days away")
    if not math.isfinite(found):
        raise InvalidTaskError(f"countdown {countdown!r} is no number of seconds")
    return found


def _instant(eta: object) -> float:
    if not isinstance(eta, datetime):
        raise InvalidTaskError(f"eta is of type {type(eta).__name__}; it must be a datetime")
    try:
        seconds = (
            time.mktime(eta.timetuple())
            if eta.tzinfo is None
            else calendar.timegm(eta.utctimetuple())
        )
    except OverflowError as error:
        raise InvalidEtaError(f"eta {eta.isoformat()} is where the clock has no time") from error
    return seconds + eta.microsecond / 1_000_000
