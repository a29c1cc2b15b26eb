"""The write lock of a SQLite file, which decides who writes next."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Protocol

from ...core.diagnosis.facts import Finding
from ...core.errors import TransientError
from ...process.logs import get_logger

try:
    import fcntl
except ImportError:  # not on Windows, where SQLite's own lock has to do
    fcntl = None  # type: ignore[assignment]

_logger = get_logger()

LIMIT = 60.0
"""The number of seconds that a transaction waits for its turn."""
_PATIENCE = 10.0
_SHORTEST_NAP = 0.0005
_LONGEST_NAP = 0.005


class WriteTurn(Protocol):
    """A turn to write, which can be used with ``with``.

    ``with`` raises `TransientError` if the turn does not come within a minute.
    """

    def acquire(self, until: float = math.inf) -> bool:
        """Wait for the turn, up to an instant of the monotonic clock; return whether it came."""

    def release(self) -> None:
        """Let the next one write."""

    def reset(self) -> None:
        """Forget the turn, because after a fork it is the parent's."""

    def findings(self) -> list[Finding]:
        """Return what keeps writers of other processes from taking turns."""

    @property
    def is_mine(self) -> bool:
        """Whether this thread has the turn, so that nobody else writes until it is done."""

    def __enter__(self) -> object: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class NoWriteTurns:
    """A turn for databases where everybody can write at any time."""

    def acquire(self, until: float = math.inf) -> bool:
        """Return at once."""
        return True

    def release(self) -> None:
        """Do nothing, as nothing is held."""

    def reset(self) -> None:
        """Do nothing, as nothing is held."""

    def findings(self) -> list[Finding]:
        """Return nothing, as nothing can be wrong."""
        return []

    @property
    def is_mine(self) -> bool:
        """Always False, because there are no turns."""
        return False

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


class WriteLock:
    """A lock that one writer holds at a time, among all processes on this machine.

    SQLite makes writers that find it locked sleep for growing intervals, up to a tenth of a second,
    so some starve and the disk idles. Taking turns on a file beside the database avoids both. The
    lock is never needed for correctness: after ten seconds a writer continues without it, and
    immediately if its file cannot be used. A handler's thread that takes it is `shielded`, because
    a lock that is held when a deadline strikes would be held for ever.
    """

    def __init__(self, find_database: Callable[[], str]) -> None:
        """Take a function that finds the path of the database.

        It is called when the lock's file, which lies beside the database, is first needed.
        """
        self._find_database = find_database
        self._has_warned = False
        self._file: int | None = None
        self.reset()

    def reset(self) -> None:
        """Forget the lock, because after a fork it is the parent's.

        The file is closed here: as long as any process has it open, it stays locked, even if the
        parent has died.
        """
        if self._file is not None:
            with suppress(OSError):
                os.close(self._file)
        self._turn = threading.RLock()
        self._depth = 0
        self._file = None

    def acquire(self, until: float = math.inf) -> bool:
        """Wait for the lock, up to an instant of the monotonic clock; return whether it came.

        If anything interrupts that, the lock stays free.
        """
        if self.is_mine:
            self._depth += 1
            return True
        wait = -1 if math.isinf(until) else max(0.0, until - time.monotonic())
        try:
            if not self._turn.acquire(timeout=wait):
                return False
            self._depth = 1
            if fcntl is not None:
                self._lock_file(min(until, time.monotonic() + _PATIENCE))
        except BaseException:
            if self.is_mine:
                self._let_go()
            raise
        return True

    def release(self) -> None:
        """Let the next one write."""
        if self._depth > 1:
            self._depth -= 1
        else:
            self._let_go()

    def findings(self) -> list[Finding]:
        """Return a warning if the lock's file cannot be used."""
        if fcntl is None:
            return []
        try:
            os.close(_open(self._find_database()))
        except OSError as error:
            return [_without(error)]
        return []

    def __enter__(self) -> None:
        depth = self._depth if self.is_mine else 0
        try:
            came = self.acquire(until=time.monotonic() + LIMIT)
        except BaseException:  # a signal, just when it came
            if self.is_mine:
                self._depth = depth
                if not depth:
                    self._let_go()
            raise
        if not came:
            raise TransientError(
                f"the turn to write did not come within {LIMIT:g} s: a transactional "
                "handler, which on SQLite keeps all others from "
                "writing, takes that long. Keep transactional handlers short, or use "
                "PostgreSQL or MariaDB"
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    @property
    def is_mine(self) -> bool:
        """Whether this thread holds the lock."""
        return self._turn._is_owned()  # type: ignore[attr-defined, no-any-return]  # as threading.Condition asks it

    def _let_go(self) -> None:
        self._depth = 0
        try:
            if self._file is not None:
                fcntl.flock(self._file, fcntl.LOCK_UN)
        finally:
            self._turn.release()

    def _lock_file(self, limit: float) -> None:
        """Wait for the writers of other processes, up to a limit."""
        try:
            if self._file is None:
                self._file = _open(self._find_database())
            nap = _SHORTEST_NAP
            while time.monotonic() < limit:
                try:
                    fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    time.sleep(nap)
                    nap = min(nap * 1.5, _LONGEST_NAP)
                else:
                    return
        except OSError as error:
            if not self._has_warned:
                self._has_warned = True
                _logger.warning("%s", _without(error))


def _open(database: str) -> int:
    """Open the lock's file for reading, which is enough to lock it.

    A new file gets the owner and the mode of the database, like SQLite's own files beside it.
    """
    path, flags = f"{database}.lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with suppress(FileNotFoundError):
        return os.open(path, flags)
    like = os.stat(database)
    try:
        file = os.open(path, flags | os.O_CREAT | os.O_EXCL, like.st_mode & 0o666)
    except FileExistsError:
        return os.open(path, flags)
    with suppress(PermissionError):
        if os.geteuid() == 0:
            os.fchown(file, like.st_uid, like.st_gid)
        os.fchmod(file, like.st_mode & 0o666)
    return file


def _without(error: OSError) -> Finding:
    return Finding(
        "warning",
        f"the lock file by which processes take turns to write cannot be used ({error}): "
        "they go on without it, and wait "
        "longer for each other",
        "give it the owner and the mode of the database, or remove it; let the folder be "
        "written to",
        "databases#sqlite",
    )
