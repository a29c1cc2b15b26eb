"""Taking tasks: which to lease, as many as slots are free."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypedDict

import sqlalchemy as sa

from ..core.fairness import Lane, Lanes
from ..core.ids import lease_id
from ..core.record import Record
from ..core.suspicion import may_take_others, may_take_suspect
from ..store import Claims, Result

_LOOK_AGAIN = 0.05
"""Seconds that a look at the lanes serves for while their tasks keep coming."""


class Terms(TypedDict):
    """How a lease is taken."""

    lease_id: str
    held_by: str
    lease: float


@dataclass(frozen=True, slots=True)
class Running:
    """What matters of a delivery that is under way: for how many seconds, and whether it is a suspect."""

    age: float
    suspect: bool


class Taking:
    """Looks at the lanes and leases from them, for one dispatcher."""

    def __init__(self, claims: Claims, *, queues: Collection[str] | None, held_by: str, lease: float) -> None:
        self._claims = claims
        self._queues = queues
        self._held_by = held_by
        self._lease = lease
        self._due: list[Lane] = []
        self._limited: frozenset[str] = frozenset()
        self._looked_at = 0.0
        self._usual: Lane | None = None
        self._next: Lane | None = None
        self._next_at: float | None = None

    @property
    def next_in(self) -> float | None:
        """Seconds until something can be taken that the last look saw; None when nothing waited, or what did was due already."""
        return None if self._next_at is None else max(0.0, self._next_at - time.monotonic())

    def look(self, connection: sa.Connection, *, afresh: bool) -> Lanes | None:
        """See what is due; None while the last look still serves, unless ``afresh``."""
        now = time.monotonic()
        if self._due and not afresh and now - self._looked_at < _LOOK_AGAIN:
            return None
        lanes = self._claims.lanes(connection, self._queues)
        self._due, self._limited, self._looked_at = lanes.due(), frozenset(lanes.gates), now
        next_in = lanes.next_in()
        self._next, self._next_at = lanes.next_lane(), now + next_in if next_in else None
        if lanes.expired():
            self._usual = self._next = None  # suspects wait for their turn
        return lanes

    def likely(self, *, woken: bool) -> Lane | None:
        """The lane from which something can probably be taken now: the one that the last look saw to be due next, or the usual one."""
        if self.next_in == 0.0:
            return self._next
        return self._usual if woken else None

    def guess(self, connection: sa.Connection, lane: Lane, most: int) -> list[Record]:
        """Lease up to so many tasks without a look, which would cost as much again; nothing from a queue that is paused or limited."""
        return self._claims.claim_unseen(connection, lane, most, **self._terms())

    def ended(self) -> list[Result]:
        """What became of tasks that were ended, since this was last asked, instead of being taken over."""
        found = list(self._claims.ended.values())
        self._claims.ended.clear()
        return found

    def may_take(self, lanes: Lanes | None) -> bool:
        """Whether there may be anything to take, after a look."""
        return bool(self._due) or (lanes is not None and bool(lanes.expired()))

    def take(self, connection: sa.Connection, lanes: Lanes | None, free: int, running: Sequence[Running]) -> list[Record]:
        """Lease up to ``free`` tasks; a suspect alone, beside nothing young."""
        if free <= 0 or not may_take_others(one.age for one in running if one.suspect):
            return []
        for lane in lanes.expired() if lanes is not None else ():
            # Until the suspect can be attempted nothing else is begun either, so that its turn comes.
            if not may_take_suspect(one.age for one in running):
                return []
            suspect = self._claims.take_over(connection, lane, limited=lane.queue in self._limited, **self._terms())
            if suspect is not None:
                return [suspect]
        return self._claim(connection, free)

    def _claim(self, connection: sa.Connection, free: int) -> list[Record]:
        taken: list[Record] = []
        for lane in list(self._due):
            wanted = free - len(taken)
            if wanted <= 0:
                break
            found = self._claims.claim(connection, lane, wanted, limited=lane.queue in self._limited, **self._terms())
            taken += found
            if found:
                self._usual = lane
            if len(found) < wanted:
                self._due = [other for other in self._due if other is not lane]
        return taken

    def _terms(self) -> Terms:
        return {"lease_id": lease_id(), "held_by": self._held_by, "lease": self._lease}
