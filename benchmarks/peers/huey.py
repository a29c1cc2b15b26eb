"""Huey on SQLite, one worker thread, its default."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from huey import SqliteHuey

from .body import perform
from .verbs import run

FILE = os.environ["BENCH_NOTES"] + ".huey"
queue = SqliteHuey("bench", filename=FILE, results=True)


@queue.task(name="perform")
def task(number: int) -> None:
    """The task."""
    perform(number)


def prepare() -> None:
    """Forget what is queued."""
    with suppress(AttributeError):
        queue.flush()


def work(processes: int) -> list[str]:
    """Its consumer."""
    kind = ["-w", str(processes), "-k", "process" if processes > 1 else "thread"]
    return [
        sys.executable,
        "-m",
        "huey.bin.huey_consumer",
        "benchmarks.peers.huey.queue",
        "-q",
        *kind,
    ]


if __name__ == "__main__":
    from benchmarks.peers import huey as this

    run(this.prepare, this.task, this.work)
