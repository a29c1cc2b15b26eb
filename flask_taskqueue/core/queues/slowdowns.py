"""Slowdowns: how fast tasks are sent to a receiver that asked for less."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from ..errors import InvalidUrlError
from ..times import SECOND
from ..urls import leads_out, receiver_of
from .rates import FASTEST, stored_number

_FIRST = 10.0
"""The rate, in tasks a second, for a host that asks for less for the first time.

Nobody knows how fast it was; it is soon as fast again.
"""
_SLOWEST = 0.1
_RECOVERY = 30 * SECOND
_APART = SECOND
_LOOK_AGAIN = 30
"""The longest, in seconds, that a task waits for another look if its host is slow."""
_SOON = 8
"""How many tasks for unknown hosts are looked at again within a second, for each slot."""
SLOW = 2.0
"""The seconds from which on an attempt, with the look-up of its name, makes its host a slow one."""


def slowdown_target(queue: str, url: str, target: str | None) -> str:
    """Return the name of the receiver that may slow such tasks down.

    It is a host and port; the app's own routes count as one receiver per queue.

    >>> slowdown_target("mail", "https://example.com/hook", None)
    'example.com:443'
    >>> slowdown_target("mail", "/worker", None)
    '/mail'
    """
    if not leads_out(url, target):
        return f"/{queue}"
    try:
        return receiver_of(target or url)
    except InvalidUrlError:  # a row that was written by hand
        return ""


@dataclass(frozen=True, slots=True)
class Slowdown:
    """A receiver that answered 429 or 503, with Retry-After.

    From ``asked_at`` on it is sent ``rate`` tasks a second, and twice as many every half minute
    until it has recovered. ``empty_at`` is when its tokens were last used up. Instants are
    microseconds of the database's clock.
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
        """The receiver's name for people."""
        return (
            f"the app's own routes in queue {self.target[1:]}"
            if self.target.startswith("/")
            else self.target
        )

    @property
    def said(self) -> str:
        """The receiver's last answer."""
        return f"{self.status}, Retry-After {self.retry_after:g} s"

    @property
    def over_at(self) -> int:
        """When it has recovered, unless it asks for less again."""
        return self.asked_at + int(_RECOVERY * math.log2(FASTEST / self.rate))

    def rate_at(self, now: int) -> float:
        """Return how many tasks a second it gets at an instant after it asked."""
        recovered: float = 2.0 ** min(60.0, max(0, now - self.asked_at) / _RECOVERY)
        return min(FASTEST, self.rate * recovered)

    def tokens(self, now: int) -> int:
        """Return how many tasks may be sent now.

        These are the tokens that have gathered, of one second at most, but at least one as soon as
        there is one.
        """
        return int(self._filled(now) + 1e-9)

    def taken(self, now: int, number: int) -> Slowdown:
        """Return the slowdown after this number of tasks was sent."""
        return replace(
            self, empty_at=now - int((self._filled(now) - number) / self.rate_at(now) * SECOND)
        )

    def due_at(self, now: int, position: int, eta: int = 0) -> int:
        """Return when the postponed task at a ``position``, from 1, may be sent."""
        first = max(now, self.empty_at)
        growth = position * math.log(2) * SECOND / (self.rate_at(first) * _RECOVERY)
        return first + max(SECOND // 1000, int(_RECOVERY * math.log2(1 + growth)))

    def _filled(self, now: int) -> float:
        rate = self.rate_at(now)
        return min(max(1.0, rate), max(0, now - self.empty_at) / SECOND * rate)


@dataclass(frozen=True, slots=True)
class SlowHost:
    """A host whose latest attempt in this process took `SLOW` seconds or ran out of time.

    Until one is quicker, it may have a share of half of the slots in this process. ``room`` is the
    number of slots it may have now, ``half`` the number that all such hosts have together.
    """

    room: int
    half: int

    def tokens(self, now: int) -> int:
        """Return how many tasks may be sent now."""
        return self.room

    def taken(self, now: int, number: int) -> SlowHost:
        """Return the state after this number of tasks was sent."""
        return SlowHost(self.room - number, self.half)

    def due_at(self, now: int, position: int, eta: int = 0) -> int:
        """Return when a postponed task is looked at again."""
        return now + min(1 + position // self.half, _LOOK_AGAIN) * SECOND


@dataclass(slots=True, eq=False)
class UnknownHosts:
    """The hosts that have not answered this process quickly yet, while many others are slow.

    ``quick`` are those that have. ``room`` is the number of slots that all others may have now,
    which tasks use up as they are taken; ``half`` is the number that they have with slow hosts.
    """

    room: int
    half: int
    quick: Collection[str]

    def covers(self, target: str) -> bool:
        """Return whether a receiver is one of these hosts, if it is not known to be slow."""
        return not target.startswith("/") and target not in self.quick

    def tokens(self, now: int) -> int:
        """Return how many tasks may be sent now."""
        return self.room

    def taken(self, now: int, number: int) -> UnknownHosts:
        """Return the state after this number of tasks was sent."""
        self.room -= number
        return self

    def due_at(self, now: int, position: int, eta: int = 0) -> int:
        """Return when a postponed task is looked at again."""
        return now + min(1 + position // (_SOON * self.half), _LOOK_AGAIN) * SECOND


def slowed(
    before: Slowdown | None, target: str, now: int, status: int, retry_after: float
) -> Slowdown:
    """Return the slowdown of a receiver after a reply that asked for less.

    The receiver gets half of its former rate, or ten tasks a second to begin with. Several such
    replies within a second are one complaint, because requests that were under way cause them. How
    long the task itself waits is another matter: each reply speaks for its own task, so other tasks
    for the same receiver continue, at that rate.
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
    """Return the rate of a queue for the app's own routes; None without a limit."""
    slowdown = slowdowns.get(f"/{queue}")
    if slowdown is None:
        return rate
    return min(FASTEST if rate is None else stored_number(rate), slowdown.rate_at(now))
