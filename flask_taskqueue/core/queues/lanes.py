"""Lanes, and the order in which tasks are taken from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from ..times import SECOND
from .circuits import Circuit
from .rates import Gate
from .slowdowns import Slowdown

PRIORITIES = range(-9, 10)
AGEING = 60 * SECOND
"""The worth of one step of priority: a minute of waiting, so that low priorities get their turn."""


@dataclass(frozen=True, slots=True)
class Lane:
    """The tasks of one queue with one priority, and when the first of them is due.

    ``due_at`` is when the first scheduled task is due, ``expires_at`` when the first lease runs
    out; both in microseconds, None if there is none.
    """

    queue: str
    priority: int
    due_at: int | None
    expires_at: int | None

    @property
    def rank(self) -> int:
        """The number by which lanes are sorted: the earlier due, or out of lease, comes first.

        Each step of priority counts as a minute of waiting.
        """
        first = min(
            (instant for instant in (self.due_at, self.expires_at) if instant is not None),
            default=0,
        )
        return first - self.priority * AGEING


@dataclass(frozen=True, slots=True)
class Lanes:
    """The lanes from which tasks could be taken, at one instant of the database's clock.

    ``gates`` are the limits of the queues that have any, ``slowdowns`` those of receivers, and
    ``added`` the queues that are added rather than configured. ``forced`` says whether any task is
    to run whatever its queue.
    """

    now: int
    lanes: tuple[Lane, ...]
    gates: Mapping[str, Gate] = field(default_factory=dict)
    slowdowns: Mapping[str, Slowdown | Circuit] = field(default_factory=dict)
    added: frozenset[str] = frozenset()
    forced: bool = False

    def with_leases_until(self, earliest: int) -> Lanes:
        """Return the same lanes, but with no lease that ends before an instant."""
        if earliest <= self.now:
            return self
        lanes = (
            lane
            if lane.expires_at is None
            else replace(lane, expires_at=max(lane.expires_at, earliest))
            for lane in self.lanes
        )
        return replace(self, lanes=tuple(lanes))

    def due(self) -> list[Lane]:
        """Return the lanes whose first task is due and may start, in the order to take them."""
        found = (
            lane for lane in self.lanes if _reached(lane.due_at, self.now) and self._allows(lane)
        )
        return sorted(found, key=lambda lane: lane.rank)

    def expired(self) -> list[Lane]:
        """Return the lanes with a lease that has run out, the longest ago first.

        A task that is taken over this way already counts as in flight.
        """
        found = (
            lane
            for lane in self.lanes
            if _reached(lane.expires_at, self.now) and self._has_tokens(lane)
        )
        return sorted(found, key=lambda lane: lane.expires_at or 0)

    def next_in(self) -> float | None:
        """Return the seconds until a task can be taken; None if nothing waits."""
        first = min((instant for instant, _ in self._instants()), default=None)
        return None if first is None else max(0.0, (first - self.now) / SECOND)

    def next_lane(self) -> Lane | None:
        """Return the lane from which a task can be taken next; None if nothing waits."""
        return min(self._instants(), key=lambda found: found[0], default=(0, None))[1]

    def _allows(self, lane: Lane) -> bool:
        gate = self.gates.get(lane.queue)
        return gate is None or gate.allowed(1) > 0

    def _has_tokens(self, lane: Lane) -> bool:
        gate = self.gates.get(lane.queue)
        return gate is None or gate.tokens_left != 0

    def _instants(self) -> Iterator[tuple[int, Lane]]:
        """Yield when a task can be taken, and from which lane."""
        for lane in self.lanes:
            gate = self.gates.get(lane.queue)
            opens_at = 0 if gate is None else gate.opens_at()
            if opens_at is not None:
                yield from (
                    (max(instant, opens_at), lane)
                    for instant in (lane.due_at, lane.expires_at)
                    if instant is not None
                )


def _reached(instant: int | None, now: int) -> bool:
    return instant is not None and instant <= now
