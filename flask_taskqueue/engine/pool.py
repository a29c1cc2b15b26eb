"""The pool of threads in which tasks are attempted."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import NamedTuple

from ..core.delivery.delivery import Delivery
from ..core.queues.pacing import Pacing
from ..core.times import lease_clock
from ..process.logs import get_logger
from ..process.threads import NoThreadError, start_thread
from ..store import AttemptResult
from .attempt import Attempts

_logger = get_logger()

_LONG = 0.01
"""The seconds after which a thread still at its attempt is not counted on for what waits."""
_CALLS = 5
"""How often more threads are called before what still waits is recalled.

A busy machine stands still for less time than that takes.
"""


class Collected(NamedTuple):
    """A delivery that has left the pool with its result, or without one because it never began."""

    delivery: Delivery
    result: AttemptResult | None


class Pool:
    """A pool of at most ``size`` daemon threads, started as they are needed.

    Only the drain submits, collects and recalls. How far ahead tasks are leased and how many
    threads attempt them depends on how long handlers take (see `Pacing`). With ``inline`` there are
    no threads: whoever submits a delivery also attempts it, for a database that is a single
    connection.

    The pool does not use concurrent.futures, because its threads are joined when the interpreter
    exits, before anybody can stop the dispatcher, and a thread that hangs could not be written off
    and replaced.
    """

    def __init__(self, size: int, attempts: Attempts, *, inline: bool = False) -> None:
        self.size: int = 1 if inline else size
        self.stuck: int = 0
        """The number of threads that did not stop at their deadline and still run."""
        self._attempts = attempts
        self._inline = inline
        self._pacing = Pacing(self.size, computing=attempts.in_process)
        self._outstanding: set[Delivery] = set()
        self._waiting: deque[Delivery] = deque()
        self._completed: deque[Collected] = deque()
        self._signals: SimpleQueue[None] = SimpleQueue()
        self._calls: SimpleQueue[bool] = SimpleQueue()
        self._threads = 0
        self._wanted = self.size
        self._called_in_vain = 0
        self._began: dict[int, float] = {}
        self._counting = threading.Lock()

    @property
    def room(self) -> int:
        """The number of further deliveries to submit.

        They are for free threads and, while handlers are short, some more to follow.
        """
        return min(self._pacing.capacity, self._pacing.max_in_flight - len(self._outstanding))

    def submit(self, deliveries: Sequence[Delivery]) -> None:
        """Have deliveries attempted, by one thread while handlers are very short, else by all.

        Threads that only compute slow each other down, so while one is enough the others stop. If
        it turns out not to be that quick, `_call_more` calls them.
        """
        self._outstanding.update(deliveries)
        if self._inline:
            for delivery in deliveries:
                self._run(delivery)
            return
        one_thread = self._pacing.one_thread
        self._waiting.extend(deliveries)
        with self._counting:
            self._wanted = 1 if one_thread else self.size
            missing = min(len(self._outstanding), self.size) - self._threads
            self._threads += max(0, missing)
        for _ in range(missing):
            self._begin_thread()
        for _ in deliveries[:1] if one_thread else deliveries:
            self._calls.put(True)

    def collect(self, wait: float) -> list[Collected]:
        """Return what has left the pool, waiting up to ``wait`` seconds for an item or a signal.

        Results wait a little for each other (see `Pacing.batch_wait`); while nothing is attempted,
        a signal ends the wait at once. Deliveries that wait behind one that turns out not to be
        quick get more threads, in the end all there are; those that still wait then are recalled.
        """
        collected: list[Collected] = []
        limit = time.monotonic() + wait
        settled = math.inf
        happened = False
        while True:
            happened |= self._move_completed(collected)
            now = time.monotonic()
            if happened:
                limit = settled = min(settled, now + self._batch_wait(collected))
            if now >= limit or (collected and not self._outstanding):
                break
            try:
                slow_after = self._pacing.slow_after if self._waiting else math.inf
                self._await_signal(min(limit - now, slow_after))
                happened = True
            except Empty:
                if self._waiting and not self._completed and not self._call_more():
                    collected += self.recall()
                    break
        self._pacing.try_one_thread(time.monotonic())
        return collected

    def recall(self, queues: Collection[str] | None = None) -> list[Collected]:
        """Take back what no thread has taken up, of all ``queues`` or some; it never begins."""

        def stays(delivery: Delivery) -> bool:
            return queues is not None and delivery.record.queue not in queues

        with self._counting:  # threads take them up under this lock
            waiting = list(self._waiting)
            self._waiting = deque(delivery for delivery in waiting if stays(delivery))
        recalled = [delivery for delivery in waiting if not stays(delivery)]
        self._outstanding.difference_update(recalled)
        return [Collected(delivery, None) for delivery in recalled]

    def replace(self, delivery: Delivery, result: AttemptResult) -> None:
        """Complete a delivery whose thread does not stop; another takes the thread's place."""
        if not self._inline:
            with self._counting:
                self.stuck += 1
                self._threads -= 1
        self._complete(delivery, result, signal=True)

    def signal(self) -> None:
        """End the wait of `collect`."""
        self._signals.put(None)

    def close(self) -> None:
        """Let the threads end when they have nothing left to do."""
        for _ in range(self._threads):
            self._calls.put(False)
        self._threads = 0

    def _call_more(self) -> bool:
        """Call twice as many threads for what waits; return whether it may wait for them."""
        self._wanted = min(2 * self._wanted, self.size)
        for _ in range(min(len(self._waiting), self._wanted)):
            self._calls.put(True)
        self._called_in_vain += 1
        if self._called_in_vain < _CALLS:
            return True
        self._called_in_vain = 0
        self._pacing.stall()
        return False

    def _move_completed(self, collected: list[Collected]) -> bool:
        """Move completed deliveries to ``collected``; return whether there were any."""
        before = len(collected)
        with suppress(IndexError):
            while True:
                completed = self._completed.popleft()
                delivery, result = completed
                if delivery not in self._outstanding:
                    continue
                self._outstanding.remove(delivery)
                collected.append(completed)
                if result is not None:
                    self._pacing.observe(result.duration - delivery.waited, delivery.computed)
        if len(collected) == before:
            return False
        self._called_in_vain = 0
        return True

    def _batch_wait(self, collected: Sequence[Collected]) -> float:
        """Return the seconds for which results wait for each other now."""
        attempted = len(self._outstanding) + len(collected)
        if not attempted:
            return 0.0
        return self._pacing.batch_wait(busy=attempted >= self.size, waiting=bool(self._waiting))

    def _await_signal(self, seconds: float) -> None:
        """Wait for a signal and take every one there is: what they tell of is looked at next.

        Raises `queue.Empty` if none comes in time.
        """
        self._signals.get(timeout=seconds)
        with suppress(Empty):
            while True:
                self._signals.get_nowait()

    def _work(self) -> None:
        """Attempt what waits each time this thread is called."""
        me = threading.get_ident()
        while self._calls.get():
            try:
                while (delivery := self._next(me)) is not None:
                    if not delivery.may_begin(lease_clock()):
                        self._complete(delivery, None, signal=True)
                        continue
                    self._attempt(delivery)
                    if delivery.abandoned:
                        return
            finally:
                self._began.pop(me, None)

    def _next(self, me: int) -> Delivery | None:
        """Return the delivery that this thread should attempt, or None if there is none for it.

        That is so when nothing waits, or when enough other threads are at work.
        """
        with self._counting:
            now = self._began[me] = time.monotonic()
            if (
                len(self._began) <= self._wanted
                or sum(now - began < _LONG for began in self._began.values()) <= self._wanted
            ):
                with suppress(IndexError):
                    return self._waiting.popleft()
            del self._began[me]
            return None

    def _attempt(self, delivery: Delivery) -> None:
        """Run a delivery; if its thread dies of it, start another at once.

        A thread that was written off before is not replaced here.
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

    def _run(self, delivery: Delivery) -> None:
        """Attempt a delivery and hand over its result.

        If the delivery was written off, nobody waits for the result.
        """
        result = None
        began = time.thread_time()
        try:
            result = self._attempts.make(delivery)
        finally:
            delivery.computed = time.thread_time() - began
            if not delivery.abandoned:
                # while others wait for this thread, the drain soon looks by itself
                soon = self._waiting and self._pacing.leases_ahead
                self._complete(delivery, result or self._attempts.broken(delivery), signal=not soon)

    def _complete(self, delivery: Delivery, result: AttemptResult | None, *, signal: bool) -> None:
        self._completed.append(Collected(delivery, result))
        if signal:
            self._signals.put(None)

    def _begin_thread(self) -> None:
        """Start a thread that is counted already.

        If no more threads can be started, `collect` recalls what waits.
        """
        try:
            start_thread(self._work, name="taskqueue-slot")
        except NoThreadError as error:
            _logger.warning("no thread could be started for a task: %s", error)
            with self._counting:
                self._threads -= 1
