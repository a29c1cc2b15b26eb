"""Wakeups: which thread drains, and what it was told since it last looked."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Wakeups:
    """Lets one thread drain at a time, and passes calls of others on to it.

    Whoever calls is told whether a drain is under way that will see to it.
    """

    def __init__(self, signal: Callable[[], None]) -> None:
        """``signal`` ends the wait of the drain that is under way."""
        self._signal = signal
        self._gate = threading.Lock()
        self._drain: object | None = None
        self._answered = 0
        self._idle = threading.Event()
        self._idle.set()
        self.calls = 0
        """How often somebody has called."""
        self.over = False
        """Whether nothing more is to be taken."""

    @property
    def is_called(self) -> bool:
        """Whether somebody called since the last look."""
        return self.calls != self._answered

    def begin(self) -> object | None:
        """Begin a drain; None when one is under way, or none is to begin any more."""
        with self._gate:
            if self._drain is not None or self.over:
                return None
            self._drain = object()
            self._idle.clear()
            return self._drain

    def end(self, drain: object) -> None:
        """This drain is over, if it was not already: another may have begun since."""
        with self._gate:
            if self._drain is drain:
                self._leave()

    def may_end(self) -> bool:
        """End the drain that is under way, unless somebody called since it looked."""
        with self._gate:
            if self.is_called and not self.over:
                return False
            self._leave()
            return True

    def call(self) -> bool:
        """Say that something may be due; whether a drain is under way that will see to it."""
        with self._gate:
            self.calls += 1
            if self._drain is not None:
                self._signal()
            return self._drain is not None

    def answer(self) -> bool:
        """Whether somebody called; asked by the drain before it looks, which answers the calls."""
        with self._gate:
            called, self._answered = self.is_called, self.calls
            return called

    def close(self) -> None:
        """Nothing more is to be taken."""
        with self._gate:
            self.over = True
            self._signal()

    def wait_idle(self, seconds: float) -> bool:
        """Wait until no drain is under way, up to so many seconds; whether that is so."""
        return self._idle.wait(seconds)

    def _leave(self) -> None:
        self._drain = None
        self._idle.set()
