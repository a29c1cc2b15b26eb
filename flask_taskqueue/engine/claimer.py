"""The claimer: decides which tasks to lease, up to the room that the pool has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypedDict

import sqlalchemy as sa

from ..core.delivery.delivery import Delivery
from ..core.names import lease_id
from ..core.queues.lanes import Lane, Lanes
from ..core.queues.poison import is_poison, may_take_suspect
from ..core.queues.slowdowns import UnknownHosts
from ..core.states import Lease, Record, State
from ..core.times import lease_clock
from ..process.logs import get_logger
from ..store import AddedQueues, AttemptResult, Claims, LockedError, Store, Wait, apart, refusal
from .last_look import LastLook, SlowHosts

_logger = get_logger()

_REFUSALS = 20
"""The number of tasks with something locked or refused that one turn skips at most."""


class Terms(TypedDict):
    """The terms of a lease."""

    lease_id: str
    held_by: str
    lease: float


@dataclass(frozen=True, slots=True)
class Running:
    """A delivery under way, and its age in seconds."""

    delivery: Delivery
    age: float


@dataclass(frozen=True, slots=True)
class Claimed:
    """The tasks that were leased: any number of them, or one suspect, to be tried ``alone``."""

    records: list[Record]
    alone: bool = False
    again: bool = False
    """Whether other tasks were put off because their receivers are slowed.

    Another look would then see something else.
    """
    ended: Sequence[AttemptResult] = ()
    """The results of tasks that were ended instead of being taken over."""


class Claimer:
    """The claimer of one dispatcher, which leases tasks from the lanes that its last look saw."""

    def __init__(
        self,
        claims: Claims,
        added: AddedQueues,
        *,
        queues: Collection[str] | None,
        held_by: str,
        lease: float,
        slots: int,
        kept: Callable[[], Collection[Lease]] = tuple,
        renewed_at: Callable[[], float] = lease_clock,
    ) -> None:
        """Leave the leases that are ``kept`` here alone, though they may have run out.

        That happens when this process was paused: their handlers still run.
        """
        self.last_look: LastLook = LastLook(claims, queues, lease, renewed_at)
        self._claims = claims
        self._queues = queues
        self._added = added
        self._held_by = held_by
        self._lease = lease
        self._kept = kept
        self._slow = SlowHosts(slots)
        self._unknown: UnknownHosts | None = None
        self._suspects_turn = True
        self._tried: tuple[Lane, State] | None = None
        """The lane and the state of the last attempt to claim something."""

    def probable_lane(self, *, woken: bool) -> Lane | None:
        """Return `LastLook.probable_lane`, or None while some hosts are slow.

        A look is needed then, because it works out their shares.
        """
        return None if self._slow else self.last_look.probable_lane(woken=woken)

    def claim_unseen(self, connection: sa.Connection, lane: Lane, most: int) -> list[Record]:
        """Lease up to ``most`` tasks without a look, which would cost as much again.

        Nothing is taken from a queue that is paused or limited.
        """
        return self._with_suspects_excused(
            connection, self._claims.claim_unseen(connection, lane, most, **self._terms()), [], 0
        )

    def note(self, results: Iterable[AttemptResult]) -> None:
        """Remember which hosts are slow, so that they do not take every slot."""
        self._slow.note(results)

    def take(
        self,
        connection: sa.Connection,
        lanes: Lanes | None,
        free: int,
        running: Sequence[Running],
        beside: int = 0,
    ) -> Claimed:
        """Lease up to ``free`` tasks, or one suspect to be tried alone.

        Tasks whose lease ran out are taken like any other. Each time a suspect was tried, tasks
        that are due go first. ``beside`` is the number of other tasks that were taken but have not
        begun yet.
        """
        self._claims.takeovers.ended.clear()  # an earlier try of this transaction has failed
        if free <= 0 or any(run.age < run.delivery.alone_for for run in running):
            return Claimed([])
        expired = self.last_look.expired(lanes)
        if self._suspects_turn and not beside and not any(run.delivery.suspect for run in running):
            trial = self._try_suspect(connection, expired, running)
            if trial is not None:
                self._suspects_turn = not trial.alone
                return trial
        self._suspects_turn = True
        shares, self._unknown = self._slow.shares(run.delivery.record for run in running)
        for host, share in shares.items():
            self.last_look.slowdowns.setdefault(host, share)
        self._claims.put_off_any = False
        records = self._with_suspects_excused(
            connection, self._take_others(connection, expired, free), running, beside
        )
        again = self._claims.put_off_any
        if again:
            self.last_look.forget()
        return self._claimed(records, again=again)

    def take_singly(
        self, store: Store, lanes: Lanes, free: int, running: Sequence[Running]
    ) -> Claimed:
        """Lease tasks as `take` does, but each in its own transaction, which waits for nobody."""
        taken, ended = list[Record](), list[AttemptResult]()
        again = alone = False
        for _ in range(max(0, free) + _REFUSALS):
            if len(taken) >= free:
                break
            try:
                found = self._take_one(store, lanes, running, len(taken))
            except Exception:  # whatever it is, what has been taken has to begin
                if not taken:
                    raise
                break
            if found is None:
                continue
            taken += found.records
            ended += found.ended
            again, alone = again or found.again, found.alone
            if alone or not found.records or is_poison(found.records[0]):
                break
        return Claimed(taken, alone, again, ended)

    def _take_one(
        self, store: Store, lanes: Lanes, running: Sequence[Running], beside: int
    ) -> Claimed | None:
        """Lease the next task; return None if it was put off."""

        def work(connection: sa.Connection) -> Claimed:
            self.last_look.due, self._tried = lanes.due(), None
            return self.take(connection, lanes, 1, running, beside)

        try:
            with apart(partial(self._pass_over, store)):
                return store.transact(work, wait=Wait.NOT)
        except LockedError as error:
            self._pass_over(store, error)
        return None

    def _pass_over(self, store: Store, why: Exception) -> None:
        """Have another task taken next, or raise the error if nobody knows of which one it is."""
        if self._tried is not None:
            lane, state = self._tried
            locked = isinstance(why, LockedError)
            put_off = partial(self._claims.put_off, lane=lane, state=state, locked=locked)
            task_id = store.transact(put_off, wait=Wait.NOT)
            if not locked:
                _logger.error(
                    "task %s or one behind it is refused: %s", task_id, refusal(why) or why
                )
        elif self.last_look.forced:
            self.last_look.forced = False  # it is one of them
        else:
            raise why

    def _try_suspect(
        self, connection: sa.Connection, expired: Sequence[Lane], running: Sequence[Running]
    ) -> Claimed | None:
        """Lease the first suspect whose lease ran out, before anything else; None without one."""
        for lane in expired:
            if not self._claims.takeovers.has_suspect(connection, lane, self._kept()):
                continue
            if not may_take_suspect(run.age for run in running):
                return self._claimed([])
            suspect = self._take_over(connection, lane, suspects=True)
            if suspect is not None:
                return self._claimed([suspect], alone=True)
        return None

    def _claimed(
        self, records: list[Record], *, alone: bool = False, again: bool = False
    ) -> Claimed:
        return Claimed(records, alone, again, [*self._claims.takeovers.ended.values()])

    def _take_others(
        self, connection: sa.Connection, expired: Sequence[Lane], free: int
    ) -> list[Record]:
        taken = self._claim_forced(connection, free) if self.last_look.forced else []
        due = self.last_look.due
        for lane in sorted({*due, *expired}, key=lambda lane: lane.rank):
            if lane in expired:
                while (
                    len(taken) < free
                    and (record := self._take_over(connection, lane, suspects=False)) is not None
                ):
                    taken.append(record)
            if lane in due and len(taken) < free:
                taken += self._claim(connection, lane, free - len(taken))
        return taken

    def _claim_forced(self, connection: sa.Connection, wanted: int) -> list[Record]:
        """Lease the tasks that run whatever their queue, before all others."""
        self._tried = None
        found = self._claims.claim_forced(connection, self._queues, wanted, **self._terms())
        self.last_look.forced = len(found) == wanted
        for queue in sorted({record.queue for record in found}):
            self._added.note(connection, queue)
        return found

    def _take_over(self, connection: sa.Connection, lane: Lane, *, suspects: bool) -> Record | None:
        self._tried = lane, State.LEASED
        found = self._claims.takeovers.take_over(
            connection,
            lane,
            suspects=suspects,
            limited=lane.queue in self.last_look.limited,
            kept=self._kept(),
            **self._terms(),
        )
        self._note_settings(connection, lane, found)
        return found

    def _claim(self, connection: sa.Connection, lane: Lane, wanted: int) -> list[Record]:
        self._tried = lane, State.SCHEDULED
        seen = self.last_look
        found = self._claims.claim(
            connection,
            lane,
            wanted,
            limited=lane.queue in seen.limited,
            slowdowns=seen.slowdowns,
            unknown=self._unknown,
            **self._terms(),
        )
        seen.claimed(lane, len(found), wanted=wanted)
        self._note_settings(connection, lane, found)
        return found

    def _note_settings(self, connection: sa.Connection, lane: Lane, found: object) -> None:
        """Read the settings of an added queue, in the transaction that took tasks from it."""
        if found and lane.queue in self.last_look.added:
            self._added.note(connection, lane.queue)

    def _with_suspects_excused(
        self,
        connection: sa.Connection,
        taken: list[Record],
        running: Sequence[Running],
        beside: int,
    ) -> list[Record]:
        """Return what was taken, excusing suspects that are not alone in this process.

        A crash of the process now condemns no suspect, because none is alone in it.
        """
        suspects = [run.delivery.lease for run in running if run.delivery.suspect]
        suspects += [record.lease for record in taken if is_poison(record)]
        if suspects and taken and len(taken) + len(running) + beside > 1:
            self._claims.takeovers.excuse_crash(connection, suspects)
        return taken

    def _terms(self) -> Terms:
        return {"lease_id": lease_id(), "held_by": self._held_by, "lease": self._lease}
