"""How values are written on a page."""

from __future__ import annotations

from datetime import timedelta

from ..core.rates import rate_text
from ..core.spans import relative, span
from ..store import CAP

NONE = "\N{EN DASH}"

__all__ = ["capped", "number", "percent", "rate", "relative", "seconds"]


def number(value: int | float | None) -> str:
    """A count, with separators; a dash for none."""
    return NONE if value is None else f"{value:,}"


def capped(value: int) -> str:
    """A count that ends somewhere."""
    return f"{CAP:,}+" if value >= CAP else f"{value:,}"


def percent(part: int, whole: int) -> str:
    """A share; never 100 % unless it is all."""
    if not whole:
        return NONE
    return "100 %" if part == whole else f"{min(part / whole * 100, 99.9):.1f} %"


def seconds(value: float | timedelta | None) -> str:
    """A duration; a dash for none."""
    if value is None:
        return NONE
    return span(value.total_seconds() if isinstance(value, timedelta) else value)


def rate(per_second: float | None) -> str:
    """A queue's rate; a dash for no limit."""
    return NONE if per_second is None else rate_text(per_second)
