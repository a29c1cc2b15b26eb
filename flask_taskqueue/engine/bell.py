"""The bell: tells the dispatchers of other processes on this host that a task was added."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from ..threads import begin

logger = logging.getLogger("flask_taskqueue")

_LINGER = 0.001
"""Seconds in which further rings are one with the first."""


class Bell:
    """Datagram sockets of live dispatchers in a folder of this user's that belongs to one database.

    A ring may be lost (other users, hosts, private temporary folders): then the poll sees the task.
    """

    def __init__(self, identity: str) -> None:
        self._folder = Path(tempfile.gettempdir()) / f"flask-taskqueue-{_user()}" / hashlib.sha256(identity.encode()).hexdigest()[:16]
        self._listening: socket.socket | None = None
        self._own: Path | None = None

    def ring(self) -> None:
        """Tell every dispatcher that listens, but for one in this process. Never waits, never raises."""
        with suppress(OSError, AttributeError):  # some systems have no such sockets
            _ring(path for path in self._folder.iterdir() if path != self._own)

    def listen(self, wake: Callable[[], object]) -> bool:
        """Call ``wake`` at each ring, from a thread; whether that can be done here."""
        try:
            _make_private(self._folder.parent)
            self._folder.mkdir(mode=0o700, exist_ok=True)
            own = self._folder / secrets.token_hex(8)
            listening = _bound(own)
        except (OSError, AttributeError) as error:
            logger.debug("no bell, tasks of other processes are seen by polling: %s", error)
            return False
        self._listening, self._own = listening, own
        begin(self._wait, listening, wake, name="taskqueue-bell")
        return True

    def close(self) -> None:
        """Listen no more."""
        own, self._own, self._listening = self._own, None, None
        if own is not None:
            with suppress(OSError):
                _ring([own])  # the thread looks up, and ends
                own.unlink()
                self._folder.rmdir()  # unless others are there

    def reset(self) -> None:
        """In a forked child: the socket is the parent's."""
        if self._listening is not None:
            self._listening.close()
        self._listening = self._own = None

    def _wait(self, listening: socket.socket, wake: Callable[[], object]) -> None:
        pause = threading.Event()
        with suppress(OSError), listening:
            while listening.recv(1) and self._listening is listening:
                listening.setblocking(False)  # no flag of recv: gevent's sockets wait all the same
                with suppress(BlockingIOError):
                    while listening.recv(1):
                        continue
                listening.setblocking(True)
                wake()  # for all that has rung until now; whoever rings from now on is heard next time
                pause.wait(_LINGER)


def _bound(path: Path) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        bound.bind(str(path))
    except OSError:
        bound.close()
        raise
    return bound


def _ring(sockets: Iterable[Path]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ringing:
        ringing.setblocking(False)
        for path in sockets:
            try:
                ringing.sendto(b"!", str(path))
            except BlockingIOError:
                continue  # it has rung often enough
            except ConnectionRefusedError:
                path.unlink(missing_ok=True)  # its process was killed


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


def _make_private(folder: Path) -> None:
    """A folder that nobody else can put sockets into. Raises PermissionError if somebody has made another of that name."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != _user() or stat.S_IMODE(found.st_mode) & 0o077:
        raise PermissionError(f"{folder} is not a private folder of this user")
