"""The probe: looks at the database for health checks, without waiting for it longer than they can."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..runtime import Runtime
from ..threads import begin, leaving_signals
from .health import Health

PATIENCE = 5.0
"""Seconds within which a look is over, or the database does not answer."""


class Probe:
    """Of one application. One look at a time, so that a silent database costs one thread and one connection, however often it is asked."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._turn = threading.Semaphore()

    def ask(self, look: Callable[[], Health]) -> Health:
        """What ``look`` finds, run in a thread; after `PATIENCE`, waiting for one that is under way included, that nothing answers."""
        if self._runtime.store.database.in_memory:  # one connection, for one thread
            return look()
        limit = time.monotonic() + PATIENCE
        if not self._turn.acquire(timeout=PATIENCE):
            return _silent()
        found: list[Health] = []
        with leaving_signals():
            thread = begin(self._look, look, found, name="taskqueue-health")
        thread.join(max(0.0, limit - time.monotonic()))
        if thread.is_alive():
            return _silent()
        return found[0] if found else Health(problems=("the health check failed; the log says why",), reached=False)

    def _look(self, look: Callable[[], Health], found: list[Health]) -> None:
        try:
            found.append(look())
        finally:
            self._turn.release()


def _silent() -> Health:
    return Health(problems=(f"the database has not answered for {PATIENCE:g} s",), reached=False)
