"""Which lane goes first: the order in which tasks are taken."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .clock import SECOND

PRIORITIES = range(-9, 10)
AGEING = 60 * SECOND
"""What one step of priority is worth: a minute of waiting, so that nothing starves."""


@dataclass(frozen=True, slots=True)
class Lane:
    """The tasks of one queue with one priority, and when the first of them is due.

    ``due_at`` is that of the first scheduled task, ``expires_at`` that of the first lease to run
    out; microseconds, None when there is none.
    """

    queue: str
    priority: int
    due_at: int | None
    expires_at: int | None

    @property
    def rank(self) -> int:
        """Sorts lanes: the earlier due first, each step of priority counting as a minute of waiting."""
        due = self.expires_at if self.due_at is None else self.due_at
        return (due or 0) - self.priority * AGEING


@dataclass(frozen=True, slots=True)
class Lanes:
    """What could be taken, seen at one instant of the database's clock."""

    now: int
    lanes: tuple[Lane, ...]

    def due(self) -> list[Lane]:
        """The lanes with a task that is due, the one to take from first in front."""
        return sorted((lane for lane in self.lanes if _reached(lane.due_at, self.now)), key=lambda lane: lane.rank)

    def expired(self) -> list[Lane]:
        """The lanes with a lease that has run out, the longest ago in front."""
        found = (lane for lane in self.lanes if _reached(lane.expires_at, self.now))
        return sorted(found, key=lambda lane: lane.expires_at or 0)

    def next_in(self) -> float | None:
        """Seconds until something can be taken; None when nothing waits."""
        instants = _instants(self.lanes)
        first = min(instants, default=None)
        return None if first is None else max(0.0, (first - self.now) / SECOND)


def _reached(instant: int | None, now: int) -> bool:
    return instant is not None and instant <= now


def _instants(lanes: Iterable[Lane]) -> list[int]:
    return [instant for lane in lanes for instant in (lane.due_at, lane.expires_at) if instant is not None]
