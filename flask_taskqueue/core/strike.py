"""A strike: an exception on its way to another thread."""

from __future__ import annotations

from typing import Protocol


class Strike(Protocol):
    """`DeadlineExceeded`, raised once in another thread, and only where that may be; see
    `strikes`.
    """

    @property
    def pending(self) -> bool:
        """Whether the thread has not come to such a place yet, so that aiming again may help."""

    def aim(self) -> bool:
        """Look where the thread is now. Whether the exception is going to be raised."""

    def land(self) -> None:
        """Raise it now, if this is the thread and it has not been raised yet."""

    def withdraw(self) -> None:
        """Make sure that it is not raised any more."""
