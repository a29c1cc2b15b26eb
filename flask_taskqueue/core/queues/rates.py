"""Rates: how many tasks of a queue may start, and how soon."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from ..errors import ConfigurationError, shown
from ..times import LONGEST, SECOND

BUCKET_SIZE = 5
FASTEST = 500.0
"""The rate, in tasks a second, at which a slowed receiver has recovered: App Engine's highest."""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_TEXT = re.compile(r"0|([0-9]+(?:\.[0-9]*)?)/([smhd])", re.ASCII)
_HIGHEST = 1_000_000.0
_LOOK_AGAIN = SECOND // 10
_OVERTAKEN = 10 * SECOND
"""How far, in microseconds, a bucket may be ahead of a decision that others have overtaken."""
_LATE = 0.5
"""The number of tokens, below one, that a full bucket keeps beyond its size for a late start."""
_IDLE = 2.0
"""The number of extra tokens from which on no start was late: the queue had nothing to start."""


def parse_rate(text: object, *, what: str) -> float:
    """Return the tasks per second of a rate as queue.yaml writes it.

    >>> [parse_rate(text, what="rate") for text in ("30/m", "0.5/s", "0")]
    [0.5, 0.5, 0.0]

    Raises `ConfigurationError` naming ``what`` for anything else.
    """
    match = _TEXT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ConfigurationError(
            f"{what} is {text!r}; it must be a number and a unit, such as '20/m', '5/s', "
            "'0.5/h' or '100/d', or '0'"
        )
    rate = float(match[1]) / _UNITS[match[2]] if match[1] else 0.0
    if rate and not 1 / LONGEST <= rate <= _HIGHEST:
        raise ConfigurationError(
            f"{what} is {shown(text)}; it must be from one in a hundred years to "
            f"{_HIGHEST:.0f}/s, or '0'"
        )
    return rate


def rate_text(rate: object) -> str:
    """Return a rate as people write it, and as it is what somebody has written by hand.

    >>> rate_text(5), rate_text(0.5), rate_text(1 / 3600), rate_text(None)
    ('5/s', '30/m', '1/h', '-')
    """
    if not isinstance(rate, int | float):
        return "-" if rate is None else str(rate)
    return (
        f"{rate:g}/s"
        if rate >= 1 or rate == 0
        else f"{rate * 60:g}/m"
        if rate >= 1 / 60
        else f"{rate * 3600:g}/h"
    )


@dataclass(frozen=True, slots=True)
class Gate:
    """The limits of a queue, and what they let through at one instant of the database's clock.

    ``rate`` is in tasks per second; it and ``max_concurrent`` are None without a limit. The token
    bucket held ``tokens`` at ``filled_at``: it fills at the rate up to ``bucket_size``, and each
    start takes a token. So in any period, at most as many tasks start as the bucket's size plus the
    rate times the period. If a start is late, up to half a token of what flowed in meanwhile is
    kept, so that the following starts are not late too. Two starts may then be closer together, but
    no more of them fit into any period in which whole tokens flow in. Instants are in microseconds.
    """

    now: int
    rate: float | None = None
    bucket_size: int = BUCKET_SIZE
    max_concurrent: int | None = None
    tokens: float = 0.0
    filled_at: int = 0
    in_flight: int = 0

    @classmethod
    def stored(
        cls,
        now: int,
        *,
        rate: float | None,
        bucket_size: int,
        tokens: float | None = None,
        filled_at: int | None = None,
        max_concurrent: int | None = None,
        in_flight: int = 0,
    ) -> Gate:
        """Return the limits that the tables hold; a bucket that was never filled is full.

        A limit that somebody has written by hand and that is none, such as a text in SQLite or a
        rate below 0, counts as 0: nothing starts until it is set right. A bucket holds a token at
        least.
        """
        size = max(1, int(stored_number(bucket_size)))
        return cls(
            now=now,
            rate=None if rate is None else max(0.0, stored_number(rate)),
            bucket_size=size,
            max_concurrent=None
            if max_concurrent is None
            else max(0, int(stored_number(max_concurrent))),
            tokens=float(size) if filled_at is None else stored_number(tokens),
            filled_at=now if filled_at is None else int(stored_number(filled_at)),
            in_flight=in_flight,
        )

    @property
    def is_overtaken(self) -> bool:
        """Whether somebody else has decided meanwhile, so that the bucket was filled after now."""
        return self.now < self.filled_at < self.now + _OVERTAKEN

    @property
    def filled(self) -> float:
        """The number of tokens in the bucket now.

        A bucket that was filled far ahead of now, by a clock that has been set right since, counts
        as full: otherwise nothing would start until the clock is there again.
        """
        size = float(self.bucket_size)
        if self.filled_at >= self.now + _OVERTAKEN:
            return size
        passed = max(0, self.now - self.filled_at) / SECOND
        there = self.tokens + passed * (self.rate or 0.0)
        return size if there >= size + _IDLE else min(there, size + _LATE)

    @property
    def tokens_left(self) -> int | None:
        """The number of tasks the rate lets start now; None without a rate, 0 with a rate of 0."""
        if self.rate is None:
            return None
        return max(0, int(self.filled + 1e-9)) if self.rate > 0 else 0

    def allowed(self, wanted: int) -> int:
        """Return how many of ``wanted`` tasks may start now."""
        limits = [wanted]
        if self.tokens_left is not None:
            limits.append(self.tokens_left)
        if self.max_concurrent is not None:
            limits.append(max(0, self.max_concurrent - self.in_flight))
        return min(limits)

    def after(self, started: int) -> Gate:
        """Return what is left when a number of tasks have taken their tokens."""
        at = self.filled_at if self.is_overtaken else self.now
        return replace(self, tokens=self.filled - started, filled_at=at)

    def opens_at(self) -> int | None:
        """Return when it is worth looking again: now if a task may start, None with a rate of 0.

        When ``max_concurrent`` tasks are in flight, the gate opens as soon as one ends; if that
        happens in another process, it is noticed by looking again soon.
        """
        if self.tokens_left == 0:
            return self.now + int((1 - self.filled) / self.rate * SECOND) + 1 if self.rate else None
        return self.now if self.allowed(1) else self.now + _LOOK_AGAIN


def stored_number(value: object) -> float:
    """Return a number of a table; 0 for what is none, which somebody has written by hand."""
    return value if isinstance(value, int | float) and math.isfinite(value) else 0


def bucket_key(queue: str) -> str:
    """Return the key whose row holds the token bucket of a queue.

    >>> bucket_key("mail")
    'q:mail'
    """
    return f"q:{queue}"
