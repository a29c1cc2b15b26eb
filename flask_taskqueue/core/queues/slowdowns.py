"""Slowdowns: what a receiver is given since it asked for less."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ..clock import SECOND
from ..errors import InvalidUrlError
from ..urls import is_absolute, receiver_of
from .rates import FASTEST

_FIRST = 10.0
"""Tasks a second that a host is given when it first asks for less. Nobody knows how fast it
was; it soon is as fast again.
"""
_SLOWEST = 0.1
_RECOVERY = 30 * SECOND
_APART = SECOND
_LOOK_AGAIN = 30
"""The longest, in seconds, that a task waits for another look whose host did not answer."""


def slowdown_target(queue: str, url: str, target: str | None) -> str:
    """Who decides how fast such tasks may come: a host and port, or of the application's own routes
    those of one queue.

    >>> slowdown_target("mail", "https://example.com/hook", None)
    'example.com:443'
    >>> slowdown_target("mail", "/worker", None)
    '/mail'
    """
    if target is None and not is_absolute(url):
        return f"/{queue}"
    try:
        return receiver_of(target or url)
    except InvalidUrlError:  # a row that was written by hand
        return ""


@dataclass(frozen=True, slots=True)
class Slowdown:
    """One receiver that answered 429 or 503, with Retry-After; instants are microseconds of the
    database's clock.

    Since ``asked_at`` it is given ``rate`` tasks a second, twice as many every half minute until it
    is as fast as ever. ``empty_at`` is when what it may be given was last used up.
    """

    target: str
    slowed_at: int
    asked_at: int
    status: int
    retry_after: float
    rate: float
    empty_at: int

    @property
    def name(self) -> str:
        """Who it is, for people."""
        return (
            f"the app's own routes in queue {self.target[1:]}"
            if self.target.startswith("/")
            else self.target
        )

    @property
    def said(self) -> str:
        """What it answered last."""
        return f"{self.status}, Retry-After {self.retry_after:g} s"

    @property
    def over_at(self) -> int:
        """When it is as fast as ever, unless it asks again."""
        return self.asked_at + int(_RECOVERY * math.log2(FASTEST / self.rate))

    def rate_at(self, now: int) -> float:
        """Tasks a second at an instant after it asked."""
        recovered: float = 2.0 ** min(60.0, max(0, now - self.asked_at) / _RECOVERY)
        return min(FASTEST, self.rate * recovered)

    def tokens(self, now: int) -> int:
        """How many may be sent now: what has gathered, for a second at most, but one at least
        once it has.
        """
        return int(self._filled(now) + 1e-9)

    def taken(self, now: int, number: int) -> Slowdown:
        """After so many were sent."""
        return replace(
            self, empty_at=now - int((self._filled(now) - number) / self.rate_at(now) * SECOND)
        )

    def turn(self, now: int, place: int) -> int:
        """When a task that is put off may be sent, as the first, the second, ... of those that
        wait.
        """
        first = max(now, self.empty_at)
        growth = place * math.log(2) * SECOND / (self.rate_at(first) * _RECOVERY)
        return first + max(SECOND // 1000, int(_RECOVERY * math.log2(1 + growth)))

    def _filled(self, now: int) -> float:
        rate = self.rate_at(now)
        return min(max(1.0, rate), max(0, now - self.empty_at) / SECOND * rate)


@dataclass(frozen=True, slots=True)
class SilentHost:
    """A host whose latest attempt in this process ran out of time: it may have a share of half of
    the slots here, until it answers.

    ``room`` is how many that is now; ``half`` is what all such hosts have together.
    """

    room: int
    half: int

    def tokens(self, now: int) -> int:
        """How many may be sent now."""
        return self.room

    def taken(self, now: int, number: int) -> SilentHost:
        """After so many were sent."""
        return SilentHost(self.room - number, self.half)

    def turn(self, now: int, place: int) -> int:
        """When a task that is put off is looked at again."""
        return now + min(1 + place // self.half, _LOOK_AGAIN) * SECOND


def slowed(
    before: Slowdown | None, target: str, now: int, status: int, retry_after: float
) -> Slowdown:
    """A receiver after a reply that asked for less: it is given half of what it was, or to begin
    with ten tasks a second.

    What requests under way bring, several such replies within a second, is one complaint. How long
    the task itself waits is another matter: each speaks for itself, so others for the same receiver
    go on, at that rate.
    """
    if before is None:
        return Slowdown(
            target,
            now,
            now,
            status,
            retry_after,
            FASTEST / 2 if target.startswith("/") else _FIRST,
            now,
        )
    if now < before.asked_at + _APART:
        return replace(before, status=status, retry_after=retry_after)
    rate = max(_SLOWEST, before.rate_at(now) / 2)
    return replace(
        before,
        asked_at=now,
        status=status,
        retry_after=retry_after,
        rate=rate,
        empty_at=max(before.empty_at, now),
    )


def enforced(
    rate: float | None, queue: str, slowdowns: Mapping[str, Slowdown], now: int
) -> float | None:
    """The rate of a queue for the application's own routes; None without a limit."""
    one = slowdowns.get(f"/{queue}")
    return rate if one is None else min(FASTEST if rate is None else rate, one.rate_at(now))
