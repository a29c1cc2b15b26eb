"""Name look-ups in threads that can be left behind: the system's own have no time limit."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import Future
from typing import Any

from ...process.threads import start_thread

Addresses = list[tuple[Any, ...]]
"""Addresses, as getaddrinfo returns them."""

_MOST = 256
"""The most threads that look up names at a time.

No process attempts so many tasks that it looks up this many names at once, unless hardly one has an
answer.
"""


class Lookups:
    """One look-up of each name at a time, in a thread of its own, for all who wait for it.

    So a name server that does not answer holds up nobody who looks for names of other servers.
    Nothing is cached: whoever asks after a look-up has ended has the name looked up anew.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[tuple[str, int], Future[Addresses]] = {}

    def find(self, host: str, port: int, limit: float) -> Addresses:
        """Return the addresses of a host.

        Raises TimeoutError after ``limit`` seconds, and OSError as getaddrinfo does or when too
        many look-ups are under way.
        """
        key = host, port
        with self._lock:
            found = self._running.get(key)
            if found is None:
                if len(self._running) >= _MOST:
                    raise OSError(
                        f"{_MOST} look-ups of other names are under way, and none has an answer"
                    )
                found = self._running[key] = Future()
                start_thread(self._look, key, found, name="taskqueue-lookup")
        return found.result(limit)

    def _look(self, key: tuple[str, int], found: Future[Addresses]) -> None:
        try:
            answer: Addresses | BaseException = list(
                socket.getaddrinfo(*key, 0, socket.SOCK_STREAM)
            )
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits for the answer
            answer = error
        with self._lock:
            del self._running[key]
        if isinstance(answer, BaseException):
            found.set_exception(answer)
        else:
            found.set_result(answer)
