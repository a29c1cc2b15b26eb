"""Landings: attempts that are over, from the slots' threads to the drain that records them."""

from __future__ import annotations

import time
from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue

from ..core.delivery import Delivery
from ..store import Result
from .flights import Flights
from .slots import InlineSlot, Slots

Landed = tuple[Delivery, Result]

BRISK = 0.002
"""Seconds within which handlers are done, on average, for several to be leased for one thread and recorded together."""
_AHEAD = 0.02
_MOST = 128
_SPURS = 5
"""How often threads are called, a `BRISK` apart, before what still waits is taken for stalled: a busy machine stands still for less."""


class Landings:
    """Handed in by any thread; gathered, and taken once they are recorded, by the drain alone."""

    def __init__(self, *, computing: bool) -> None:
        self._computing = computing
        self.unrecorded: list[Landed] = []
        self.stalled = False
        """Whether deliveries wait although every thread was called: what was leased ahead had better be given back."""
        self._spurred = 0
        self._landed: deque[Landed] = deque()
        self._signals: SimpleQueue[None] = SimpleQueue()
        self._pace = BRISK

    @property
    def brisk(self) -> bool:
        """Whether handlers are so quick that what surrounds them costs more than they do.

        Only those that compute in this process: waiting for other servers is done in many threads.
        """
        return self._computing and self._pace < BRISK

    def capacity(self, size: int) -> int:
        """How many tasks to take at a time for so many slots: more while they are brisk, up to twenty milliseconds of work."""
        return max(size, min(_MOST, int(_AHEAD / max(self._pace, 1e-5)))) if self.brisk and size > 1 else size

    def depth(self, size: int) -> int:
        """How many tasks to have in flight for so many slots: while they are brisk those that run, and as many to follow."""
        return 2 * self.capacity(size) if self.brisk and size > 1 else size

    def land(self, landed: Landed, *, signal: bool) -> None:
        """Hand in what is over. Without a ``signal`` the drain sees it when it looks next, which is soon."""
        self._landed.append(landed)
        if signal:
            self._signals.put(None)

    def signal(self) -> None:
        """End the drain's wait."""
        self._signals.put(None)

    def gather(self, wait: float, flights: Flights, slots: Slots | InlineSlot) -> None:
        """Collect what has landed, waiting up to ``wait`` seconds for the first of it, or for a signal.

        Brisk ones wait a little for each other, longer while no slot is free, for then nothing else
        waits for them; with none in flight a signal ends the wait at once. Deliveries that wait behind
        one that is not as quick after all, held ones too, get threads of their own, as many as there
        are; if some still wait, this is `stalled`.
        """
        self.stalled = False
        limit = time.monotonic() + wait
        patience = 0.0 if not (self.brisk and flights) else _AHEAD if len(flights) >= slots.size else BRISK
        happened = settled = False
        while True:
            collected = self._collect(flights)
            happened |= collected
            now = time.monotonic()
            if happened and not settled:
                settled, limit = True, now + patience
            if now >= limit or len(self.unrecorded) >= len(flights) - slots.held > 0:
                return
            try:
                self._await_signal(min(limit - now, BRISK) if slots.waiting or slots.held else limit - now)
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

    def _await_signal(self, seconds: float) -> None:
        """Take every signal that is there: what they tell of is looked at next. Raises `queue.Empty` if none comes in time."""
        self._signals.get(timeout=seconds)
        with suppress(Empty):
            while True:
                self._signals.get_nowait()

    def _hurry(self, slots: Slots | InlineSlot) -> None:
        self._spurred += 1
        if self._spurred == _SPURS:
            self.stalled = True
            self._pace = BRISK
            self._spurred = 0
        slots.spur()

    def _collect(self, flights: Flights) -> bool:
        """Move what has landed to what waits to be recorded; whether there was any."""
        before = len(self.unrecorded)
        with suppress(IndexError):
            while True:
                delivery, result = landed = self._landed.popleft()
                self._pace += (min(result.duration - delivery.waited, 2 * BRISK) - self._pace) / 16
                if delivery in flights:
                    self.unrecorded.append(landed)
        if len(self.unrecorded) == before:
            return False
        self._spurred = 0
        return True
