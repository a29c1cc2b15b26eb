"""The states of a task."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a task is on its way.

    ::

        scheduled --claim--> leased --2xx--> succeeded
            ^                  |---failure, attempts left--> scheduled
            |                  |---failure, none left or permanent--> dead --requeue--> scheduled
            |                  '---lease ran out--> claimable again; after 3 crashes: dead
            '-- add, run now         scheduled or leased --delete--> cancelled
    """

    SCHEDULED = "scheduled"
    LEASED = "leased"
    SUCCEEDED = "succeeded"
    DEAD = "dead"
    CANCELLED = "cancelled"

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will happen to the task unless somebody requeues it."""
        return self in FINISHED


LIVE = frozenset({State.SCHEDULED, State.LEASED})
FINISHED = frozenset({State.SUCCEEDED, State.DEAD, State.CANCELLED})
