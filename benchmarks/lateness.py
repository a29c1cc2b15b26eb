"""How long after its eta a task starts, with a dispatcher that is idle, in milliseconds.

    python -m benchmarks lateness [--tasks 100] [--database sqlite URL ...]

Each task waits for between 0.2 and 3 seconds, alone; once the dispatcher runs in the process that
adds it, once in another.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask

from .apps import application, database_name, dispatchers, ended, noted
from .notes import begun
from .table import show_spread


@contextmanager
def dispatching(app: Flask, *, elsewhere: bool) -> Iterator[None]:
    """A dispatcher that is idle, in this process or in another."""
    running = dispatchers() if elsewhere else None
    runtime: Any = app.extensions["taskqueue"]
    if running is None:
        runtime.start()
    try:
        noted.add(-1)
        begun(-1)
        yield
    finally:
        runtime.stop()
        if running is not None:
            ended(running)


def lateness(number: int) -> float:
    """Milliseconds from the eta of one task to the first line of its handler."""
    seconds = random.uniform(0.2, 3)  # at any instant between two polls
    task = noted.options(countdown=seconds).add(number)
    time.sleep(seconds - 0.05)
    return begun(number).at / 1e6 - task.eta.timestamp() * 1000


def arguments(about: str | None, *, tasks: int) -> argparse.Namespace:
    """How many tasks, and which databases."""
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=tasks)
    parser.add_argument(
        "--database",
        nargs="*",
        default=["sqlite"],
        help="SQLAlchemy URLs; by default a SQLite file",
    )
    return parser.parse_args()


def measured(one: Callable[[int], float], given: argparse.Namespace) -> dict[str, list[float]]:
    """What ``one`` finds for each task, added one by one, by database and by where the
    dispatcher runs.
    """
    rows: dict[str, list[float]] = {}
    for url in given.database:
        for elsewhere in (False, True):
            with application(url) as app, app.app_context(), dispatching(app, elsewhere=elsewhere):
                name = database_name(app)
                place = "another process" if elsewhere else "the same process"
                rows[f"{name}, {place}"] = [one(number) for number in range(given.tasks)]
    return rows


def main() -> None:
    """Add tasks one by one, each when the one before is done."""
    given = arguments(__doc__, tasks=100)
    show_spread("ms after the eta", measured(lateness, given))


if __name__ == "__main__":
    main()
