"""The turn: one transaction that records what has ended and claims what is due."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa

from ..core.queues.lanes import Lane, Lanes
from ..core.states import Record
from ..core.times import lease_clock
from ..process.logs import get_logger
from ..store import AttemptResult, LockedError, Recorded, Store, apart, refusal
from .claimer import Claimed, Claimer
from .in_flight import InFlight
from .pool import Collected, Pool
from .postponed import Postponed
from .wakeups import Wakeups

_logger = get_logger()

_NOTHING = Recorded((), frozenset())


@dataclass(frozen=True, slots=True)
class Turn:
    """The outcome of one turn: what it recorded, claimed and saw."""

    lanes: Lanes | None
    """What a look saw, if everything that may be claimed now was claimed; otherwise None.

    If it is given, the drain can wait for what is due next.
    """
    recorded: Recorded = _NOTHING
    claimed: Sequence[Record] = ()
    ended: Sequence[AttemptResult] = ()
    """The results of tasks that were ended instead of being taken over."""
    alone: bool = False
    """Whether the turn claimed a suspect, which is attempted alone."""
    since: float = 0.0
    """When its leases count as begun (clock of leases): before the statement that took them."""
    found_all: bool = False
    """Whether the turn claimed, without a look, everything that it found."""


class Turns:
    """The turns of one dispatcher, taken in the drain's thread."""

    def __init__(
        self,
        store: Store,
        claimer: Claimer,
        pool: Pool,
        in_flight: InFlight,
        postponed: Postponed,
        wakeups: Wakeups,
    ) -> None:
        self._store = store
        self._claimer = claimer
        self._pool = pool
        self._in_flight = in_flight
        self._postponed = postponed
        self._wakeups = wakeups

    @property
    def room(self) -> int:
        """The number of tasks that may be claimed now."""
        return 0 if self._wakeups.over else self._pool.room - self._postponed.crowded

    def take(self, collected: list[Collected]) -> Turn:
        """Take one turn, normally in one transaction.

        There is none when there is nothing to write, and there are several when one of the
        application's transactions has locked something, or when something of one task is refused.
        What is recorded, or given back, is removed from ``collected``. Raises what
        `Database.transact` raises; what is left in ``collected`` is for the next turn then.
        """
        room = self.room
        if room <= 0 and not collected:
            return Turn(None)
        probable = self._probable_lane(room)
        lanes = None
        if not (collected or probable):
            with self._store.reading() as reader:
                lanes = self._look(reader)
            if not self._claimer.last_look.may_claim(lanes):
                return Turn(lanes)

        exchange = partial(
            self._exchange, collected=collected, probable=probable, lanes=lanes, room=room
        )
        turn = None
        with suppress(LockedError), apart(_note_refusal):
            turn = self._store.transact(exchange, wait=self._postponed.wait)
        if turn is None:
            return self._take_singly(collected)
        for delivery, _ in collected:
            self._in_flight.end(delivery)
        collected.clear()
        return turn

    def _most_unseen(self, room: int) -> int:
        """Return how many to claim without a look.

        One slot is left for what a look may find to go first.
        """
        return min(room, self._pool.size) - 1

    def _probable_lane(self, room: int) -> Lane | None:
        """Return the lane to claim from without a look, if the dispatcher was idle."""
        if self._most_unseen(room) <= 0 or self._in_flight:
            return None
        return self._claimer.probable_lane(woken=self._wakeups.is_called)

    def _exchange(
        self,
        connection: sa.Connection,
        *,
        collected: Sequence[Collected],
        probable: Lane | None,
        lanes: Lanes | None,
        room: int,
    ) -> Turn:
        """Claim without a look; or record, give back, look and claim.

        All of it happens in the transaction of ``connection``.
        """
        since = lease_clock()
        if probable is not None:
            most = self._most_unseen(room)
            unseen = self._claimer.claim_unseen(connection, probable, most)
            if unseen:
                return Turn(None, claimed=unseen, since=since, found_all=len(unseen) < most)
        results = [result for _, result in collected if result is not None]
        never_begun = [delivery.lease for delivery, result in collected if result is None]
        recorded = self._store.recording.record(connection, results)
        if never_begun:
            self._store.leases.release(connection, never_begun)
            self._claimer.last_look.forget()
        if room > 0 and lanes is None:
            lanes = self._look(connection)
        ended = {delivery.record.id for delivery, _ in collected}
        claimed = self._claimer.take(connection, lanes, room, self._in_flight.running(ended))
        return _turn(lanes, recorded, claimed, room, since)

    def _take_singly(self, collected: list[Collected]) -> Turn:
        """Take a turn as `take` does, but with each task by itself.

        Tasks of which nothing is locked or refused are recorded, and others begin.
        """
        while collected:
            self._postponed.end(*collected[0])
            del collected[0]
        with self._store.reading() as reader:
            lanes = self._claimer.last_look.look_anew(reader)
        room, since = self.room, lease_clock()
        claimed = self._claimer.take_singly(self._store, lanes, room, self._in_flight.running(()))
        return _turn(lanes, _NOTHING, claimed, room, since)

    def _look(self, connection: sa.Connection) -> Lanes | None:
        """Read what is due, unless the last look still serves and nobody called `wake` since."""
        if self._wakeups.answer():
            self._claimer.last_look.forget()
        return self._claimer.last_look.look(connection)


def _note_refusal(error: Exception) -> None:
    _logger.info("a turn is repeated with each task by itself: %s", refusal(error) or repr(error))


def _turn(
    lanes: Lanes | None, recorded: Recorded, claimed: Claimed, room: int, since: float
) -> Turn:
    """Return a turn, without what was seen if more may be due.

    That is so if as many were claimed as there was room for, or if some were put off.
    """
    seen_all = len(claimed.records) < room and not claimed.again
    seen = lanes if seen_all else None
    return Turn(seen, recorded, claimed.records, claimed.ended, claimed.alone, since)
