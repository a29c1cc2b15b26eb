"""Wakeups: the drain learns of new tasks, from its own process and from others on this host."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..process.logs import get_logger
from ..process.threads import NoThreadError, start_thread

_logger = get_logger()

_LINGER = 0.001
"""The seconds in which further rings count as one with the first."""


class WakeupSocket:
    """The datagram sockets of live dispatchers, in a folder of this user for one database.

    A ring may be lost (other users, hosts, private temporary folders); then polling finds the task.
    The folder is in the temporary one, where anybody may have made it, so it is used only if it is
    a folder, not a link to one, belongs to this user and cannot be entered by anybody else.
    """

    def __init__(self, identity: str) -> None:
        self._parent = Path(tempfile.gettempdir()) / f"flask-taskqueue-{_user()}"
        self._folder = self._parent / hashlib.sha256(identity.encode()).hexdigest()[:16]
        self._listening: socket.socket | None = None
        self._own: str | None = None
        self._has_warned = False

    def ring(self) -> None:
        """Tell every dispatcher that listens, except one in this process.

        Never waits, never raises.
        """
        with self._quietly(), self._opened() as folder:
            _ring(self._folder, folder, [name for name in os.listdir(folder) if name != self._own])

    def listen(self, wake: Callable[[], object]) -> bool:
        """Call ``wake`` at each ring, from a thread; return whether that is possible here.

        Raises `NoThreadError`.
        """
        with self._quietly():
            try:
                self._listening, self._own = self._bind()
            except FileNotFoundError:  # the last to leave has just removed the folder
                self._listening, self._own = self._bind()
            try:
                start_thread(self._wait, self._listening, wake, name="taskqueue-wakeup")
            except NoThreadError:
                self.reset()  # the next ring removes the file, because nobody listens
                raise
        return self._own is not None

    def _bind(self) -> tuple[socket.socket, str]:
        """Return a socket in the folder, which is made if need be, and its name there."""
        with suppress(FileExistsError):
            self._parent.mkdir(mode=0o700)
        with _private(self._parent) as parent, suppress(FileExistsError):
            os.mkdir(self._folder.name, 0o700, dir_fd=parent)
        with self._opened():
            own = secrets.token_hex(8)
            return _bound(self._folder / own), own

    def close(self) -> None:
        """Stop listening."""
        own, self._own, self._listening = self._own, None, None
        if own is None:
            return
        with suppress(OSError, _NotPrivateError), _private(self._parent) as parent:
            with _private(self._folder.name, parent) as folder:
                _ring(self._folder, folder, [own])  # this wakes the thread, which then ends
                os.unlink(own, dir_fd=folder)
            os.rmdir(self._folder.name, dir_fd=parent)  # fails if others are still there

    def reset(self) -> None:
        """Close the socket in a forked child, because it is the parent's."""
        if self._listening is not None:
            self._listening.close()
        self._listening = self._own = None

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """Yield the folder, opened by way of the one above it and checked to be private."""
        with _private(self._parent) as parent, _private(self._folder.name, parent) as folder:
            yield folder

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Suppress errors, because without a wakeup socket tasks are seen by polling.

        If somebody can do something about it, a warning says so, once.
        """
        try:
            yield
        except _NotPrivateError:
            if not self._has_warned:
                self._has_warned = True
                _logger.warning(
                    "%s is not a private folder of this user (%d), so dispatchers are not "
                    "told of new tasks there and see them by polling: "
                    "remove it, or set TMPDIR to a folder that only this user can write to",
                    self._parent,
                    _user(),
                )
        except FileNotFoundError:
            return  # nobody listens
        except (OSError, AttributeError) as error:  # some systems have no such sockets
            _logger.debug(
                "no wake-up socket, tasks of other processes are seen by polling: %s", error
            )

    def _wait(self, listening: socket.socket, wake: Callable[[], object]) -> None:
        pause = threading.Event()
        with suppress(OSError), listening:
            while listening.recv(1) and self._listening is listening:
                listening.setblocking(False)  # not a flag of recv: gevent's sockets ignore it
                with suppress(BlockingIOError):
                    while listening.recv(1):
                        continue
                listening.setblocking(True)
                # one call answers all rings until now; later ones are heard next time
                wake()
                pause.wait(_LINGER)


def _bound(path: Path) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        bound.bind(str(path))
    except OSError:
        bound.close()
        raise
    return bound


def _ring(path: Path, folder: int, names: Iterable[str]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ringing:
        ringing.setblocking(False)
        for name in names:
            with suppress(FileNotFoundError):  # another has removed it
                if not stat.S_ISSOCK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
                    continue
                try:
                    ringing.sendto(b"!", f"{path}/{name}")
                except BlockingIOError:
                    continue  # it has enough rings waiting
                except ConnectionRefusedError:
                    os.unlink(name, dir_fd=folder)  # its process was killed


def _user() -> int:
    return os.getuid() if hasattr(os, "getuid") else 0


@contextmanager
def _private(path: Path | str, within: int | None = None) -> Iterator[int]:
    """Yield a folder, opened, that nobody else can put anything into.

    Raises `_NotPrivateError` if it is anything else, and FileNotFoundError if there is none.
    """
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=within)
    except OSError as error:
        if error.errno in (
            errno.ELOOP,
            errno.ENOTDIR,
            errno.EACCES,
        ):  # a link, a file, somebody else's folder
            raise _NotPrivateError(path) from error
        raise
    try:
        found = os.fstat(folder)
        if found.st_uid != _user() or stat.S_IMODE(found.st_mode) & 0o077:
            raise _NotPrivateError(path)
        yield folder
    finally:
        os.close(folder)


class _NotPrivateError(Exception):
    """A folder that somebody else made, or can enter."""


class Wakeups:
    """The gate that lets one thread drain at a time and passes the calls of others on to it.

    Whoever calls learns whether a drain is under way that will see to it.
    """

    def __init__(self, signal: Callable[[], None]) -> None:
        """Keep ``signal``, which ends the wait of the drain that is under way."""
        self._signal = signal
        self._gate = threading.Lock()
        self._drain: object | None = None
        self._answered = 0
        self._idle = threading.Event()
        self._idle.set()
        self.calls: int = 0
        """The number of calls so far."""
        self.over: bool = False
        """Whether no more tasks may be taken."""

    @property
    def is_called(self) -> bool:
        """Whether somebody called since the last look."""
        return self.calls != self._answered

    def begin(self) -> object | None:
        """Begin a drain; return None when one is under way, or none may begin any more."""
        with self._gate:
            if self._drain is not None or self.over:
                return None
            self._drain = object()
            self._idle.clear()
            return self._drain

    def end(self, drain: object) -> None:
        """End this drain, if it is not over already: another may have begun since."""
        with self._gate:
            if self._drain is drain:
                self._leave()

    def may_end(self) -> bool:
        """End the running drain unless somebody called since it looked; return whether it ended."""
        with self._gate:
            if self.is_called and not self.over:
                return False
            self._leave()
            return True

    def call(self) -> bool:
        """Say that something may be due; return whether a running drain will see to it."""
        with self._gate:
            self.calls += 1
            if self._drain is not None:
                self._signal()
            return self._drain is not None

    def answer(self) -> bool:
        """Return whether somebody called, and count those calls as answered.

        The drain asks this before it looks.
        """
        with self._gate:
            called, self._answered = self.is_called, self.calls
            return called

    def close(self) -> None:
        """Let no more tasks be taken."""
        with self._gate:
            self.over = True
            self._signal()

    def wait_idle(self, seconds: float) -> bool:
        """Wait up to ``seconds`` until no drain is under way; return whether that is so."""
        return self._idle.wait(seconds)

    def _leave(self) -> None:
        self._drain = None
        self._idle.set()
