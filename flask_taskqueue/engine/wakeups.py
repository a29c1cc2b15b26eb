"""Wakeups: which thread drains, and who has called it since it last looked."""

from __future__ import annotations

import threading
from collections.abc import Callable


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
        self.calls = 0
        """The number of calls so far."""
        self.over = False
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
