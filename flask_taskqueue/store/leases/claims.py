"""Claims: leases on the tasks that are due, lane by lane."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ...core.queues.lanes import Lane
from ...core.queues.rate_keys import has_rate_key
from ...core.queues.slowdowns import UnknownHosts
from ...core.states import Record, State
from ...core.times import SECOND, duration_micros
from ..database.dialects import Claim, Dialect
from ..database.dialects.claims import candidates
from ..database.tables import Tables
from ..database.task_tables import expired
from ..queues.locks import Locks
from ..queues.queues import Queues
from .attempts import AttemptLog
from .completions import Completions
from .finish import Finish, Transition
from .forced import Forced
from .lanes import LanesLook, is_open
from .slowdowns import Seen, Slowdowns
from .takeovers import Takeovers

_CLAIMS = 20
"""How often one claim looks for more when it found tasks that may not run yet."""
_LATER, _MUCH_LATER = SECOND, 10 * SECOND
"""The microseconds after which to look again at a task of which something was locked, or refused.
"""


class Claims:
    """A claimer of due tasks; each method joins the transaction of the connection it is given."""

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
        self._queues = queues
        self._locks = locks
        self._finish = finish
        self._slowdowns = slowdowns
        self.put_off_any: bool = False
        """Whether a slowed receiver or a rate key put tasks off since the caller reset this."""
        ending = finish, log, completions
        self.takeovers: Takeovers = Takeovers(tables, dialect, queues, locks, *ending)
        task, now = tables.task, dialect.now
        self._claim = dialect.prepare_claim(task, candidates(task, now))
        open_now = candidates(task, now, is_open(tables, now))
        self._claim_unseen = dialect.prepare_claim(task, open_now)
        self._forced = Forced(tables, dialect)
        self.lanes: LanesLook = LanesLook(tables, now, queues.gates, slowdowns.limits)
        """A look at the tasks that wait in each lane of the queues that are not paused."""

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
        unknown: UnknownHosts | None = None,
    ) -> list[Record]:
        """Lease up to ``limit`` due tasks of a lane for ``lease`` seconds; count their attempts.

        Tasks that have expired end here, those whose key is taken or has no token are parked, and
        those for a slowed receiver are put off; others are claimed instead. With ``limited``,
        the queue's limits apply, and nothing is taken while somebody else applies them.
        """
        gate = None
        if limited:
            gate = self._queues.decide(connection, lane.queue)
            limit = 0 if gate is None else gate.allowed(limit)
        terms, seen = _terms(lease_id, held_by, lease), {} if slowdowns is None else slowdowns
        taken = self._claim_some(self._claim, connection, lane, limit, terms, seen, unknown)
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
        """Claim as `claim` does, from a lane that was not looked at.

        Nothing is taken if its queue is paused or has limits, or if any receiver is slowed.
        """
        return self._claim_some(
            self._claim_unseen, connection, lane, limit, _terms(lease_id, held_by, lease), {}
        )

    def claim_forced(
        self,
        connection: sa.Connection,
        queues: Collection[str] | None,
        limit: int,
        *,
        lease_id: str,
        held_by: str,
        lease: float,
    ) -> list[Record]:
        """Claim due tasks that are to run whatever their queue, of ``queues`` or of all."""
        terms = _terms(lease_id, held_by, lease)
        found = self._forced.claim(connection, queues, limit, terms)
        return self._admitted(connection, found, held_by)

    def _claim_some(
        self,
        claim: Claim,
        connection: sa.Connection,
        lane: Lane,
        limit: int,
        how: Mapping[str, Any],
        slowdowns: Seen,
        unknown: UnknownHosts | None = None,
    ) -> list[Record]:
        taken: list[Record] = []
        for _ in range(_CLAIMS if limit else 0):
            wanted = limit - len(taken)
            found = claim(
                connection,
                {"in_queue": lane.queue, "in_priority": lane.priority, "most": wanted},
                how,
            )
            may_go: Sequence[Record] = found
            if slowdowns or unknown is not None:
                may_go = self._not_slowed(connection, lane, found, slowdowns, unknown)
            taken += self._admitted(connection, may_go, how["holder"])
            if len(found) < wanted or len(taken) == limit or has_rate_key(found):
                break
        return taken

    def put_off(
        self, connection: sa.Connection, lane: Lane, state: State, *, locked: bool = True
    ) -> str | None:
        """Put off the first task of a lane that is due, or whose lease ran out; return its id.

        It is looked at again a second later, or ten if something of it is not ``locked`` but
        refused. Nothing else of it is read, because that may be what is refused.
        """
        task = self._task
        first = (
            self.takeovers.expired_rows(lane)
            if state is State.LEASED
            else candidates(task, self._now)
        )
        which = {"in_queue": lane.queue, "in_priority": lane.priority, "most": 1}
        task_id: str | None = connection.scalar(
            first.with_only_columns(task.c.id).with_for_update(skip_locked=True),
            which if state is not State.LEASED else {},
        )
        later = self._now + (_LATER if locked else _MUCH_LATER)
        connection.execute(sa.update(task).where(task.c.id == task_id).values(due_at=later))
        return task_id

    def _not_slowed(
        self,
        connection: sa.Connection,
        lane: Lane,
        found: Sequence[Record],
        slowdowns: Seen,
        unknown: UnknownHosts | None,
    ) -> list[Record]:
        """Return the claimed tasks that their receivers may be given, and put the others off.

        Tasks that wait for the keys of those put off may then run.
        """
        sent, late = self._slowdowns.admit(connection, lane, found, slowdowns, unknown)
        self.put_off_any |= bool(late)
        keyed = [record.id for record in late if record.lock_key is not None]
        if keyed:
            self._finish.given_back(connection, keyed)
        return sent

    def _admitted(
        self, connection: sa.Connection, claimed: Sequence[Record], source: str
    ) -> list[Record]:
        """Return the claimed tasks that are to be attempted."""
        if not any(
            record.lock_key is not None or record.expires_at is not None for record in claimed
        ):
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
        self.put_off_any |= has_rate_key(claimed)
        return self._locks.admit(connection, [task for task in claimed if task not in late])


def _terms(lease_id: str, held_by: str, lease: float) -> dict[str, Any]:
    """Bind the terms on which tasks are leased."""
    return {"new_lease": lease_id, "holder": held_by, "period": duration_micros(lease)}
