"""Scalars as texts: how a form says a value of one piece, and how such a text is read."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

_TRUTHS = {
    "true": True,
    "1": True,
    "yes": True,
    "on": True,
    "false": False,
    "0": False,
    "no": False,
    "off": False,
}


def to_text(raw: Any) -> str:
    """A text; a number is one too, a truth value is not."""
    return raw if isinstance(raw, str) else str(_number(raw))


def to_int(raw: Any) -> int:
    """A whole number. Raises ValueError for any other."""
    if isinstance(raw, str):
        return int(raw)
    number = _number(raw)
    return number if isinstance(number, int) else _whole(number)


def to_float(raw: Any) -> float:
    """A number, or its text."""
    return float(raw if isinstance(raw, str) else _number(raw))


def to_bool(raw: Any) -> bool:
    """A truth value, or a word for one, such as "on" or "0"."""
    if isinstance(raw, bool):
        return raw
    word = str(raw).lower()
    if word not in _TRUTHS:
        raise ValueError("neither true nor false")
    return _TRUTHS[word]


def to_instant(raw: Any) -> datetime:
    """A datetime with its offset. Raises ValueError for a naive one."""
    instant = datetime.fromisoformat(raw)
    if instant.tzinfo is None:
        raise ValueError("naive")
    return instant


def to_decimal(raw: Any) -> Decimal:
    """A decimal number, of its text or of a JSON number."""
    return Decimal(raw if isinstance(raw, str) else str(_number(raw)))


def to_duration(raw: Any) -> timedelta:
    """A duration, of its seconds."""
    return timedelta(seconds=to_float(raw))


def form_text(value: Any) -> str | None:
    """How a form says a value; None for one that it has no way for.

    Numbers, truth values, dates, UUIDs as their texts, members of an Enum as their values'.
    """
    write = _WRITTEN.get(type(value))
    if write is not None:
        return write(value)
    if isinstance(value, Enum):
        return None if isinstance(value.value, Enum) else form_text(value.value)
    return value.isoformat() if isinstance(value, datetime | date) else None


def can_be_sent(text: str) -> bool:
    """Whether a text has a form in bytes: half of a surrogate pair has none."""
    return text.isascii() or _is_unicode(text)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _number(raw: Any) -> Any:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise ValueError("no number")
    return raw


def _whole(number: float) -> int:
    if not math.isfinite(number) or number != int(number):
        raise ValueError("not whole")
    return int(number)


_WRITTEN: dict[type, Callable[[Any], str | None]] = {
    str: lambda value: value if can_be_sent(value) else None,
    int: str,
    float: repr,
    bool: lambda value: "true" if value else "false",
    datetime: datetime.isoformat,
    date: date.isoformat,
    time: time.isoformat,
    UUID: str,
    Decimal: str,
}
