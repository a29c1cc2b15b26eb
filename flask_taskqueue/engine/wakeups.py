"""The shift: which thread drains, and what it was told since it last looked."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Wakeups:
    """One drain at a time. Whoever calls is told whether a drain is under way that will hear of
    it.
    """

    def __init__(self, signal: Callable[[], None]) -> None:
        """``signal`` ends the wait of the drain that is under way."""
        self._signal = signal
        self._gate = threading.Lock()
        self._drain: object | None = None
        self._called = self._sure = self._asked = False
        self._idle = threading.Event()
        self._idle.set()
        self.over = False
        """Whether nothing more is to be taken."""

    @property
    def is_called(self) -> bool:
        """Whether somebody called since the last look."""
        return self._called

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
            if self._called and not self.over:
                return False
            self._leave()
            return True

    def call(self, *, sure: bool) -> bool:
        """Something may be due, or is for ``sure``; whether a drain is under way that will see
        to it.
        """
        with self._gate:
            self._called = self._asked = True
            self._sure |= sure
            if self._drain is not None:
                self._signal()
            return self._drain is not None

    def hear(self) -> bool:
        """Whether somebody called; asked when the drain looks, which answers the calls."""
        with self._gate:
            called, self._called = self._called, False
            return called

    def hear_sure(self) -> bool:
        """Whether somebody was sure; asked once."""
        with self._gate:
            sure, self._sure = self._sure, False
            return sure

    def hear_asked(self) -> bool:
        """Whether somebody called since this was last asked, with a question perhaps (see
        `PauseConfirmations`).
        """
        with self._gate:
            asked, self._asked = self._asked, False
            return asked

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
