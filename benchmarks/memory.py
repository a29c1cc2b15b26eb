"""Memory: of a dispatcher over many tasks, of add_many, and of importing the extension, in MB.

    python -m benchmarks memory [--tasks 20000] [--database URL]

The resident memory of the process is looked at twenty times a second; whether something leaks is
decided over 200,000: ``--tasks 200000``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
from collections.abc import Callable

import psutil

from .apps import application, database_name, db_tasks, nothing

_IMPORTS = (
    "import flask, flask_sqlalchemy{}; import psutil; print(psutil.Process().memory_info().rss / "
    "2**20)"
)


def resident() -> float:
    """This process's resident memory in MB."""
    return psutil.Process(os.getpid()).memory_info().rss / 2**20


def watched(work: Callable[[], object]) -> list[float]:
    """How much more memory was resident, compared with the beginning: a look every twentieth of
    a second, and one at the end.
    """
    begun, done = resident(), threading.Event()
    looks: list[float] = []

    def look() -> None:
        while not done.wait(0.05):
            looks.append(resident() - begun)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        work()
    finally:
        done.set()
        looking.join()
    return [*looks, resident() - begun]


def importing(more: str) -> float:
    """The resident memory of a fresh process that has imported an application's libraries."""
    return float(
        subprocess.run(
            [sys.executable, "-c", _IMPORTS.format(more)],
            capture_output=True,
            check=True,
            text=True,
        ).stdout
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--database", help="an SQLAlchemy URL; by default a SQLite file")
    given = parser.parse_args()
    print(f"| {'resident memory, MB':48} | half-way | at the end | at most |")
    print(f"|{'-' * 50}|---------:|-----------:|--------:|")
    with application(given.database) as app:
        db_tasks.add_many(nothing.spec() for _ in range(2000))
        db_tasks.drain()  # warm: caches, pools, threads
        for what, work in (
            ("add_many", lambda: db_tasks.add_many(nothing.spec() for _ in range(given.tasks))),
            ("drain", db_tasks.drain),
        ):
            looks = watched(work)
            name = f"{what} of {given.tasks:,}, {database_name(app)}"
            print(
                f"| {name:48} | {looks[len(looks) // 2]:+8.1f} | {looks[-1]:+10.1f} | "
                f"{max(looks):+7.1f} |",
                flush=True,
            )
    more = importing(", flask_taskqueue") - importing("")
    print(
        f"| {'import flask_taskqueue, beside Flask-SQLAlchemy':48} | {'':8} | {more:+10.1f} "
        f"| {'':7} |"
    )


if __name__ == "__main__":
    main()
