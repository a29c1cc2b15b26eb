"""Slots: the threads in which tasks are attempted."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

from ..core.delivery import Delivery

Run = Callable[[Delivery], None]


class Slots:
    """At most ``size`` daemon threads, started as they are needed.

    Not concurrent.futures: its threads are joined when the interpreter exits, before anybody can
    stop the dispatcher, and a thread that hangs could not be written off and replaced.
    """

    def __init__(self, size: int, run: Run) -> None:
        self.size = size
        self.stuck = 0
        self._run = run
        self._waiting: SimpleQueue[Delivery | None] = SimpleQueue()
        self._threads = 0
        self._busy = 0

    def start(self, delivery: Delivery) -> None:
        """Attempt a delivery; the caller keeps count, so that a thread is free."""
        self._busy += 1
        if self._threads < min(self._busy, self.size):
            self._threads += 1
            threading.Thread(target=self._work, name=f"taskqueue-slot-{self._threads}", daemon=True).start()
        self._waiting.put(delivery)

    def done(self) -> None:
        """A delivery that was started has been collected."""
        self._busy -= 1

    def write_off(self) -> None:
        """A thread does not stop: its slot gets a new one."""
        self.stuck += 1
        self._threads -= 1
        self._busy -= 1

    def close(self) -> None:
        """Let the threads end when they have nothing left."""
        for _ in range(self._threads):
            self._waiting.put(None)
        self._threads = 0

    def _work(self) -> None:
        while (delivery := self._waiting.get()) is not None:
            self._run(delivery)
            if delivery.abandoned:
                self.stuck -= 1
                return


class InlineSlot:
    """One slot, which is the thread that drains: for a database that is a single connection."""

    size = 1
    stuck = 0

    def __init__(self, run: Run) -> None:
        self._run = run

    def start(self, delivery: Delivery) -> None:
        """Attempt a delivery, now."""
        self._run(delivery)

    def done(self) -> None:
        """Nothing is counted."""

    def write_off(self) -> None:
        """Nothing can be: there is no thread but this."""

    def close(self) -> None:
        """Nothing is held."""
