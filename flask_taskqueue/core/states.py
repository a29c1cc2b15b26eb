"""The states of a task, and its row as the store reads it."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, NamedTuple


class State(StrEnum):
    """Where a task is on its way.

    ::

        scheduled --claim--> leased --2xx--> succeeded
            ^                  |---failure, attempts left--> scheduled
            |                  |---failure, none left or permanent--> dead --requeue--> scheduled
            |                  '---lease ran out--> claimable again; after 3 crashes: dead
            '-- add, run now         scheduled or leased --delete--> cancelled

    A task of a queue whose engine is Cloud Tasks takes another way::

        scheduled --handed over--> forwarded --delivery--> leased --2xx--> succeeded
                                       ^                     |---failure, none left--> dead
                                       '---failure or lost lease
    """

    SCHEDULED = "scheduled"
    LEASED = "leased"
    FORWARDED = "forwarded"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"

    @classmethod
    def _missing_(cls, value: object) -> State:
        raise ValueError(f"{value!r} is no state of a task; they are {', '.join(cls)}")

    @classmethod
    def of(cls, record: Record) -> State:
        """Return the state of a row; DEAD for a word that is none, since nothing takes such a task.

        So a row that somebody has written by hand does not keep a list from being shown.
        """
        try:
            return cls(record.state)
        except ValueError:
            return cls.DEAD

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen to the task unless somebody requeues it."""
        return self in FINISHED


Lease = tuple[str, str]
"""The ids of a task and its lease, which identify an attempt."""

MOST_COUNTED = 2**31 - 1
"""The greatest number that a count of a task can be. There it stays, whatever is counted."""


def one_more(number: int) -> int:
    """Return a count of a task with one more counted."""
    return min(number + 1, MOST_COUNTED)


LIVE = frozenset({State.SCHEDULED, State.LEASED, State.FORWARDED})
FINISHED = frozenset({State.SUCCEEDED, State.DEAD, State.CANCELLED})


class Record(NamedTuple):
    """The columns of the task table, in their order; instants are microseconds since 1970.

    Nothing is checked here: a row may have been written by hand. What uses a field checks it.
    """

    id: str
    name: str | None
    queue: str
    priority: int
    state: str
    method: str
    url: str
    target: str | None
    headers: str | None
    body: bytes
    eta: int
    due_at: int | None
    created_at: int
    first_tried_at: int | None
    started_at: int | None
    finished_at: int | None
    deadline: float | None
    retry: str | None
    unique_key: str | None
    lock_key: str | None
    lock_limit: int | None
    expires_at: int | None
    follow_up: str | None
    batch_id: str | None
    callback_of: str | None
    schedule: str | None
    keep_result: int
    progress: str | None
    attempts: int
    executions: int
    answered: int
    crashes: int
    pardons: int
    lease_id: str | None
    held_by: str | None
    last_status: int | None
    last_reason: str | None
    last_error: str | None
    given_key: str | None
    for_worker: int
    surface: str | None
    tag: str | None
    forced_at: int | None
    forwarded_for: int | None

    @property
    def lease(self) -> Lease:
        """The ids of the task and its lease.

        A task may be in flight twice, once with a lease that was lost.
        """
        return self.id, self.lease_id or ""

    @property
    def shown_body(self) -> bytes:
        """The body, to be shown; SQLite keeps what is no bytes if somebody has written it."""
        body: Any = self.body
        return str(body).encode() if isinstance(body, str | int | float) else bytes(body)

    def __repr__(self) -> str:
        """Leave out what the task holds, because a repr ends up in logs."""
        return f"<Record {self.id} {self.state} queue={self.queue}>"
