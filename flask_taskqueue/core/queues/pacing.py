"""How many threads, leases and results at a time handlers are worth, by how long they run."""

from __future__ import annotations

ONE_THREAD_BELOW = 0.004
"""Seconds: handlers that take less on average are leased together, run by one thread and recorded
together.
"""
SHORT_BELOW = 0.04
"""Seconds: while handlers take less, as many tasks as there are threads are leased to follow those
that run.
"""
MIN_WAIT = 0.002
"""The shortest wait that is worth while, in seconds."""
_MAX_BATCH_WAIT = 0.02
"""The longest that results wait for each other, in seconds."""
_IDLE_WEIGHT = 3
"""How much more a handler's waiting seconds count, because other threads could use them."""
_WORK_AHEAD = 0.02
"""Seconds of work that are leased together for one thread."""
_MAX_CLAIM = 128
_WEIGHT = 1 / 16
"""The weight of one attempt in the moving averages."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


class Pacing:
    """A moving average of how long handlers run, and what follows from it for a dispatcher.

    There are at most ``threads`` of them; ``computing`` says that handlers run in this process.
    Threads that compute hinder each other, and all the more if they wait for the same lock in the
    database; then each handler looks slow, though one thread alone would be fast. So now and then
    one thread is tried. Instants are seconds of the monotonic clock.
    """

    def __init__(self, threads: int, *, computing: bool = True) -> None:
        self._threads = threads
        self._computing = computing
        self._seconds = self._effective = ONE_THREAD_BELOW / 2  # in the latter waiting counts more
        self._tried_at = 0.0
        self._pause = _FIRST_PAUSE

    @property
    def one_thread(self) -> bool:
        """Whether one thread is enough, because handlers take less than what surrounds them costs.

        Only for handlers that compute in this process: many threads wait for other servers.
        """
        return self._computing and self._effective < ONE_THREAD_BELOW

    @property
    def short(self) -> bool:
        """Whether handlers need all threads, but take less time than a turn of the dispatcher."""
        return not self.one_thread and self._seconds < SHORT_BELOW

    @property
    def leases_ahead(self) -> bool:
        """Whether to lease more than runs, so that no thread has to wait for the dispatcher."""
        return self._threads > 1 and (self.one_thread or self.short)

    @property
    def capacity(self) -> int:
        """How many tasks to claim at a time.

        While one thread is enough, that is up to twenty milliseconds of work.
        """
        if not self.one_thread or self._threads == 1:
            return self._threads
        return max(self._threads, min(_MAX_CLAIM, int(_WORK_AHEAD / max(self._seconds, 1e-5))))

    @property
    def max_in_flight(self) -> int:
        """How many tasks to have in flight: those that run and, if leased ahead, as many again."""
        return 2 * self.capacity if self.leases_ahead else self._threads

    @property
    def slow_after(self) -> float:
        """Seconds within which one of the running tasks should end; later they count as slow."""
        if self.one_thread:
            return max(MIN_WAIT, 3 * self._seconds)
        return max(MIN_WAIT, self._seconds) if self.short else MIN_WAIT

    def batch_wait(self, *, busy: bool, waiting: bool) -> float:
        """Return how many seconds results wait for each other, so that one turn records them.

        They wait longer while every thread is ``busy``. Results of short handlers wait only while
        tasks that were leased ahead are ``waiting``, because otherwise a thread would have nothing
        to do.
        """
        if self.one_thread:
            return _MAX_BATCH_WAIT if busy else MIN_WAIT
        return min(_MAX_BATCH_WAIT, self._seconds / 2) if self.short and waiting else 0.0

    def observe(self, seconds: float, computed: float) -> None:
        """Count an attempt that took some seconds, for some of which the processor computed.

        One that is much slower than the others counts only so much that it takes a few of them to
        make a difference.
        """
        idle = max(0.0, seconds - computed)
        limit = (
            2 * ONE_THREAD_BELOW
            if self.one_thread
            else max(2 * ONE_THREAD_BELOW * self._threads, 2 * SHORT_BELOW)
        )
        self._seconds += _WEIGHT * (min(seconds, limit) - self._seconds)
        self._effective += _WEIGHT * (min(seconds + _IDLE_WEIGHT * idle, limit) - self._effective)

    def stall(self) -> None:
        """Take handlers for slower, because those that run keep the others waiting."""
        if not self.one_thread:
            self._seconds = max(self._seconds, SHORT_BELOW)
        self._effective = max(self._effective, ONE_THREAD_BELOW)

    def try_one_thread(self, now: float) -> None:
        """Try one thread again, if it is time for that.

        So many threads make each handler look at most that many times as slow.
        """
        if not self._computing:
            return
        if self.one_thread:
            if now - self._tried_at > _LONGEST_PAUSE:
                self._pause = _FIRST_PAUSE
        elif (
            now - self._tried_at > self._pause and self._seconds < self._threads * ONE_THREAD_BELOW
        ):
            self._seconds = self._effective = ONE_THREAD_BELOW / 2
            self._tried_at, self._pause = now, min(2 * self._pause, _LONGEST_PAUSE)
