"""What is postponed because an application's transaction has locked something of it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from ..core.delivery.delivery import Delivery
from ..core.errors import TaskQueueError
from ..store import AttemptResult, LockedError, Recorded, Store, Wait
from .in_flight import InFlight

logger = logging.getLogger("flask_taskqueue")

_FIRST = 0.1
_LONGEST = 2.0
_AT_ONCE = 20
"""How many that were put off are tried in one turn, so that the others wait for no more than
these.
"""
_MOST = 1000
"""How many may be put off before they count as tasks that run, so that they do not pile up
without end.
"""


@dataclass(slots=True, eq=False)
class _PutOff:
    delivery: Delivery
    result: AttemptResult | None
    wait: float
    due: float


class Postponed:
    """The deliveries that are ended each in a transaction of its own, which waits for no lock.

    The drain keeps it. What is locked even so is postponed, and tried again at growing intervals.
    Until then it is leased, which the heartbeat renews, and takes no slot. ``tell`` is called with
    what was recorded.
    """

    def __init__(
        self, store: Store, in_flight: InFlight, tell: Callable[[Recorded], object]
    ) -> None:
        self._store = store
        self._in_flight = in_flight
        self._tell = tell
        self._waiting: list[_PutOff] = []

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def wait(self) -> Wait:
        """How a turn is to wait now: while something is locked it is likely to meet that again."""
        return Wait.NOT if self._waiting else Wait.BRIEFLY

    @property
    def crowded(self) -> int:
        """How many are postponed beyond the thousand that may be."""
        return max(0, len(self._waiting) - _MOST)

    def next_in(self) -> float:
        """Return the seconds until one is to be tried again; infinite when none waits."""
        return min((one.due for one in self._waiting), default=math.inf) - time.monotonic()

    def end(self, delivery: Delivery, result: AttemptResult | None) -> None:
        """Record a result, or release the lease without one; postpone it if its rows are locked."""
        if not self._ended(delivery, result):
            self._waiting.append(_PutOff(delivery, result, _FIRST, time.monotonic() + _FIRST))
            self._in_flight.put_off(delivery)

    def try_again(self) -> None:
        """End those that were put off and are to be tried now. Raises what `Database.transact`
        raises, but for locks.
        """
        now = time.monotonic()
        for one in [one for one in self._waiting if one.due <= now][:_AT_ONCE]:
            one.wait = min(_LONGEST, 2 * one.wait)
            one.due = now + one.wait
            if self._ended(one.delivery, one.result):
                self._waiting.remove(one)

    def give_back(self, held: Collection[tuple[str, str]], away: Mapping[str, float]) -> int:
        """Give back what is under way, or put off, at a stop; how many. Leases whose rows are
        locked run out by themselves.

        Those that are ``away`` become due after so many seconds.
        """
        if not held:
            return 0
        try:
            return self._give_back(held, away, Wait.BRIEFLY)
        except LockedError:
            return sum(self._give_back_alone(one, away) for one in held)
        except (TaskQueueError, sa.exc.DBAPIError) as error:
            logger.warning(
                "%d leases could not be given back and will run out: %s", len(held), error
            )
            return 0

    def _give_back(
        self, held: Collection[tuple[str, str]], away: Mapping[str, float], wait: Wait
    ) -> int:
        release = self._store.leases.release
        return self._store.transact(
            lambda connection: release(connection, held, begun=True, away=away), wait=wait
        )

    def _give_back_alone(self, one: tuple[str, str], away: Mapping[str, float]) -> int:
        try:
            return self._give_back([one], away, Wait.NOT)
        except (TaskQueueError, sa.exc.DBAPIError) as error:
            logger.warning(
                "the lease of task %s could not be given back and will run out: %s", one[0], error
            )
            return 0

    def _ended(self, delivery: Delivery, result: AttemptResult | None) -> bool:
        leases, recording = self._store.leases, self._store.recording
        try:
            if result is None:
                self._store.transact(
                    lambda connection: leases.release(connection, [delivery.lease]), wait=Wait.NOT
                )
                recorded = Recorded((), frozenset())
            else:
                recorded = self._store.transact(
                    lambda connection: recording.record(connection, [result]), wait=Wait.NOT
                )
        except LockedError:
            return False
        self._in_flight.end(delivery)
        self._tell(recorded)
        return True
