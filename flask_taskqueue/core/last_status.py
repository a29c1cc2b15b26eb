"""The last status of a task, as a filter has it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .checks import nearest

REASONS = ("success", "failure", "permanent", "timeout", "connection", "tls", "refused", "crash", "expired", "replaced")
"""What a task's last attempt, or its end, is put down to."""

_STATUS = re.compile(r"([1-5])(xx|[0-9]{2})", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LastStatus:
    """Which tasks to find: those whose last reply had a status from ``low`` to ``high``, or those with a ``reason``."""

    low: int = 0
    high: int = 0
    reason: str | None = None

    @classmethod
    def parse(cls, text: str | int) -> LastStatus:
        """A status ("502"), a class of them ("5xx"), or a reason ("timeout").

        >>> LastStatus.parse("5xx")
        LastStatus(low=500, high=599, reason=None)

        Raises ValueError for anything else.
        """
        word = str(text).strip().lower()
        match = _STATUS.fullmatch(word)
        if match is not None:
            first = int(match[1]) * 100
            return cls(first, first + 99) if match[2] == "xx" else cls(int(word), int(word))
        if word not in REASONS:
            raise ValueError(f"status is {text!r}; it must be such as 502, a class such as 5xx, or a reason{nearest(word, REASONS)}")
        return cls(reason=word)
