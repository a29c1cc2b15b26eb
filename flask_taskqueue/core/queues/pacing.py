"""The number of threads, leases and results at a time that pays off, by how long handlers run."""

from __future__ import annotations

ONE_THREAD_BELOW = 0.004
"""The number of seconds below which handlers are grouped.

If they take less on average, tasks are leased together, run by one thread and recorded together.
"""
SHORT_BELOW = 0.04
"""The number of seconds below which tasks are leased ahead.

While handlers take less, as many tasks as there are threads are leased to follow the running ones.
"""
MIN_WAIT = 0.002
"""The shortest wait that is worth while, in seconds."""
_MAX_BATCH_WAIT = 0.02
"""The longest that results wait for each other, in seconds."""
_IDLE_WEIGHT = 3
"""How much more a handler's waiting seconds count, because other threads could use them."""
_WORK_AHEAD = 0.02
"""The number of seconds of work that are leased together for one thread."""
_MAX_CLAIM = 128
_WEIGHT = 1 / 16
"""The weight of one attempt in the moving averages."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


class Pacing:
    """A moving average of how long handlers run, and the pace that a dispatcher derives from it.

    There are at most ``threads`` threads; ``computing`` says that handlers run in this process.
    Threads that compute hinder each other, all the more if they wait for the same lock in the
    database; then each handler looks slow, though one thread alone would be fast. So one thread is
    tried from time to time. Instants are seconds of the monotonic clock.
    """

    def __init__(self, threads: int, *, computing: bool = True) -> None:
        self._threads = threads
        self._computing = computing
        self._seconds = self._effective = ONE_THREAD_BELOW / 2  # in the latter, waiting counts more
        self._tried_at = 0.0
        self._pause = _FIRST_PAUSE

    @property
    def one_thread(self) -> bool:
        """Whether one thread is enough, because handlers take less time than the work around them.

        This only applies to handlers that compute in this process: waiting for other servers takes
        many threads.
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
        """The seconds within which a running task should end; after that they count as slow."""
        if self.one_thread:
            return max(MIN_WAIT, 3 * self._seconds)
        return max(MIN_WAIT, self._seconds) if self.short else MIN_WAIT

    def batch_wait(self, *, busy: bool, waiting: bool) -> float:
        """Return how many seconds results wait for each other, so that one turn records them.

        They wait longer while every thread is ``busy``. Results of short handlers only wait while
        tasks that were leased ahead are ``waiting``; otherwise a thread would have nothing to do.
        """
        if self.one_thread:
            return _MAX_BATCH_WAIT if busy else MIN_WAIT
        return min(_MAX_BATCH_WAIT, self._seconds / 2) if self.short and waiting else 0.0

    def observe(self, seconds: float, computed: float) -> None:
        """Count an attempt that took some seconds, for some of which the processor computed.

        An attempt that is much slower than the others is limited in its weight, so that it takes a
        few of them to make a difference.
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
        """Assume that handlers are slower, because the running ones keep the others waiting."""
        if not self.one_thread:
            self._seconds = max(self._seconds, SHORT_BELOW)
        self._effective = max(self._effective, ONE_THREAD_BELOW)

    def try_one_thread(self, now: float) -> None:
        """Try one thread again, if it is time for that.

        With many threads, each handler looks slower, but at most by a factor of their number.
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
