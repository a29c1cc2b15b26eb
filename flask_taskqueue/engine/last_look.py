"""The last look at the lanes: what a dispatcher saw to be due, and what follows from it."""

from __future__ import annotations

import time
from collections.abc import Collection

import sqlalchemy as sa

from ..core.queues.lanes import Lane, Lanes
from ..core.queues.slowdowns import SilentHost, Slowdown
from ..store import Claims

_SERVES = 0.05
"""The seconds for which a look serves while the tasks of its lanes keep coming."""

_GATE_AGAIN = 0.005
"""Half the first pause, in seconds, before looking again at a limited queue.

Other dispatchers decide about that queue too.
"""


class LastLook:
    """The last look of one dispatcher, used only by its drain."""

    def __init__(self, claims: Claims, queues: Collection[str] | None) -> None:
        self._claims = claims
        self._queues = queues
        self._looked_at = 0.0
        self._usual: Lane | None = None
        self._next: Lane | None = None
        self._next_at: float | None = None
        self._in_vain = 0
        self.due: list[Lane] = []
        """The lanes from which something can be claimed, as far as is known."""
        self.limited: frozenset[str] = frozenset()
        """The queues that have limits."""
        self.slowdowns: dict[str, Slowdown | SilentHost] = {}
        """The receivers that are slowed down, and how much each may get."""

    @property
    def next_in(self) -> float | None:
        """The seconds until something that was not due can be claimed.

        None when nothing waited, or when everything that waited was due already.
        """
        return None if self._next_at is None else max(0.0, self._next_at - time.monotonic())

    def forget(self) -> None:
        """Make the next `look` read everything anew, because something has changed."""
        self.due = []

    def look(self, connection: sa.Connection) -> Lanes | None:
        """Read what is due; return None while the last look still serves."""
        if self.due and time.monotonic() - self._looked_at < _SERVES:
            return None
        return self.look_anew(connection)

    def look_anew(self, connection: sa.Connection) -> Lanes:
        """Read what is due, even while the last look still serves."""
        now = time.monotonic()
        lanes = self._claims.lanes(connection, self._queues)
        self.due, self.limited, self._looked_at = lanes.due(), frozenset(lanes.gates), now
        self.slowdowns = dict(lanes.slowdowns)
        next_in = lanes.next_in()
        self._next, self._next_at = lanes.next_lane(), now + next_in if next_in else None
        if lanes.expired():
            self._usual = self._next = None  # suspects wait for their turn
        return lanes

    def may_claim(self, lanes: Lanes | None) -> bool:
        """Return whether there may be anything to claim after a look that saw ``lanes``."""
        return bool(self.due) or (lanes is not None and bool(lanes.expired()))

    def probable_lane(self, *, woken: bool) -> Lane | None:
        """Return the lane from which something can probably be claimed now.

        That is the lane that was to be due next or, when the dispatcher was ``woken``, the one that
        it claimed from last. None if there is no such lane.
        """
        if self.next_in == 0.0:
            return None if self._next is None or self._next.queue in self.limited else self._next
        return self._usual if woken else None

    def claimed(self, lane: Lane, found: int, *, wanted: int) -> None:
        """Note how many of the ``wanted`` tasks a claim has found."""
        if found:
            self._usual = lane
        if lane.queue in self.limited:
            self._look_at_gate_again(lane, in_vain=not found)
        if found < wanted:
            self.due = [other for other in self.due if other is not lane]

    def _look_at_gate_again(self, lane: Lane, *, in_vain: bool) -> None:
        """Look again soon if a gate that was open no longer is.

        Another dispatcher is deciding at this moment, or has taken the token.
        """
        self._in_vain = self._in_vain + 1 if in_vain else 0
        if in_vain:
            pause = min(1.0, _GATE_AGAIN * 2 ** min(self._in_vain, 8))
            self._next, self._next_at = lane, time.monotonic() + pause
