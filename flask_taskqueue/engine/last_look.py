"""The last look at the lanes: what was seen to be due, and what each receiver may get of it."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable

import sqlalchemy as sa

from ..core.queues.circuits import Circuit
from ..core.queues.lanes import Lane, Lanes
from ..core.queues.slowdowns import SLOW, Slowdown, SlowHost, UnknownHosts, slowdown_target
from ..core.states import Record
from ..core.times import SECOND, lease_clock
from ..core.urls import leads_out
from ..store import AttemptResult, Claims

_MOST = 1000
"""The most slow hosts that are remembered."""
_MOST_QUICK = 10_000


class SlowHosts:
    """The hosts whose latest attempt in this process took long, whatever its outcome.

    While there are half as many of them as slots, or more, hosts that this process has not had a
    quick reply from yet share with them. Only the drain uses this object.
    """

    def __init__(self, slots: int) -> None:
        self._half = max(1, slots // 2)
        self._hosts: set[str] = set()
        self._quick: dict[str, None] = {}
        self._turns = 0

    def __bool__(self) -> bool:
        return bool(self._hosts)

    def note(self, results: Iterable[AttemptResult]) -> None:
        """Remember hosts that took long and those that did not."""
        for result in results:
            record = result.record
            if not leads_out(record.url, record.target):
                continue
            host = slowdown_target(record.queue, record.url, record.target)
            self._quick.pop(host, None)
            if result.outcome.reason != "timeout" and result.duration < SLOW:
                self._hosts.discard(host)
                self._quick[host] = None
                if len(self._quick) > _MOST_QUICK:
                    del self._quick[next(iter(self._quick))]
            elif len(self._hosts) < _MOST:
                self._hosts.add(host)

    def shares(self, running: Iterable[Record]) -> tuple[dict[str, SlowHost], UnknownHosts | None]:
        """Return how many tasks of each slow host may be claimed beside the ``running`` ones.

        All slow hosts together have half of the slots, and other hosts the rest. If unknown hosts
        share with them, their limit is returned as well.
        """
        if not self._hosts:
            return {}, None
        busy = Counter(
            slowdown_target(record.queue, record.url, record.target) for record in running
        )
        self._turns += 1
        unknown = None
        if len(self._hosts) >= self._half:
            unknown = UnknownHosts(0, self._half, self._quick)
        room = max(0, self._half - sum(busy[host] for host in busy if self._counts(host, unknown)))
        if unknown is not None:
            unknown.room = (room + self._turns % 2) // 2
            room -= unknown.room
        hosts = sorted(self._hosts)
        first = self._turns % len(hosts)
        shares = {}
        for left, host in zip(range(len(hosts), 0, -1), hosts[first:] + hosts[:first], strict=True):
            share = -(-room // left)  # rounded up: the first hosts get what is left over
            shares[host] = SlowHost(share, self._half)
            room -= share
        return shares, unknown

    def _counts(self, host: str, unknown: UnknownHosts | None) -> bool:
        return host in self._hosts or (unknown is not None and unknown.covers(host))


_SERVES = 0.05
"""The seconds for which a look serves while the tasks of its lanes keep coming."""

_GATE_AGAIN = 0.005
"""Half the first pause, in seconds, before looking again at a limited queue.

Other dispatchers decide about that queue too.
"""


class LeaseTrust:
    """Whether leases that seem to have run out may be taken for lost.

    After an outage of the database, and when its clock was set forward, the leases of dispatchers
    that live seem to have run out as well. The same happens after a transaction that has locked out
    all others, as one of the app does on SQLite: this dispatcher could not renew its leases for
    half a lease either. For half a lease none counts as lost then, so that everybody has renewed
    theirs.
    """

    def __init__(self, lease: float, renewed_at: Callable[[], float]) -> None:
        """Take the number of seconds that a lease lasts.

        ``renewed_at`` says when this dispatcher last renewed its own, on the clock of leases.
        """
        self._lease = lease
        self._renewed_at = renewed_at
        self._lost_until = -math.inf
        self._seen: tuple[int, float] | None = None

    def lose(self) -> None:
        """Treat no lease as lost for half a lease."""
        self._lost_until = lease_clock() + self._lease / 2

    def lasts(self) -> bool:
        """Return whether leases may be taken for lost now."""
        clock = lease_clock()
        if clock - self._renewed_at() > self._lease / 2:
            self.lose()
        return clock >= self._lost_until

    def earliest(self, now: int) -> int:
        """Return the instant before which no lease ends, given the database's time ``now``."""
        clock = lease_clock()
        if self._seen is not None:
            seen, at = self._seen
            if abs((now - seen) / SECOND - (clock - at)) > self._lease / 4:
                self.lose()
        self._seen = now, clock
        return now + int(max(0.0, self._lost_until - clock) * SECOND)


class LastLook:
    """The last look of one dispatcher, used only by its drain."""

    def __init__(
        self,
        claims: Claims,
        queues: Collection[str] | None,
        lease: float,
        renewed_at: Callable[[], float],
    ) -> None:
        self.lease_trust: LeaseTrust = LeaseTrust(lease, renewed_at)
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
        self.added: frozenset[str] = frozenset()
        """The queues that were added while the app ran, whose settings a claim reads."""
        self.forced: bool = False
        """Whether there may be tasks to claim that run whatever their queue."""
        self.slowdowns: dict[str, Slowdown | SlowHost | UnknownHosts | Circuit] = {}
        """The receivers that are slowed down or keep failing, and how much each may get."""

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
        lanes = lanes.with_leases_until(self.lease_trust.earliest(lanes.now))
        self.due, self.limited, self._looked_at = lanes.due(), frozenset(lanes.gates), now
        self.slowdowns, self.added = dict(lanes.slowdowns), lanes.added
        self.forced = lanes.forced
        next_in = lanes.next_in()
        self._next, self._next_at = lanes.next_lane(), now + next_in if next_in else None
        if lanes.expired():
            self._usual = self._next = None  # suspects wait for their turn
        return lanes

    def expired(self, lanes: Lanes | None) -> list[Lane]:
        """Return the lanes with leases that ran out and may be taken over, by now.

        Whoever asks may have waited for the database since the look.
        """
        return lanes.expired() if lanes is not None and self.lease_trust.lasts() else []

    def may_claim(self, lanes: Lanes | None) -> bool:
        """Return whether there may be anything to claim after a look that saw ``lanes``."""
        return self.forced or bool(self.due) or (lanes is not None and bool(lanes.expired()))

    def probable_lane(self, *, woken: bool) -> Lane | None:
        """Return the lane from which something can probably be claimed now.

        That is the lane that was to be due next or, when the dispatcher was ``woken``, the one that
        it claimed from last. None if there is no such lane.
        """
        if self.next_in == 0.0:
            return self._next if self._next is not None and self._is_open(self._next) else None
        return self._usual if woken else None

    def _is_open(self, lane: Lane) -> bool:
        """Return whether a lane may be claimed from without a look, as far as is known."""
        return lane.queue not in self.limited and lane.queue not in self.added

    def claimed(self, lane: Lane, found: int, *, wanted: int) -> None:
        """Note how many of the ``wanted`` tasks a claim has found."""
        if found and lane.queue not in self.added:
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
