"""Notes: what the handlers of the application write down, to be read by the process that measures.

One line an attempt: the number that was given to the task, the attempt, the process and the instant
in nanoseconds.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

_LAST = 1000
"""Bytes that are looked at."""


@dataclass(frozen=True, slots=True)
class Note:
    """One attempt that began; ``at`` by the wall clock, which all processes of a machine share."""

    number: int
    attempt: int
    pid: int
    at: int


def note(number: int, attempt: int) -> None:
    """Write down that an attempt begins now."""
    now = time.time_ns()
    descriptor = os.open(os.environ["BENCH_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{number} {attempt} {os.getpid()} {now}\n".encode())
    os.close(descriptor)


def lately() -> list[Note]:
    """What was written down last, in the order in which it was: so little that looking costs
    next to nothing.
    """
    try:
        with open(os.environ["BENCH_NOTES"], "rb") as found:
            found.seek(max(0, found.seek(0, os.SEEK_END) - _LAST))
            lines = found.read().decode().split("\n")[:-1]
            first = 1 if found.tell() > _LAST else 0  # the line that is cut
    except FileNotFoundError:
        return []
    return [Note(*(int(word) for word in line.split())) for line in lines[first:]]


def begun(number: int, attempt: int = 1, *, look: float = 0.0005, limit: float = 60) -> Note:
    """Wait until an attempt has begun, looking every ``look`` seconds. Raises TimeoutError
    after ``limit`` seconds.
    """
    end = time.monotonic() + limit
    while time.monotonic() < end:
        for one in reversed(lately()):
            if (one.number, one.attempt) == (number, attempt):
                return one
        time.sleep(look)
    raise TimeoutError(f"attempt {attempt} of task {number} did not begin within {limit} seconds")
