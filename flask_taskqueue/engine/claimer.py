"""The claimer: which tasks to lease, as many as the pool has room for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import TypedDict

import sqlalchemy as sa

from ..core.delivery.delivery import Delivery
from ..core.errors import TaskQueueError
from ..core.ids import lease_id
from ..core.queues.lanes import Lane, Lanes
from ..core.queues.poison import is_poison, may_take_suspect
from ..core.record import Record
from ..core.states import State
from ..store import AttemptResult, Claims, LockedError, Store, Wait
from .last_look import LastLook
from .silent_hosts import SilentHosts

_REFUSALS = 20
"""How many tasks of which something is locked one turn goes past."""


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
    """Leases tasks for one dispatcher, from the lanes that its last look saw."""

    def __init__(
        self,
        claims: Claims,
        *,
        queues: Collection[str] | None,
        held_by: str,
        lease: float,
        slots: int,
    ) -> None:
        self.last_look = LastLook(claims, queues)
        self._claims = claims
        self._held_by = held_by
        self._lease = lease
        self._silent = SilentHosts(slots)
        self._suspects_turn = True
        self._tried: tuple[Lane, State] | None = None
        """Where the last attempt to claim something was made."""

    def probable_lane(self, *, woken: bool) -> Lane | None:
        """As `LastLook.probable_lane`; None while hosts do not answer, for a look gives shares."""
        return None if self._silent else self.last_look.probable_lane(woken=woken)

    def claim_unseen(self, connection: sa.Connection, lane: Lane, most: int) -> list[Record]:
        """Lease up to so many tasks without a look, which would cost as much again; nothing
        from a queue that is paused or limited.
        """
        return self._forgiven(
            connection, self._claims.claim_unseen(connection, lane, most, **self._terms()), [], 0
        )

    def note(self, results: Iterable[AttemptResult]) -> None:
        """Remember which hosts do not answer, so that they do not take every slot."""
        self._silent.note(results)

    def ended(self) -> list[AttemptResult]:
        """Return what became of tasks that were ended instead of being taken over, once each."""
        found = list(self._claims.takeovers.ended.values())
        self._claims.takeovers.ended.clear()
        return found

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
        for host, share in self._silent.shares(one.delivery.record for one in running).items():
            self.last_look.slowdowns.setdefault(host, share)
        self._claims.put_off_any = False
        records = self._forgiven(
            connection, self._take_others(connection, expired, free), running, beside
        )
        again = self._claims.put_off_any
        if again:
            self.last_look.forget()
        return Claimed(records, again=again)

    def take_singly(
        self, store: Store, lanes: Lanes, free: int, running: Sequence[Running]
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
                found = self._take_one(store, lanes, running, len(taken))
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
        self, store: Store, lanes: Lanes, running: Sequence[Running], beside: int
    ) -> Claimed | None:
        """Lease the next task; None if it was put off."""

        def work(connection: sa.Connection) -> Claimed:
            self.last_look.due, self._tried = lanes.due(), None
            return self.take(connection, lanes, 1, running, beside)

        try:
            return store.transact(work, wait=Wait.NOT)
        except LockedError:
            if self._tried is None:
                raise
            lane, state = self._tried
            store.transact(
                lambda connection: self._claims.put_off(connection, lane, state), wait=Wait.NOT
            )
            return None

    def _try_suspect(
        self, connection: sa.Connection, expired: Sequence[Lane], running: Sequence[Running]
    ) -> Claimed | None:
        """Lease the first suspect whose lease ran out; None without one. Until it can be tried
        nothing else is taken, so that its turn comes.
        """
        for lane in expired:
            if not self._claims.takeovers.has_suspect(connection, lane):
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
        due = self.last_look.due
        for lane in sorted({*due, *expired}, key=lambda lane: lane.rank):
            if lane in expired:
                while (
                    len(taken) < free
                    and (one := self._take_over(connection, lane, suspects=False)) is not None
                ):
                    taken.append(one)
            if lane in due and len(taken) < free:
                taken += self._claim(connection, lane, free - len(taken))
        return taken

    def _take_over(self, connection: sa.Connection, lane: Lane, *, suspects: bool) -> Record | None:
        self._tried = lane, State.LEASED
        return self._claims.takeovers.take_over(
            connection,
            lane,
            suspects=suspects,
            limited=lane.queue in self.last_look.limited,
            **self._terms(),
        )

    def _claim(self, connection: sa.Connection, lane: Lane, wanted: int) -> list[Record]:
        self._tried = lane, State.SCHEDULED
        seen = self.last_look
        found = self._claims.claim(
            connection,
            lane,
            wanted,
            limited=lane.queue in seen.limited,
            slowdowns=seen.slowdowns,
            **self._terms(),
        )
        seen.claimed(lane, len(found), wanted=wanted)
        return found

    def _forgiven(
        self,
        connection: sa.Connection,
        taken: list[Record],
        running: Sequence[Running],
        beside: int,
    ) -> list[Record]:
        """Return what was taken; a crash of this process now condemns no suspect, because none is
        alone in it.
        """
        suspects = [one.delivery.lease for one in running if one.delivery.suspect]
        suspects += [(one.id, one.lease_id or "") for one in taken if is_poison(one)]
        if suspects and taken and len(taken) + len(running) + beside > 1:
            self._claims.takeovers.excuse_crash(connection, suspects)
        return taken

    def _terms(self) -> Terms:
        return {"lease_id": lease_id(), "held_by": self._held_by, "lease": self._lease}
