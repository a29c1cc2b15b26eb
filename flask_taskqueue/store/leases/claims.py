"""Claims: tasks leased to whoever is going to attempt them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ...core.clock import SECOND, duration_micros
from ...core.delivery.outcome import success
from ...core.queues.lanes import Lane, Lanes
from ...core.queues.poison import MAX_CRASHES, POISON, is_poison, poison
from ...core.record import Record
from ...core.states import State
from ..database.dialects import Claim, Dialect
from ..database.dialects.claims import candidates
from ..database.dialects.states import is_state
from ..database.tables import Tables
from ..database.task_columns import ended, expired
from ..queues.locks import Locks
from ..queues.queues import Queues
from .attempts import AttemptLog, Lease
from .completions import Completions
from .finish import Finish, Transition
from .lanes import is_open, look, prepare_look
from .renewals import is_renewed
from .results import AttemptResult
from .slowdowns import Seen, Slowdowns

_CLAIMS = 20
"""How often one claim looks for more when tasks that it found may not run yet."""
_LATER = SECOND
"""After how many microseconds a task is looked at again of which something was locked."""


class Claims:
    """The statements of one database. Each takes the connection whose transaction it is part of."""

    def __init__(
        self,
        tables: Tables,
        dialect: Dialect,
        queues: Queues,
        locks: Locks,
        finish: Finish,
        log: AttemptLog,
        completions: Completions,
        slowdowns: Slowdowns,
    ) -> None:
        self._task = tables.task
        self._now = dialect.now
        self._is_renewed = is_renewed(tables, dialect.now)
        self._queues = queues
        self._locks = locks
        self._finish = finish
        self._log = log
        self._completions = completions
        self._slowdowns = slowdowns
        self.ended: dict[str, AttemptResult] = {}
        """What was ended instead of being taken over; whoever tells of it, once that is
        committed, takes it out.
        """
        self.put_off_any = False
        """Whether something was put off because its receiver is slowed, since whoever claims
        took note of it.
        """
        self._claim = dialect.prepare_claim(tables.task)
        self._claim_unseen = dialect.prepare_claim(tables.task, is_open(tables, dialect.now))
        self._lanes = prepare_look(tables, dialect.now)

    def lanes(self, connection: sa.Connection, queues: Collection[str] | None = None) -> Lanes:
        """What waits in each lane of the queues that are not paused."""
        return look(connection, self._lanes, queues, self._queues.gates, self._slowdowns.active)

    def claim(
        self,
        connection: sa.Connection,
        lane: Lane,
        limit: int,
        *,
        lease_id: str,
        held_by: str,
        lease: float,
        limited: bool = False,
        slowdowns: Seen | None = None,
    ) -> list[Record]:
        """Lease up to ``limit`` due tasks of a lane for ``lease`` seconds; the attempt is counted
        with it.

        Those that have expired end here, those whose key is taken are parked, those for a receiver
        that is slowed are put off; others are claimed instead. With ``limited`` the queue's limits
        are asked, and nothing is taken while somebody else asks them.
        """
        gate = None
        if limited:
            gate = self._queues.decide(connection, lane.queue)
            limit = 0 if gate is None else gate.allowed(limit)
        taken = self._claim_some(
            self._claim, connection, lane, limit, _terms(lease_id, held_by, lease), slowdowns or {}
        )
        if gate is not None and taken:
            self._queues.charge(connection, lane.queue, gate, len(taken))
        return taken

    def claim_unseen(
        self,
        connection: sa.Connection,
        lane: Lane,
        limit: int,
        *,
        lease_id: str,
        held_by: str,
        lease: float,
    ) -> list[Record]:
        """As `claim`, from a lane that was not looked at: nothing if its queue is paused or has
        limits, or any receiver is slowed.
        """
        return self._claim_some(
            self._claim_unseen, connection, lane, limit, _terms(lease_id, held_by, lease), {}
        )

    def _claim_some(
        self,
        claim: Claim,
        connection: sa.Connection,
        lane: Lane,
        limit: int,
        how: Mapping[str, Any],
        slowdowns: Seen,
    ) -> list[Record]:
        taken: list[Record] = []
        for _ in range(_CLAIMS if limit else 0):
            wanted = limit - len(taken)
            found = claim(
                connection,
                {"in_queue": lane.queue, "in_priority": lane.priority, "most": wanted},
                how,
            )
            may_go = self._not_slowed(connection, lane, found, slowdowns) if slowdowns else found
            taken += self._admitted(connection, may_go, how["holder"])
            if len(found) < wanted or len(taken) == limit:
                break
        return taken

    def take_over(
        self,
        connection: sa.Connection,
        lane: Lane,
        *,
        lease_id: str,
        held_by: str,
        lease: float,
        limited: bool = False,
        suspects: bool | None = None,
    ) -> Record | None:
        """Lease the task of a lane whose lease ran out longest ago, as a crash of its last holder;
        of ``suspects`` only, or of others.

        One whose handler has completed it has succeeded, one that has crashed too often is dead,
        and the next one is looked at. With ``limited`` it takes a token like any start; in flight
        it was already.
        """
        gate = self._queues.decide(connection, lane.queue) if limited else None
        if limited and (gate is None or gate.tokens_left == 0):
            return None
        taken = self._take_over(
            connection, lane, {"lease_id": lease_id, "held_by": held_by}, lease, suspects
        )
        if gate is not None and taken is not None:
            self._queues.charge(connection, lane.queue, gate, 1)
        return taken

    def put_off(self, connection: sa.Connection, lane: Lane, state: State) -> list[Record]:
        """Look a moment later at the first task of a lane that is due, or whose lease ran out;
        the task, if there is one.
        """
        task = self._task
        first = (
            self._expired(connection, lane, None)
            if state is State.LEASED
            else self._first_due(connection, lane)
        )
        if first is None:
            return []
        connection.execute(
            sa.update(task).where(task.c.id == first.id).values(due_at=self._now + _LATER)
        )
        return [first]

    def _take_over(
        self,
        connection: sa.Connection,
        lane: Lane,
        holder: Mapping[str, Any],
        lease: float,
        suspects: bool | None,
    ) -> Record | None:
        while (found := self._expired(connection, lane, suspects)) is not None:
            status = self._completions.finish(connection, found, holder["held_by"])
            if status is not None:
                self.ended[found.id] = AttemptResult(found, success(status), 0.0)
                continue
            self._log.crash(connection, [found], holder["held_by"])
            if is_poison(found):
                self._end_poison(connection, found, holder["held_by"])
                continue
            changes = {
                **holder,
                "attempts": found.attempts + 1,
                "crashes": found.crashes + 1,
                "last_reason": "crash",
                "due_at": self._now + duration_micros(lease),
                "started_at": self._now,
            }
            if _change(connection, self._task, found, changes):
                return Record._make(
                    connection.execute(
                        sa.select(self._task).where(self._task.c.id == found.id)
                    ).one()
                )
        return None

    def _not_slowed(
        self, connection: sa.Connection, lane: Lane, found: Sequence[Record], slowdowns: Seen
    ) -> list[Record]:
        """Those just claimed whose receiver may be given them; the others are put off, and what
        waits for their keys goes.
        """
        sent, late = self._slowdowns.admit(connection, lane, found, slowdowns)
        self.put_off_any |= bool(late)
        keyed = [one.id for one in late if one.lock_key is not None]
        if keyed:
            self._finish.given_back(connection, keyed)
        return sent

    def _admitted(
        self, connection: sa.Connection, claimed: Sequence[Record], source: str
    ) -> list[Record]:
        """Those just claimed that are to be attempted."""
        if not any(one.lock_key is not None or one.expires_at is not None for one in claimed):
            return list(claimed)
        late = [
            task
            for task in claimed
            if task.expires_at is not None and (task.started_at or 0) > task.expires_at
        ]
        if late:
            connection.execute(
                sa.update(self._task)
                .where(self._task.c.id.in_([task.id for task in late]))
                .values(expired(self._task, self._now))
            )
            self._finish.follow(
                connection,
                [Transition(task, State.CANCELLED, expired=True) for task in late],
                source,
            )
        return self._locks.admit(connection, [task for task in claimed if task not in late])

    def has_suspect(self, connection: sa.Connection, lane: Lane) -> bool:
        """Whether a lease of a lane ran out whose task is to be tried alone."""
        return connection.execute(self._expired_rows(lane, suspects=True)).one_or_none() is not None

    def excuse_crash(self, connection: sa.Connection, leases: Collection[Lease]) -> None:
        """Not to hold against suspects the crash that may end these attempts."""
        task = self._task
        those = (
            sa.tuple_(task.c.id, task.c.lease_id).in_(sorted(leases)),
            is_state(task, State.LEASED),
        )
        condemned = task.c.crashes + 1 - task.c.pardons >= MAX_CRASHES
        connection.execute(
            sa.update(task).where(*those, condemned).values(pardons=task.c.pardons + 1)
        )

    def _expired(
        self, connection: sa.Connection, lane: Lane, suspects: bool | None
    ) -> Record | None:
        row = connection.execute(
            self._expired_rows(lane, suspects).with_for_update(skip_locked=True)
        ).one_or_none()
        return None if row is None else Record._make(row)

    def _expired_rows(self, lane: Lane, suspects: bool | None) -> sa.Select[Any]:
        """The task of a lane whose lease ran out longest ago."""
        task = self._task
        there = (
            is_state(task, State.LEASED),
            task.c.queue == lane.queue,
            task.c.priority == lane.priority,
            task.c.due_at <= self._now,
        )
        on_trial = task.c.crashes + 2 - task.c.pardons == MAX_CRASHES
        which = sa.true() if suspects is None else on_trial if suspects else sa.not_(on_trial)
        return (
            sa.select(task)
            .where(*there, ~self._is_renewed, which)
            .order_by(task.c.due_at, task.c.id)
            .limit(1)
        )

    def _first_due(self, connection: sa.Connection, lane: Lane) -> Record | None:
        which = {"in_queue": lane.queue, "in_priority": lane.priority, "most": 1}
        first = (
            candidates(self._task, self._now)
            .with_only_columns(self._task)
            .with_for_update(skip_locked=True)
        )
        row = connection.execute(first, which).one_or_none()
        return None if row is None else Record._make(row)

    def _end_poison(self, connection: sa.Connection, record: Record, source: str) -> None:
        crashes = record.crashes + 1
        changes = ended(
            State.DEAD,
            self._now,
            crashes=crashes,
            last_reason="crash",
            last_error=POISON.format(crashes=crashes),
        )
        if _change(connection, self._task, record, changes):
            self._finish.follow(connection, [Transition(record, State.DEAD)], source)
            self.ended[record.id] = AttemptResult(record, poison(record), 0.0)


def _terms(lease_id: str, held_by: str, lease: float) -> dict[str, Any]:
    """Binds how tasks are leased."""
    return {"new_lease": lease_id, "holder": held_by, "period": duration_micros(lease)}


def _change(
    connection: sa.Connection, task: sa.Table, record: Record, changes: Mapping[str, Any]
) -> bool:
    """Change a leased task if the lease is still the one of the record."""
    mine = sa.and_(
        task.c.id == record.id, task.c.lease_id == record.lease_id, is_state(task, State.LEASED)
    )
    return connection.execute(sa.update(task).where(mine).values(dict(changes))).rowcount == 1
