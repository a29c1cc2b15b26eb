"""Deliveries whose end is postponed because something of them is locked, or refused."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

import sqlalchemy as sa

from ..core.delivery.delivery import Delivery
from ..core.errors import TaskQueueError
from ..core.failures import printable
from ..process.logs import get_logger
from ..store import (
    AttemptResult,
    LockedError,
    Recorded,
    Store,
    Wait,
    apart,
    refusal,
    without_values,
)
from .in_flight import InFlight

_logger = get_logger()

_FIRST = 0.1
_LONGEST = 2.0
_AT_ONCE = 20
"""How many postponed deliveries are tried in one turn, so that others wait for no more."""
_MOST = 1000
"""How many may be postponed before they count as running tasks.

The limit keeps them from piling up without end.
"""


_LONGEST_REASON = 500


@dataclass(slots=True, eq=False)
class _PutOff:
    delivery: Delivery
    result: AttemptResult | None
    wait: float
    due: float
    refusal: str | None = None
    """Why the database refuses it, if it does."""


class Postponed:
    """The deliveries that are each ended in a transaction of its own, which waits for no lock.

    Only the drain uses this object. A delivery whose rows are locked is postponed, and tried again
    at growing intervals. Until then it keeps its lease, which the heartbeat renews, and takes no
    slot. One whose result is refused, because of what it holds, ends without that: it is dead, and
    the error says why. If even that is refused, what is wrong is not the result, and it is
    postponed too. ``tell`` is called with what was recorded.
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
        """How a turn should wait for locks now: not at all while something is postponed.

        It is likely to meet the same lock again.
        """
        return Wait.NOT if self._waiting else Wait.BRIEFLY

    @property
    def crowded(self) -> int:
        """The number of postponed deliveries beyond the thousand that are allowed."""
        return max(0, len(self._waiting) - _MOST)

    def next_in(self) -> float:
        """Return the seconds until the next try; infinite when nothing is postponed."""
        due = min((postponed.due for postponed in self._waiting), default=math.inf)
        return due - time.monotonic()

    def end(self, delivery: Delivery, result: AttemptResult | None) -> None:
        """Record a result, or without one release the lease; postpone this if it cannot be done."""
        postponed = _PutOff(delivery, result, _FIRST, time.monotonic() + _FIRST)
        if not self._has_ended(postponed):
            self._waiting.append(postponed)
            self._in_flight.put_off(delivery)

    def try_again(self) -> None:
        """End the postponed deliveries that are due for another try.

        Raises what `Database.transact` raises in an outage.
        """
        now = time.monotonic()
        due = [postponed for postponed in self._waiting if postponed.due <= now]
        for postponed in due[:_AT_ONCE]:
            postponed.wait = min(_LONGEST, 2 * postponed.wait)
            postponed.due = now + postponed.wait
            if self._has_ended(postponed):
                self._waiting.remove(postponed)

    def give_back(self, held: Collection[tuple[str, str]], away: Mapping[str, float]) -> int:
        """Give back, at a stop, what is under way or postponed; return how many tasks.

        Leases whose rows are locked run out by themselves. Tasks that are ``away`` become due after
        the seconds given there.
        """
        if not held:
            return 0
        try:
            return self._give_back(held, away, Wait.BRIEFLY)
        except LockedError:
            return sum(self._give_back_alone(lease, away) for lease in held)
        except (TaskQueueError, sa.exc.DBAPIError) as error:
            _logger.warning(
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

    def _give_back_alone(self, lease: tuple[str, str], away: Mapping[str, float]) -> int:
        try:
            return self._give_back([lease], away, Wait.NOT)
        except (TaskQueueError, sa.exc.DBAPIError) as error:
            _logger.warning(
                "the lease of task %s could not be given back and will run out: %s", lease[0], error
            )
            return 0

    def _has_ended(self, postponed: _PutOff) -> bool:
        """End a delivery unless it is locked or refused; return whether it has ended."""
        refused: list[Exception] = []
        recorded = self._done(partial(self._end, postponed=postponed), refused.append)
        if refused and postponed.result is not None:
            why = printable(refusal(refused[0]) or repr(refused[0]), _LONGEST_REASON)
            recorded = self._done(partial(self._end_anyhow, result=postponed.result, why=why))
            self._note_refusal(postponed, why, has_ended=recorded is not None)
        if recorded is None:
            return False
        self._in_flight.end(postponed.delivery)
        self._tell(recorded)
        return True

    def _done(
        self,
        work: Callable[[sa.Connection], Recorded],
        refused: Callable[[Exception], object] = lambda _: None,
    ) -> Recorded | None:
        """Return what was recorded; None if something is locked, or is ``refused``."""
        with suppress(LockedError), apart(refused):
            return self._store.transact(work, wait=Wait.NOT)
        return None

    def _end(self, connection: sa.Connection, *, postponed: _PutOff) -> Recorded:
        """Record a result, or without one release the lease."""
        if postponed.result is not None:
            return self._store.recording.record(connection, [postponed.result])
        self._store.leases.release(connection, [postponed.delivery.lease])
        return Recorded((), frozenset())

    def _end_anyhow(
        self, connection: sa.Connection, *, result: AttemptResult, why: str
    ) -> Recorded:
        """Record a result; if it is refused, what is left of it without its values.

        Both tries share a transaction, so that only the values differ.
        """
        recording, refused = self._store.recording, list[Exception]()
        recording.keep_rules(connection)
        with apart(refused.append, self._store.database.dialect), connection.begin_nested():
            return recording.record(connection, [result])
        less = without_values(result, f"its result could not be recorded: {why}")
        return recording.record(connection, [less])

    def _note_refusal(self, postponed: _PutOff, why: str, *, has_ended: bool) -> None:
        """Log why a result is refused, once."""
        if postponed.refusal != why:
            postponed.refusal = why
            then = "it has ended without it" if has_ended else "it is tried again"
            _logger.error(
                "the result of task %s is refused, and %s: %s",
                postponed.delivery.record.id,
                then,
                why,
            )
