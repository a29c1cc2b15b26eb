"""The claimer: which tasks to lease, as many as the pool has room for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict, TypeVar

import sqlalchemy as sa

from ..core.delivery.delivery import Delivery
from ..core.errors import TaskQueueError
from ..core.ids import lease_id
from ..core.queues.lanes import Lane, Lanes
from ..core.queues.poison import is_poison, may_take_suspect
from ..core.queues.slowdowns import Silence, Slowdown, slowable
from ..core.record import Record
from ..core.states import State
from ..store import Claims, LockedError, Result, Wait

T = TypeVar("T")

_LOOK_AGAIN = 0.05
"""Seconds that a look at the lanes serves for while their tasks keep coming."""


_GATE_AGAIN = 0.005
"""Half the seconds after which a queue with limits is looked at again that others decide about."""

_REFUSALS = 20
"""How many tasks of which something is locked one turn goes past."""


_MOST_SILENT = 1000


class Transact(Protocol):
    """`Database.transact`."""

    def __call__(self, work: Callable[[sa.Connection], T], *, wait: Wait) -> T: ...


class Terms(TypedDict):
    """How a lease is taken."""

    lease_id: str
    held_by: str
    lease: float


@dataclass(frozen=True, slots=True)
class Running:
    """A delivery that is under way, and for how many seconds."""

    delivery: Delivery
    age: float


@dataclass(frozen=True, slots=True)
class Claimed:
    """What was leased: any number of tasks, or ``alone`` a suspect."""

    records: list[Record]
    alone: bool = False
    again: bool = False
    """Whether others were put off because their receivers are slowed, so that another look
    would see something else.
    """


class Claimer:
    """Looks at the lanes and leases from them, for one dispatcher."""

    def __init__(
        self,
        claims: Claims,
        *,
        queues: Collection[str] | None,
        held_by: str,
        lease: float,
        slots: int,
    ) -> None:
        self._claims = claims
        self._half = max(1, slots // 2)
        self._queues = queues
        self._held_by = held_by
        self._lease = lease
        self._due: list[Lane] = []
        self._limited: frozenset[str] = frozenset()
        self._slowdowns: dict[str, Slowdown | Silence] = {}
        self._silent: set[str] = set()
        """Hosts whose latest attempt here got no answer."""
        self._turns = 0
        self._looked_at = 0.0
        self._usual: Lane | None = None
        self._next: Lane | None = None
        self._next_at: float | None = None
        self._vain = 0
        self._suspects_turn = True
        self._tried: tuple[Lane, State] | None = None
        """Where the last attempt to take something was made."""

    @property
    def next_in(self) -> float | None:
        """Seconds until something can be taken that the last look saw; None when nothing
        waited, or what did was due already.
        """
        return None if self._next_at is None else max(0.0, self._next_at - time.monotonic())

    def forget_look(self) -> None:
        """See everything anew at the next look: something has changed since the last one."""
        self._due = []

    def look(self, connection: sa.Connection) -> Lanes | None:
        """See what is due; None while the last look still serves."""
        if self._due and time.monotonic() - self._looked_at < _LOOK_AGAIN:
            return None
        return self.look_anew(connection)

    def look_anew(self, connection: sa.Connection) -> Lanes:
        """See what is due."""
        now = time.monotonic()
        lanes = self._claims.lanes(connection, self._queues)
        self._due, self._limited, self._looked_at = lanes.due(), frozenset(lanes.gates), now
        self._slowdowns = dict(lanes.slowdowns)
        next_in = lanes.next_in()
        self._next, self._next_at = lanes.next_lane(), now + next_in if next_in else None
        if lanes.expired():
            self._usual = self._next = None  # suspects wait for their turn
        return lanes

    def probable_lane(self, *, woken: bool) -> Lane | None:
        """The lane from which something can probably be taken now: the one that the last look
        saw to be due next, or the usual one.
        """
        if self._silent:
            return None
        if self.next_in == 0.0:
            return None if self._next is None or self._next.queue in self._limited else self._next
        return self._usual if woken else None

    def claim_unseen(self, connection: sa.Connection, lane: Lane, most: int) -> list[Record]:
        """Lease up to so many tasks without a look, which would cost as much again; nothing
        from a queue that is paused or limited.
        """
        return self._forgiven(
            connection, self._claims.claim_unseen(connection, lane, most, **self._terms()), [], 0
        )

    def note(self, results: Iterable[Result]) -> None:
        """Remember which hosts do not answer, so that one of them does not take every slot; one
        that answers is forgotten.
        """
        for one in results:
            if one.record.target is None and one.record.url.startswith("/"):
                continue
            host = slowable(one.record.queue, one.record.url, one.record.target)
            if one.outcome.reason != "timeout":
                self._silent.discard(host)
            elif len(self._silent) < _MOST_SILENT:
                self._silent.add(host)

    def ended(self) -> list[Result]:
        """What became of tasks that were ended, since this was last asked, instead of being
        taken over.
        """
        found = list(self._claims.ended.values())
        self._claims.ended.clear()
        return found

    def may_take(self, lanes: Lanes | None) -> bool:
        """Whether there may be anything to take, after a look."""
        return bool(self._due) or (lanes is not None and bool(lanes.expired()))

    def take(
        self,
        connection: sa.Connection,
        lanes: Lanes | None,
        free: int,
        running: Sequence[Running],
        beside: int = 0,
    ) -> Claimed:
        """Lease up to ``free`` tasks, those whose lease ran out like any other; or one suspect, to
        be tried alone.

        Each time one was tried, what is due goes first. ``beside`` says how many others were taken
        that are not yet begun.
        """
        if free <= 0 or any(one.age < one.delivery.alone_for for one in running):
            return Claimed([])
        expired = lanes.expired() if lanes is not None else []
        if self._suspects_turn and not beside and not any(one.delivery.suspect for one in running):
            trial = self._try_suspect(connection, expired, running)
            if trial is not None:
                self._suspects_turn = not trial.alone
                return trial
        self._suspects_turn = True
        self._see_silence(running)
        self._claims.put_off_any = False
        records = self._forgiven(
            connection, self._take_others(connection, expired, free), running, beside
        )
        again = self._claims.put_off_any
        if again:
            self.forget_look()
        return Claimed(records, again=again)

    def _see_silence(self, running: Sequence[Running]) -> None:
        """Let all hosts that do not answer have half of the slots here together, so that others
        have the rest.
        """
        if not self._silent:
            return
        records = [one.delivery.record for one in running]
        busy = Counter(slowable(one.queue, one.url, one.target) for one in records)
        room = max(0, self._half - sum(busy[host] for host in self._silent))
        self._turns += 1
        hosts = sorted(self._silent)
        first = self._turns % len(hosts)
        for left, host in zip(range(len(hosts), 0, -1), hosts[first:] + hosts[:first], strict=True):
            share = -(
                -room // left
            )  # rounded up, so that what is left over goes to those whose turn is first
            self._slowdowns.setdefault(host, Silence(share, self._half))
            room -= share

    def take_singly(
        self, transact: Transact, lanes: Lanes, free: int, running: Sequence[Running]
    ) -> Claimed:
        """As `take`, but each in a transaction of its own, which waits for nobody.

        A task that cannot be taken because something of it is locked (its key, its batch, what
        follows its end) is looked at again a moment later, and others are taken instead.
        """
        taken: list[Record] = []
        again = False
        for _ in range(max(0, free) + _REFUSALS):
            if len(taken) >= free:
                break
            try:
                found = self._take_one(transact, lanes, running, len(taken))
            except (TaskQueueError, sa.exc.DBAPIError):
                if not taken:
                    raise
                break  # what has been taken is begun
            if found is None:
                continue
            taken += found.records
            again |= found.again
            if found.alone:
                return found
            if not found.records or is_poison(found.records[0]):
                break
        return Claimed(taken, again=again)

    def _take_one(
        self, transact: Transact, lanes: Lanes, running: Sequence[Running], beside: int
    ) -> Claimed | None:
        """Lease the next task; None if it was put off."""

        def work(connection: sa.Connection) -> Claimed:
            self._due, self._tried = lanes.due(), None
            return self.take(connection, lanes, 1, running, beside)

        try:
            return transact(work, wait=Wait.NOT)
        except LockedError:
            if self._tried is None:
                raise
            lane, state = self._tried
            transact(
                lambda connection: self._claims.put_off(connection, lane, state), wait=Wait.NOT
            )
            return None

    def _try_suspect(
        self, connection: sa.Connection, expired: Sequence[Lane], running: Sequence[Running]
    ) -> Claimed | None:
        """The first suspect whose lease ran out; until it can be tried nothing else is taken,
        so that its turn comes. None without one.
        """
        for lane in expired:
            if not self._claims.has_suspect(connection, lane):
                continue
            if not may_take_suspect(one.age for one in running):
                return Claimed([])
            suspect = self._take_over(connection, lane, suspects=True)
            if suspect is not None:
                return Claimed([suspect], alone=True)
        return None

    def _take_others(
        self, connection: sa.Connection, expired: Sequence[Lane], free: int
    ) -> list[Record]:
        taken: list[Record] = []
        for lane in sorted({*self._due, *expired}, key=lambda one: one.rank):
            if lane in expired:
                while (
                    len(taken) < free
                    and (one := self._take_over(connection, lane, suspects=False)) is not None
                ):
                    taken.append(one)
            if lane in self._due and len(taken) < free:
                taken += self._claim(connection, lane, free - len(taken))
        return taken

    def _take_over(self, connection: sa.Connection, lane: Lane, *, suspects: bool) -> Record | None:
        self._tried = lane, State.LEASED
        return self._claims.take_over(
            connection,
            lane,
            suspects=suspects,
            limited=lane.queue in self._limited,
            **self._terms(),
        )

    def _claim(self, connection: sa.Connection, lane: Lane, wanted: int) -> list[Record]:
        self._tried = lane, State.SCHEDULED
        limited = lane.queue in self._limited
        found = self._claims.claim(
            connection, lane, wanted, limited=limited, slowdowns=self._slowdowns, **self._terms()
        )
        if found:
            self._usual = lane
        if lane.queue in self._limited:
            self._see_gate_again(lane, in_vain=not found)
        if len(found) < wanted:
            self._due = [other for other in self._due if other is not lane]
        return found

    def _see_gate_again(self, lane: Lane, *, in_vain: bool) -> None:
        """What a look saw to be open was not: another dispatcher decides at this moment, or has
        taken the token. Look again soon.
        """
        self._vain = self._vain + 1 if in_vain else 0
        if in_vain:
            self._next, self._next_at = (
                lane,
                time.monotonic() + min(1.0, _GATE_AGAIN * 2 ** min(self._vain, 8)),
            )

    def _forgiven(
        self,
        connection: sa.Connection,
        taken: list[Record],
        running: Sequence[Running],
        beside: int,
    ) -> list[Record]:
        """What was taken. Should the process die now, no suspect was alone in it: the crash
        will condemn none.
        """
        suspects = [one.delivery.lease for one in running if one.delivery.suspect]
        suspects += [(one.id, one.lease_id or "") for one in taken if is_poison(one)]
        if suspects and taken and len(taken) + len(running) + beside > 1:
            self._claims.forgive(connection, suspects)
        return taken

    def _terms(self) -> Terms:
        return {"lease_id": lease_id(), "held_by": self._held_by, "lease": self._lease}
