"""Memory: of a dispatcher over many tasks, of add_many, and of importing the extension.

    python -m benchmarks memory [--tasks 20000] [--database URL]

The issue of a leak is decided over 200,000: ``--tasks 200000``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

import psutil

from .apps import application, db_tasks, nothing

_IMPORTS = "import flask, flask_sqlalchemy{}; import psutil; print(psutil.Process().memory_info().rss / 2**20)"


def resident() -> float:
    """This process's resident memory in MB."""
    return psutil.Process(os.getpid()).memory_info().rss / 2**20


def importing(more: str) -> float:
    """The resident memory of a fresh process that has imported an application's libraries."""
    return float(subprocess.run([sys.executable, "-c", _IMPORTS.format(more)], capture_output=True, check=True, text=True).stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=20_000)
    parser.add_argument("--database", help="an SQLAlchemy URL; by default a SQLite file")
    given = parser.parse_args()
    with application(given.database):
        db_tasks.add_many(nothing.spec() for _ in range(2000))
        db_tasks.drain()  # warm: caches, pools, threads
        before = resident()
        db_tasks.add_many(nothing.spec() for _ in range(given.tasks))
        added = resident()
        db_tasks.drain()
        drained = resident()
    print(f"| add_many of {given.tasks} | {added - before:+.1f} MB |")
    print(f"| draining {given.tasks} | {drained - added:+.1f} MB |")
    print(f"| importing flask_taskqueue beside Flask-SQLAlchemy | {importing(', flask_taskqueue') - importing(''):+.1f} MB |")


if __name__ == "__main__":
    main()
