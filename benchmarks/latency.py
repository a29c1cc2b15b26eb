"""From the return of add() to the first line of the handler, with a dispatcher that is idle, in milliseconds.

    python -m benchmarks latency [--tasks 200] [--database sqlite URL ...]

Once the dispatcher runs in the process that adds, once in another: a ``flask taskqueue run``.
"""

from __future__ import annotations

import time

from .apps import noted
from .lateness import arguments, measured
from .notes import begun
from .table import show_spread


def latency(number: int) -> float:
    """Milliseconds until one task begins, when those before are done and the dispatcher is idle again."""
    time.sleep(0.03)
    noted.add(number)
    added = time.time_ns()
    return (begun(number).at - added) / 1e6


def main() -> None:
    """Add tasks one by one."""
    given = arguments(__doc__, tasks=200)
    show_spread("ms after add()", measured(latency, given))


if __name__ == "__main__":
    main()
