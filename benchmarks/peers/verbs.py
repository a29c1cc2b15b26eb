"""The three things a peer module is asked: ``prepare``, ``enqueue FROM TO SECONDS_APART``,
``work [PROCESSES]``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable


def run(
    prepare: Callable[[], object],
    enqueue: Callable[[int], object],
    work: Callable[[int], list[str]],
) -> None:
    """Do what the command line says; enqueuing prints when each call returned."""
    verb, *rest = sys.argv[1:]
    if verb == "prepare":
        prepare()
    elif verb == "enqueue":
        first, last, apart = int(rest[0]), int(rest[1]), float(rest[2])
        started = time.perf_counter()
        returned = []
        for number in range(first, last):
            enqueue(number)
            returned.append(time.monotonic_ns())
            if apart:
                time.sleep(apart)
        print(
            json.dumps(
                {
                    "per_second": (last - first) / (time.perf_counter() - started),
                    "returned": returned,
                }
            )
        )
    else:
        command = work(int(rest[0]) if rest else 1)
        os.execvp(command[0], command)
