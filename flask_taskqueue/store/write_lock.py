"""The write lock of a SQLite file: who writes next."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

try:
    import fcntl
except ImportError:  # not on Windows; SQLite's own lock does alone there
    fcntl = None  # type: ignore[assignment]

_PATIENCE = 10.0
_SHORTEST_NAP = 0.0005
_LONGEST_NAP = 0.005


class Turn(Protocol):
    """Somebody's turn to write; used by ``with`` too, for which it takes as long as it takes."""

    def acquire(self, until: float = math.inf) -> bool:
        """Wait for it, up to an instant of the monotonic clock; whether it came."""

    def release(self) -> None:
        """Let the next one write."""

    def reset(self) -> None:
        """Forget it; after a fork it is the parent's."""

    def __enter__(self) -> object: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None: ...


class NoTurns:
    """Everybody writes when they want to."""

    def acquire(self, until: float = math.inf) -> bool:
        """At once."""
        return True

    def release(self) -> None:
        """Nothing is held."""

    def reset(self) -> None:
        """Nothing is held."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass


class WriteLock:
    """Held by one writer at a time, of all processes on this machine.

    SQLite lets those who find it locked sleep longer and longer, up to a tenth of a second, so
    some starve and the disk idles. Taking turns on a file beside the database avoids both. It
    is never needed for correctness: after ten seconds a writer goes on without it. Whoever takes
    it in a handler's thread is `shielded`, for what is held when a deadline strikes is held for ever.
    """

    def __init__(self, find_path: Callable[[], str]) -> None:
        """``find_path`` is asked for the path of the lock's file when it is first needed."""
        self._find_path = find_path
        self.reset()

    def reset(self) -> None:
        """Forget the lock; after a fork it is the parent's."""
        self._turn = threading.RLock()
        self._depth = 0
        self._file: int | None = None
        self._held = False

    def acquire(self, until: float = math.inf) -> bool:
        """Wait for it, up to an instant of the monotonic clock; whether it came."""
        wait = -1 if math.isinf(until) else max(0.0, until - time.monotonic())
        if not self._turn.acquire(timeout=wait):
            return False
        self._depth += 1
        if self._depth == 1 and fcntl is not None:
            try:
                self._held = self._lock_file(min(until, time.monotonic() + _PATIENCE))
            except BaseException:
                self.release()
                raise
        return True

    def release(self) -> None:
        """Let the next one write."""
        self._depth -= 1
        if self._depth == 0 and self._held and self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)
            self._held = False
        self._turn.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()

    def _lock_file(self, limit: float) -> bool:
        if self._file is None:
            self._file = os.open(self._find_path(), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        nap = _SHORTEST_NAP
        while time.monotonic() < limit:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(nap)
                nap = min(nap * 1.5, _LONGEST_NAP)
            else:
                return True
        return False
