"""Landings: attempts that are over, from the slots' threads to the drain that records them."""

from __future__ import annotations

import math
import time
from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue

from ..core.delivery.delivery import Delivery
from ..core.queues.pacing import Pacing
from ..store import Result
from .in_flight import InFlight
from .pool import InlinePool, Pool

Landed = tuple[Delivery, Result]

_SPURS = 5
"""How often threads are called before what still waits is taken for stalled: a busy machine
stands still for less.
"""


class Landings:
    """Handed in by any thread; gathered, and taken once they are recorded, by the drain alone."""

    def __init__(self, pace: Pacing) -> None:
        self._pace = pace
        self.unrecorded: list[Landed] = []
        self.stalled = False
        """Whether deliveries wait although every thread was called: what was leased ahead had
        better be given back.
        """
        self._spurred = 0
        self._landed: deque[Landed] = deque()
        self._signals: SimpleQueue[None] = SimpleQueue()

    def land(self, landed: Landed, *, signal: bool) -> None:
        """Hand in what is over. Without a ``signal`` the drain sees it when it looks next,
        which is soon.
        """
        self._landed.append(landed)
        if signal:
            self._signals.put(None)

    def signal(self) -> None:
        """End the drain's wait."""
        self._signals.put(None)

    def gather(self, wait: float, flights: InFlight, slots: Pool | InlinePool) -> None:
        """Collect what has landed, waiting up to ``wait`` seconds for the first of it, or for a
        signal.

        Results wait a little for each other (see `Pacing.gathering`); with none in flight a signal
        ends the wait at once. Deliveries that wait behind one that is not as quick after all, held
        ones too, get more threads, in the end as many as there are; if some still wait, this is
        `stalled`.
        """
        self.stalled = False
        limit = time.monotonic() + wait
        happened = False
        settled = math.inf
        while True:
            collected = self._collect(flights)
            happened |= collected
            now = time.monotonic()
            if happened:
                limit = settled = min(settled, now + self._gathering(flights, slots))
            if now >= limit or len(self.unrecorded) >= len(flights) - slots.held > 0:
                return
            try:
                self._await_signal(
                    min(limit - now, self._pace.patience)
                    if slots.waiting or slots.held
                    else limit - now
                )
                happened = True
            except Empty:
                if (slots.waiting or slots.held) and not self._landed:
                    self._hurry(slots)
            if self.stalled:
                return

    def take(self) -> list[Landed]:
        """What was gathered, which is recorded now."""
        taken, self.unrecorded = self.unrecorded, []
        return taken

    def _gathering(self, flights: InFlight, slots: Pool | InlinePool) -> float:
        """Seconds that results wait for each other now."""
        return (
            self._pace.gathering(busy=len(flights) >= slots.size, waiting=slots.waiting > 0)
            if flights
            else 0.0
        )

    def _await_signal(self, seconds: float) -> None:
        """Take every signal that is there: what they tell of is looked at next. Raises
        `queue.Empty` if none comes in time.
        """
        self._signals.get(timeout=seconds)
        with suppress(Empty):
            while True:
                self._signals.get_nowait()

    def _hurry(self, slots: Pool | InlinePool) -> None:
        self._spurred += 1
        if self._spurred == _SPURS:
            self.stalled = True
            self._spurred = 0
            self._pace.stall()
        slots.spur()

    def _collect(self, flights: InFlight) -> bool:
        """Move what has landed to what waits to be recorded; whether there was any."""
        before = len(self.unrecorded)
        with suppress(IndexError):
            while True:
                delivery, result = landed = self._landed.popleft()
                self._pace.observe(result.duration - delivery.waited, delivery.computed)
                if delivery in flights:
                    self.unrecorded.append(landed)
        if len(self.unrecorded) == before:
            return False
        self._spurred = 0
        return True
