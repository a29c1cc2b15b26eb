"""A strike: an exception on its way to another thread."""

from __future__ import annotations

from typing import Protocol


class Strike(Protocol):
    """`DeadlineExceeded`, raised once in another thread, where that is safe; see `strikes`."""

    @property
    def pending(self) -> bool:
        """Whether the thread has not reached a safe place yet, so that aiming again may help."""

    def aim(self) -> bool:
        """Look where the thread is now; return whether the exception is going to be raised."""

    def land(self) -> None:
        """Raise it now, if this is the thread and it has not been raised yet."""

    def withdraw(self) -> None:
        """Make sure that it is no longer raised."""
