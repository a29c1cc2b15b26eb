"""Values of proto3 JSON: durations, timestamps, bytes, numbers, enums and masks.

The functions that read raise ValueError for anything else. The rules are those of protobuf's JSON
mapping (https://protobuf.dev/programming-guides/json/).
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ..times import to_datetime

_DURATION = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,9}))?s", re.ASCII)
_TIMESTAMP = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(Z|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII,
)
_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_DECIMAL = re.compile(r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)
_URL_SAFE = str.maketrans("-_", "+/")
_LONGEST = 315_576_000_000


def duration(value: Any) -> timedelta:
    """Return a duration, to the microsecond.

    >>> duration("0.1s"), duration("-600s")
    (datetime.timedelta(microseconds=100000), datetime.timedelta(days=-1, seconds=85800))
    """
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None or int(match[2]) > _LONGEST:
        raise ValueError
    amount = timedelta(seconds=int(match[2]), microseconds=_micros(match[3]))
    return -amount if match[1] else amount


def duration_text(seconds: float) -> str:
    """Return seconds as a duration, to the microsecond.

    >>> duration_text(600), duration_text(0.1), duration_text(0)
    ('600s', '0.100s', '0s')
    """
    micros = round(max(-_LONGEST, min(seconds, _LONGEST)) * 1_000_000)
    whole, rest = divmod(abs(micros), 1_000_000)
    return f"{'-' if micros < 0 else ''}{whole}{_fraction(rest)}s"


def timestamp(value: Any) -> datetime:
    """Return an instant in UTC, to the microsecond.

    >>> timestamp("2026-01-01T01:00:00.5+01:00")
    datetime.datetime(2026, 1, 1, 0, 0, 0, 500000, tzinfo=datetime.timezone.utc)
    """
    match = _TIMESTAMP.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError
    zone = "+00:00" if match[3] == "Z" else match[3]
    try:
        found = datetime.fromisoformat(match[1] + zone).astimezone(UTC)
    except OverflowError as error:
        raise ValueError from error
    return found.replace(microsecond=_micros(match[2]))


def timestamp_text(micros: int) -> str:
    """Return microseconds since 1970 as a timestamp.

    >>> timestamp_text(0), timestamp_text(1_767_225_600_500_000)
    ('1970-01-01T00:00:00Z', '2026-01-01T00:00:00.500Z')
    """
    instant = to_datetime(micros)
    whole = instant.replace(tzinfo=None, microsecond=0).isoformat()
    return f"{whole}{_fraction(instant.microsecond)}Z"


def data(value: Any) -> bytes:
    """Return bytes from base64, in either alphabet, padded or not."""
    if not isinstance(value, str) or not value.isascii():
        raise ValueError
    text = value.translate(_URL_SAFE).rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError from error


def data_text(value: bytes) -> str:
    """Return bytes as base64."""
    return base64.b64encode(value).decode()


def integer(value: Any) -> int:
    """Return a whole number of 64 bits, given as a number or as a text."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise ValueError
    return value


def decimal(value: Any) -> float:
    """Return a finite number, given as a number or as a text."""
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    try:
        number = float(value)
    except OverflowError as error:
        raise ValueError from error
    if not math.isfinite(number):
        raise ValueError
    return number


def string(value: Any) -> str:
    """Return a text, which is valid Unicode."""
    if not isinstance(value, str):
        raise ValueError
    value.encode()  # a UnicodeEncodeError is a ValueError
    return value


def boolean(value: Any) -> bool:
    """Return True or False."""
    if not isinstance(value, bool):
        raise ValueError
    return value


def enum(value: Any, numbers: Mapping[str, int]) -> str | None:
    """Return the name of a value given by name or number; None for the unspecified one, 0."""
    if isinstance(value, str) and value in numbers:
        return value if numbers[value] else None
    number = integer(value)
    for name, known in numbers.items():
        if known == number:
            return name if number else None
    raise ValueError


def mask(value: Any) -> frozenset[str]:
    """Return the paths of a field mask, in lower case and without underscores.

    Some clients send ``rateLimits``, others ``rate_limits``.

    >>> sorted(mask("rateLimits.maxBurstSize,retry_config"))
    ['ratelimits.maxburstsize', 'retryconfig']
    """
    paths = string(value).replace("_", "").lower().split(",")
    return frozenset(path.strip() for path in paths if path.strip())


def _micros(digits: str | None) -> int:
    return int((digits or "").ljust(9, "0")[:6])


def _fraction(micros: int) -> str:
    """Return the fraction with three or six digits, as protobuf writes it; "" for none."""
    if not micros:
        return ""
    return f".{micros // 1000:03d}" if micros % 1000 == 0 else f".{micros:06d}"
