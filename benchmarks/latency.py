"""From the return of add() to the first line of the handler, with a dispatcher that is idle.

    python -m benchmarks.latency [--tasks 300] [--database URL] [--another-process]

In the same process, or, with ``--another-process``, where a ``flask taskqueue run`` runs beside the
one that adds.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase

from flask_taskqueue import TaskQueue

tasks = TaskQueue()


class Base(DeclarativeBase):
    """The base of no models."""


@tasks.worker("/worker")
def worker(number: int) -> None:
    """Note when it began."""
    now = time.time_ns()
    descriptor = os.open(os.environ["LATENCY_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, f"{number} {now}\n".encode())
    os.close(descriptor)


def create_app() -> Flask:
    """The application of each process."""
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="a secret for the benchmark",
        SQLALCHEMY_DATABASE_URI=os.environ["LATENCY_DATABASE"],
        TASKQUEUE_CREATE_TABLES=True,
        TASKQUEUE_TABLE_PREFIX=os.environ["LATENCY_PREFIX"],
        TASKQUEUE_DISPATCHER="off",
    )
    tasks.init_app(app, SQLAlchemy(app, model_class=Base))
    return app


def begun(log: Path) -> dict[int, int]:
    """When each task began, in nanoseconds."""
    lines = log.read_text().split("\n")[:-1] if log.exists() else []
    return {int(number): int(at) for number, at in (line.split() for line in lines)}


def main() -> None:
    """Add tasks one by one, each when the one before is done and the dispatcher idle again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--database", help="an SQLAlchemy URL; by default a SQLite file")
    parser.add_argument("--another-process", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        log = Path(directory) / "log"
        os.environ.update(
            LATENCY_LOG=str(log),
            LATENCY_PREFIX=f"latency{os.getpid()}_",
            LATENCY_DATABASE=given.database or f"sqlite:///{Path(directory) / 'queue.db'}",
        )
        app = create_app()
        runtime = app.extensions["taskqueue"]
        tables = runtime.store.database.tables
        worker.add(-1)
        other = None
        if given.another_process:
            command = [sys.executable, "-m", "flask", "--app", "benchmarks.latency", "taskqueue", "run"]
            other = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        else:
            runtime.start()
        added = {}
        try:
            while -1 not in begun(log):
                time.sleep(0.05)
            for number in range(given.tasks):
                time.sleep(0.03)
                worker.add(number)
                added[number] = time.time_ns()
                while number not in begun(log):
                    time.sleep(0.0005)
        finally:
            runtime.stop()
            if other is not None:
                other.terminate()
                other.wait(30)
        found = sorted((begun(log)[number] - at) / 1e6 for number, at in added.items())
        share = {name: found[min(len(found) - 1, int(len(found) * part))] for name, part in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}
        print("   ".join(f"{name} {value:.1f} ms" for name, value in {**share, "most": found[-1]}.items()))
        tables.task.metadata.drop_all(runtime.store.database.engine, tables=tables.all)


if __name__ == "__main__":
    main()
