"""The pulse of a dispatcher process, which its supervisor feels."""

from __future__ import annotations

import mmap

from .recycling import Replaced

_MOST_WHY = 100
"""The most characters of the reason why a child leaves."""


class Pulse:
    """The memory that parent and child share.

    One byte changes with each beat of the child. Another is set when the child leaves, and the rest
    says why it leaves.
    """

    def __init__(self, replaced: Replaced) -> None:
        self._shared = mmap.mmap(-1, 2 + _MOST_WHY)
        self.replaced = replaced
        """What was in the child's place before."""

    def beat(self) -> None:
        """Tell the parent that the child has renewed its leases.

        Called in the child.
        """
        self._shared[0] = (self._shared[0] + 1) % 256

    def read(self) -> int:
        """Return a value that differs from the last one if the child has beaten since.

        Called in the parent.
        """
        return self._shared[0]

    def leave(self, why: str) -> None:
        """Tell the parent that the child takes nothing more, and why.

        Called in the child, which ends when what runs has ended.
        """
        self._shared[2:] = why.encode("ascii", "replace")[:_MOST_WHY].ljust(_MOST_WHY, b"\0")
        self._shared[1] = 1

    @property
    def is_leaving(self) -> bool:
        """Whether the child is leaving and must be replaced."""
        return bool(self._shared[1])

    def succeeded(self) -> Replaced:
        """Return what was in the place of this child's successor before, once this one has left."""
        return Replaced(self.replaced.number + 1, self._shared[2:].rstrip(b"\0").decode())
