"""Recycling: when a dispatcher process has done, or holds, so much that it is to be replaced."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

_STATM = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True)
class Replaced:
    """How many worn processes had this one's place before, and why the last of them left."""

    number: int = 0
    why: str | None = None


@dataclass(frozen=True, slots=True)
class Recycling:
    """How many attempts a process makes, and how many bytes it may have in memory; None for any
    number.
    """

    attempts: int | None = None
    memory: int | None = None

    def reached(self, attempts: int) -> str | None:
        """What says that a process that has made so many attempts is to be replaced; None if
        nothing does.

        One that has made none is not, however much it holds: then no task would ever run.
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
    """The bytes that this process has in memory; None where the system does not tell."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def usable_processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "process_cpu_count"):
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
