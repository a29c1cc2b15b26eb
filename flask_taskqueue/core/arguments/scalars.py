"""Single values as texts: how a form writes them and reads them back."""

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
    """Return a text; a number counts as one, a truth value does not."""
    return raw if isinstance(raw, str) else str(_number(raw))


def to_int(raw: Any) -> int:
    """Return a whole number. Raises ValueError for any other."""
    if isinstance(raw, str):
        return int(raw)
    number = _number(raw)
    return number if isinstance(number, int) else _whole(number)


def to_float(raw: Any) -> float:
    """Return a number, given as such or as text."""
    return float(raw if isinstance(raw, str) else _number(raw))


def to_bool(raw: Any) -> bool:
    """Return a truth value, given as such or as a word such as "on" or "0"."""
    if isinstance(raw, bool):
        return raw
    word = str(raw).lower()
    if word not in _TRUTHS:
        raise ValueError("neither true nor false")
    return _TRUTHS[word]


def to_instant(raw: Any) -> datetime:
    """Return a datetime with its offset. Raises ValueError for a naive one."""
    instant = datetime.fromisoformat(raw)
    if instant.tzinfo is None:
        raise ValueError("naive")
    return instant


def to_decimal(raw: Any) -> Decimal:
    """Return a decimal number, given as text or as a JSON number."""
    return Decimal(raw if isinstance(raw, str) else str(_number(raw)))


def to_duration(raw: Any) -> timedelta:
    """Return the duration of a number of seconds."""
    return timedelta(seconds=to_float(raw))


def form_text(value: Any) -> str | None:
    """Return the text of a value in a form; None for a value that a form cannot express.

    Numbers, truth values, dates and UUIDs are written as text, members of an Enum as the texts of
    their values.
    """
    write = _WRITTEN.get(type(value))
    if write is not None:
        return write(value)
    if isinstance(value, Enum):
        return None if isinstance(value.value, Enum) else form_text(value.value)
    return value.isoformat() if isinstance(value, datetime | date) else None


def can_be_sent(text: str) -> bool:
    """Return whether a text can be encoded: half of a surrogate pair cannot."""
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
