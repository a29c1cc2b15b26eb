"""The pool of threads in which tasks are attempted."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from queue import SimpleQueue

from ..core.delivery.delivery import Delivery
from ..process.threads import begin

logger = logging.getLogger("flask_taskqueue")

Run = Callable[[Delivery], None]

_LONG = 0.01
"""Seconds after which a thread that has not finished its attempt does not count as one that
gets on with what waits.
"""


class Pool:
    """At most ``size`` daemon threads, started as they are needed.

    Not concurrent.futures: its threads are joined when the interpreter exits, before anybody can
    stop the dispatcher, and a thread that hangs could not be written off and replaced.
    """

    def __init__(self, size: int, run: Run) -> None:
        self.size = size
        self.stuck = 0
        self._run = run
        self._waiting: deque[Delivery] = deque()
        self._held: list[Delivery] = []
        self._late: deque[Delivery] = deque()
        self._calls: SimpleQueue[bool] = SimpleQueue()
        self._threads = 0
        self._wanted = size
        self._began: dict[int, float] = {}
        self._counting = threading.Lock()

    @property
    def waiting(self) -> int:
        """How many deliveries no thread has taken up yet."""
        return len(self._waiting)

    @property
    def held(self) -> int:
        """How many deliveries are not to be taken up before `let_go`."""
        return len(self._held)

    def hold(self, deliveries: Sequence[Delivery]) -> None:
        """Keep deliveries for later: `let_go` starts them."""
        self._held.extend(deliveries)

    def let_go(self) -> None:
        """Attempt what was held, by one thread; should it not be quick enough, `spur` calls the
        others.
        """
        held, self._held = self._held, []
        self.start(held, in_flight=len(held), brisk=True)

    def start(self, deliveries: Sequence[Delivery], *, in_flight: int, brisk: bool) -> None:
        """Attempt deliveries; ``in_flight`` counts all that are under way, with them.

        When handlers are ``brisk`` one thread attempts all of them, and others that do stop,
        because threads that only compute hinder each other; should one not be as quick after all,
        `spur` calls the others.
        """
        self._waiting.extend(deliveries)
        with self._counting:
            self._wanted = 1 if brisk else self.size
            missing = min(in_flight, self.size) - self._threads
            self._threads += max(0, missing)
        for _ in range(missing):
            self._begin_thread()
        for _ in deliveries[:1] if brisk else deliveries:
            self._calls.put(True)

    def spur(self) -> None:
        """Call more threads for what still waits for one, or was held: twice as many each time."""
        self._waiting.extend(self._held)
        self._held.clear()
        self._wanted = min(2 * self._wanted, self.size)
        for _ in range(min(len(self._waiting), self._wanted)):
            self._calls.put(True)

    def take_back(self) -> list[Delivery]:
        """The deliveries that no thread has taken up, which will not be attempted."""
        taken, self._held = self._held, []
        return taken + _all_of(self._waiting)

    def take_back_of(self, queues: Collection[str]) -> list[Delivery]:
        """As `take_back`, those of some queues only."""
        with self._counting:  # in which threads take them up
            known = [*self._held, *self._waiting]
            self._held = [one for one in self._held if one.record.queue not in queues]
            waiting = _all_of(self._waiting)
            self._waiting.extend(one for one in waiting if one.record.queue not in queues)
        return [one for one in known if one.record.queue in queues]

    def take_late(self) -> list[Delivery]:
        """The deliveries that were not begun because their leases were not sure any more: the
        process was paused, say.
        """
        return _all_of(self._late)

    def write_off(self) -> None:
        """A thread does not stop: its slot gets a new one."""
        with self._counting:
            self.stuck += 1
            self._threads -= 1

    def close(self) -> None:
        """Let the threads end when they have nothing left."""
        for _ in range(self._threads):
            self._calls.put(False)
        self._threads = 0

    def _work(self) -> None:
        while self._calls.get():
            try:
                while (delivery := self._next()) is not None:
                    if not delivery.is_ours(time.monotonic()):
                        self._late.append(delivery)
                        continue
                    self._attempt(delivery)
                    if delivery.abandoned:
                        return
            finally:
                self._began.pop(threading.get_ident(), None)

    def _next(self) -> Delivery | None:
        """What this thread is to attempt; None when nothing waits, or others do enough."""
        with self._counting:
            now = self._began[threading.get_ident()] = time.monotonic()
            if (
                len(self._began) <= self._wanted
                or sum(now - one < _LONG for one in self._began.values()) <= self._wanted
            ):
                with suppress(IndexError):
                    return self._waiting.popleft()
            del self._began[threading.get_ident()]
            return None

    def _attempt(self, delivery: Delivery) -> None:
        """Run it. A thread that dies of that is replaced at once, unless it was written off
        before.
        """
        survived = False
        try:
            self._run(delivery)
            survived = True
        finally:
            if delivery.abandoned:
                with self._counting:
                    self.stuck -= 1
            elif not survived:
                self._begin_thread()
                self._calls.put(True)

    def _begin_thread(self) -> None:
        """Start a thread that is counted already. Where there can be no more, what waits for it
        is given back.
        """
        try:
            begin(self._work, name="taskqueue-slot")
        except RuntimeError as error:
            logger.warning("no thread could be started for a task: %s", error)
            with self._counting:
                self._threads -= 1


class InlinePool:
    """One slot, which is the thread that drains: for a database that is a single connection."""

    size = 1
    stuck = 0
    waiting = 0
    held = 0

    def __init__(self, run: Run) -> None:
        self._run = run

    def start(self, deliveries: Sequence[Delivery], *, in_flight: int, brisk: bool) -> None:
        """Attempt deliveries, now."""
        for delivery in deliveries:
            self._run(delivery)

    def hold(self, deliveries: Sequence[Delivery]) -> None:
        """Attempt deliveries, now."""
        self.start(deliveries, in_flight=1, brisk=False)

    def let_go(self) -> None:
        """None are held."""

    def spur(self) -> None:
        """Nobody waits."""

    def take_back(self) -> list[Delivery]:
        """None wait."""
        return []

    def take_back_of(self, queues: Collection[str]) -> list[Delivery]:
        """None wait."""
        return []

    def take_late(self) -> list[Delivery]:
        """None is: each is attempted when it has been leased."""
        return []

    def write_off(self) -> None:
        """Nothing can be: there is no thread but this."""

    def close(self) -> None:
        """Nothing is held."""


def _all_of(waiting: deque[Delivery]) -> list[Delivery]:
    """Take everything, though threads take from it at the same time."""
    taken: list[Delivery] = []
    with suppress(IndexError):
        while True:
            taken.append(waiting.popleft())
    return taken
