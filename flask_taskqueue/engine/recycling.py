"""Recycling: when a dispatcher process has done, or holds, so much that it must be replaced."""

from __future__ import annotations

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
