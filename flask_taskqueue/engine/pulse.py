"""The state that a dispatcher process and its supervisor share: pulse, and wear."""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from pathlib import Path

_STATM = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True)
class Replaced:
    """The number of worn processes that had this one's place before, and why the last one left."""

    number: int = 0
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Recycling:
    """The attempts that a process may make, and the bytes of memory that it may hold.

    None allows any number. A process that has reached either limit is replaced.
    """

    attempts: int | None = None
    memory: int | None = None

    def reached(self, attempts: int) -> str | None:
        """Return why a process that has made ``attempts`` attempts must be replaced, or None.

        A process that has made none is not replaced, however much it holds, because otherwise no
        task would ever run.
        """
        if self.attempts is not None and attempts >= self.attempts:
            return f"it has made {attempts} attempts"
        if (
            self.memory is not None
            and attempts
            and (held := resident()) is not None
            and held > self.memory
        ):
            return f"it holds {held / 1e6:.0f} MB of memory"
        return None


def resident() -> int | None:
    """Return the bytes that this process has in memory, or None where the system does not tell."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def usable_processors() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "process_cpu_count"):
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_BEAT, _WORN, _LEAVING, _WHY = range(4)
"""The offsets in the shared memory."""
_MOST_WHY = 100
"""The most characters of the reason why a child is worn."""


class Pulse:
    """The memory that parent and child share.

    One byte changes with each beat of the child. Another is set when the child is worn, a third
    when it may leave, and the rest says why it is worn.
    """

    def __init__(self, replaced: Replaced) -> None:
        self._shared = mmap.mmap(-1, _WHY + _MOST_WHY)
        self.replaced = replaced
        """What was in the child's place before."""

    def beat(self) -> None:
        """Tell the parent that the child has renewed its leases.

        Called in the child.
        """
        self._shared[_BEAT] = (self._shared[_BEAT] + 1) % 256

    def read(self) -> int:
        """Return a value that differs from the last one if the child has beaten since.

        Called in the parent.
        """
        return self._shared[_BEAT]

    def wear_out(self, why: str) -> None:
        """Tell the parent that the child is to be replaced, and why.

        Called in the child, which takes tasks until it is leaving.
        """
        self._shared[_WHY:] = why.encode("ascii", "replace")[:_MOST_WHY].ljust(_MOST_WHY, b"\0")
        self._shared[_WORN] = 1

    @property
    def is_worn(self) -> bool:
        """Whether the child is to be replaced."""
        return bool(self._shared[_WORN])

    def let_leave(self) -> None:
        """Have the child take nothing more, because its successor starts.

        Called in the parent.
        """
        self._shared[_LEAVING] = 1

    @property
    def is_leaving(self) -> bool:
        """Whether the child takes nothing more, and ends when what runs has ended."""
        return bool(self._shared[_LEAVING])

    def succeeded(self) -> Replaced:
        """Return what was in the place of this child's successor before, once this one has left."""
        return Replaced(self.replaced.number + 1, self._shared[_WHY:].rstrip(b"\0").decode())


def out_of_memory_kills() -> int | None:
    """Return how many processes this machine's kernel has killed for lack of memory.

    None where the kernel does not say.
    """
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return None
    counts = [line.split() for line in lines if line.startswith("oom_kill ")]
    return int(counts[0][1]) if counts else None
