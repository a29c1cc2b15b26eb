"""Durations as people write them: seconds, "10m", a timedelta."""

from __future__ import annotations

import math
import re
from datetime import timedelta

from .errors import ConfigurationError, shown
from .times import LONGEST

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_TEXT = re.compile(r"([0-9]+(?:\.[0-9]*)?)\s*([smhd]?)", re.ASCII)


class _TooLongError(ConfigurationError, OverflowError):
    """A duration that is too long to calculate with."""


def seconds(value: float | str | timedelta, *, what: str) -> float:
    """Return a duration in seconds: infinite, or at most a hundred years.

    >>> seconds("10m", what="lease"), seconds(1.5, what="lease"), seconds("2d", what="lease")
    (600.0, 1.5, 172800.0)

    Raises `ConfigurationError` naming ``what`` for anything else; for a longer one it is an
    OverflowError too.
    """
    number = _number(value)
    if math.isnan(number):
        raise ConfigurationError(
            f"{what} is {shown(value)}; it must be seconds, such as 90, or a text such as "
            "'90s', '10m', '2h' or '30d'"
        )
    if abs(number) > LONGEST and not (isinstance(value, float) and math.isinf(value)):
        raise _TooLongError(
            f"{what} is {shown(value)}, longer than a hundred years; it must be shorter"
        )
    return number


def _number(value: object) -> float:
    """Return the seconds of a duration; NaN if it is not one.

    The result is infinite if the seconds are too many for a number.
    """
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, str) and (match := _TEXT.fullmatch(value.strip())):
        return float(match[1]) * _UNITS[match[2]]
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return math.nan
