"""One benchmark by name: ``python -m benchmarks throughput``; each takes ``--help``.

With ``--absolute`` it prints what was measured on this machine beside the ratios.
"""

from __future__ import annotations

import sys
from importlib import import_module

from .table import print_absolute

NAMES = (
    "throughput",
    "parts",
    "processes",
    "http",
    "latency",
    "growth",
    "memory",
    "idle",
    "rate",
    "recovery",
    "lateness",
    "counting",
    "upkeep",
    "compare",
    "chart",
    "figures",
)


def main() -> int:
    """Run it."""
    if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
        print(
            f"usage: python -m benchmarks {{{','.join(NAMES)}}} [--absolute] [options]",
            file=sys.stderr,
        )
        return 2
    name = sys.argv.pop(1)
    sys.argv[0] = f"benchmarks {name}"
    if "--absolute" in sys.argv:
        sys.argv.remove("--absolute")
        print_absolute()
    import_module(f"benchmarks.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
