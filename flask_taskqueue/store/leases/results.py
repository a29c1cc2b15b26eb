"""The results of attempts, ready to be recorded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from ...core.delivery.outcome import Outcome
from ...core.delivery.verdict import Reply, kept_headers
from ...core.queues.circuits import CircuitChange
from ...core.security.encryption import Encryption
from ...core.states import Record, State
from ..database.dialects import Dialect


class StoredReply(NamedTuple):
    """A reply as it is stored, encrypted where there are keys."""

    headers: str | None = None
    body: bytes | None = None

    @classmethod
    def of(cls, reply: Reply, encryption: Encryption) -> StoredReply:
        """Return a reply as it is stored."""
        body = encryption.encrypt(reply.body) if reply.body else None
        return cls(encryption.encrypt_text(kept_headers(reply)), body)

    def __repr__(self) -> str:
        """Leave out what the reply holds, because a repr ends up in logs."""
        return "<StoredReply>"


NOT_KEPT = StoredReply()


class AttemptResult(NamedTuple):
    """The result of an attempt."""

    record: Record
    outcome: Outcome
    duration: float
    reply_headers: str | None = None
    reply_body: bytes | None = None
    traceback: str | None = None
    completed: bool = False
    """Whether the handler's own transaction has logged the attempt."""
    goes_on: bool = False
    """Whether its thread has not stopped at the deadline and may still run.

    Its places then stay taken.
    """
    reported: bool = False
    """Whether the caller of the handler has already reported its exception."""

    def __repr__(self) -> str:
        """Leave out what the task and its reply hold, because a repr ends up in logs."""
        return f"<AttemptResult {self.record!r} {self.outcome!r}>"


def without_values(result: AttemptResult, why: str) -> AttemptResult:
    """Return what is recorded in place of a result that is refused: nothing of what it holds.

    Its task is dead. If the handler's own transaction has completed the attempt, the task has
    succeeded, but nothing follows it.
    """
    result = result._replace(duration=0.0, reply_headers=None, reply_body=None, traceback=None)
    if result.completed:
        return result._replace(record=result.record._replace(follow_up=None))
    executed = result.outcome.executed
    return result._replace(outcome=Outcome(State.DEAD, "permanent", error=why, executed=executed))


@dataclass(frozen=True, slots=True)
class Recorded:
    """The recorded results, as they turned out, and the tasks whose lease was lost.

    ``lost`` are the ids of tasks whose lease somebody else had ended, ``circuits`` those that have
    opened or closed.
    """

    results: Sequence[AttemptResult]
    lost: Collection[str]
    circuits: Sequence[CircuitChange] = ()


def alike(
    results: Collection[AttemptResult],
) -> tuple[list[Sequence[AttemptResult]], list[AttemptResult]]:
    """Split results into groups that one statement serves, and the others.

    The results of a group have the same outcome, and no reply or traceback to keep.
    """
    same: dict[Outcome, list[AttemptResult]] = defaultdict(list)
    others: list[AttemptResult] = []
    for result in results:
        kept = (result.reply_headers, result.reply_body, result.traceback) != (None, None, None)
        (others if kept else same[result.outcome]).append(result)
    return list(same.values()), others


def is_leased(dialect: Dialect, task: sa.Table) -> sa.ColumnElement[bool]:
    """Return whether a task has the lease that `leased` binds for it.

    The index finds it by its id. A lease that is bound for another task does not count.
    """
    return sa.and_(dialect.among(task.c.id), dialect.among(task.c.id + task.c.lease_id, "leases"))


def leased(results: Sequence[AttemptResult], dialect: Dialect) -> dict[str, Any]:
    """Bind the tasks of results and their leases."""
    leases = [result.record.lease for result in results]
    return {
        "among": dialect.bound([task_id for task_id, _ in leases]),
        "leases": dialect.bound([task_id + lease_id for task_id, lease_id in leases]),
    }
