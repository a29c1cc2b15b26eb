"""The pace of handlers: whether one thread does for them, how many tasks to lease ahead, how
long results wait for each other.
"""

from __future__ import annotations

BRISK = 0.004
"""Seconds within which handlers are done, on average, for several to be leased for one thread
and recorded together.
"""
QUICK = 0.04
"""Seconds within which they are done for as many to be leased as there are threads, to follow
those that run.
"""
GLANCE = 0.002
"""The shortest wait that is worth while, in seconds."""
_GATHERING = 0.02
"""The longest that results wait for each other."""
_IDLENESS = 3
"""How much more the seconds count in which a handler waits: other threads could use them."""
_AHEAD = 0.02
"""Seconds of work that are leased together for one thread."""
_MOST = 128
_WEIGHT = 1 / 16
"""Of an attempt in the average."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


class Pacing:
    """A moving average over handlers, in ``threads`` at most; ``computing`` says that they run in
    this process.

    Threads that compute hinder each other, and all the more if they wait for the same lock in the
    database; then each looks slow, though one alone would be brisk. So now and then one is tried
    alone. Instants are seconds of the monotonic clock.
    """

    def __init__(self, threads: int, *, computing: bool = True) -> None:
        self._threads = threads
        self._computing = computing
        self._seconds = self._effective = BRISK / 2  # the latter with what waiting counts more
        self._tried_at = 0.0
        self._pause = _FIRST_PAUSE

    @property
    def brisk(self) -> bool:
        """Whether handlers are so quick that what surrounds them costs more than they do.

        Only those that compute in this process: waiting for other servers is done in many threads.
        """
        return self._computing and self._effective < BRISK

    @property
    def quick(self) -> bool:
        """Whether a turn of the drain for each would take more time than they do, though they
        need all threads.
        """
        return not self.brisk and self._seconds < QUICK

    @property
    def leads(self) -> bool:
        """Whether more is leased than runs, so that a thread that is through need not wait for
        the drain.
        """
        return self._threads > 1 and (self.brisk or self.quick)

    @property
    def capacity(self) -> int:
        """How many tasks to take at a time: more than there are threads while they are brisk,
        up to twenty milliseconds of work.
        """
        if not self.brisk or self._threads == 1:
            return self._threads
        return max(self._threads, min(_MOST, int(_AHEAD / max(self._seconds, 1e-5))))

    @property
    def depth(self) -> int:
        """How many tasks to have in flight: while they are brisk or quick those that run, and
        as many to follow.
        """
        return 2 * self.capacity if self.leads else self._threads

    @property
    def patience(self) -> float:
        """Seconds within which one of those that run ought to be done: after them it is taken
        for a slow one.
        """
        if self.brisk:
            return max(GLANCE, 3 * self._seconds)
        return max(GLANCE, self._seconds) if self.quick else GLANCE

    def gathering(self, *, busy: bool, waiting: bool) -> float:
        """Seconds that results wait for each other, so that one turn records them; longer while
        every thread is ``busy``.

        Of quick ones only while tasks are ``waiting`` that were leased to follow: else a thread
        would have nothing to do.
        """
        if self.brisk:
            return _GATHERING if busy else GLANCE
        return min(_GATHERING, self._seconds / 2) if self.quick and waiting else 0.0

    def observe(self, seconds: float, computed: float) -> None:
        """Take an attempt into account that took so many seconds, of which the processor computed
        for some.

        One that is much slower than the others counts only as much as is needed for a few to be
        noticed.
        """
        idle = max(0.0, seconds - computed)
        limit = 2 * BRISK if self.brisk else max(2 * BRISK * self._threads, 2 * QUICK)
        self._seconds += _WEIGHT * (min(seconds, limit) - self._seconds)
        self._effective += _WEIGHT * (min(seconds + _IDLENESS * idle, limit) - self._effective)

    def stall(self) -> None:
        """They are not brisk, or not quick, after all: those that run keep the others waiting."""
        if not self.brisk:
            self._seconds = max(self._seconds, QUICK)
        self._effective = max(self._effective, BRISK)

    def try_alone(self, now: float) -> None:
        """Take them for brisk, if it is time to try that. So many threads make each look at
        most that many times as slow.
        """
        if not self._computing:
            return
        if self.brisk:
            if now - self._tried_at > _LONGEST_PAUSE:
                self._pause = _FIRST_PAUSE
        elif now - self._tried_at > self._pause and self._seconds < self._threads * BRISK:
            self._seconds = self._effective = BRISK / 2
            self._tried_at, self._pause = now, min(2 * self._pause, _LONGEST_PAUSE)
