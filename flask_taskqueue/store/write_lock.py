"""The write lock of a SQLite file: who writes next."""

from __future__ import annotations

import os
import threading
import time
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType

import sqlalchemy as sa

try:
    import fcntl
except ImportError:  # not on Windows; SQLite's own lock does alone there
    fcntl = None  # type: ignore[assignment]

_PATIENCE = 10.0
_SHORTEST_NAP = 0.0005
_LONGEST_NAP = 0.005


def write_lock(url: sa.URL, in_memory: bool) -> AbstractContextManager[object]:
    """What to hold while writing; nothing for databases that see to it themselves."""
    if url.get_backend_name() != "sqlite" or in_memory or str(url.database).startswith("file:"):
        return nullcontext()
    return WriteLock(f"{url.database}.lock")


class WriteLock:
    """Held by one writer at a time, of all processes on this machine.

    SQLite lets those who find it locked sleep longer and longer, up to a tenth of a second, so
    some starve and the disk idles. Taking turns on a file beside the database avoids both. It
    is never needed for correctness: after ten seconds a writer goes on without it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.reset()

    def reset(self) -> None:
        """Forget the lock; after a fork it is the parent's."""
        self._turn = threading.RLock()
        self._depth = 0
        self._file: int | None = None
        self._held = False

    def __enter__(self) -> None:
        self._turn.acquire()
        self._depth += 1
        if self._depth == 1 and fcntl is not None:
            self._held = self._lock_file()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._depth -= 1
        if self._depth == 0 and self._held and self._file is not None:
            fcntl.flock(self._file, fcntl.LOCK_UN)
            self._held = False
        self._turn.release()

    def _lock_file(self) -> bool:
        if self._file is None:
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o660)
        limit, nap = time.monotonic() + _PATIENCE, _SHORTEST_NAP
        while time.monotonic() < limit:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(nap)
                nap = min(nap * 1.5, _LONGEST_NAP)
            else:
                return True
        return False
