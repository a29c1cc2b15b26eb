"""Tasks per second through the dispatcher, beside a bare loop of calls of the same application in the same run.

    python -m benchmarks.throughput [--tasks 3000] [--rounds 3] [--database URL]

Absolute figures are this machine's; the ratio is what counts. The handler does nothing, so all
that is measured is what the queue adds to Flask's own work.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase
from werkzeug.test import EnvironBuilder, run_wsgi_app

from flask_taskqueue import TaskQueue


class Base(DeclarativeBase):
    """The base of no models."""


def create(url: str) -> tuple[Flask, TaskQueue]:
    """An application with a worker that does nothing, and a plain route that does the same."""
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="a secret for the benchmark", SQLALCHEMY_DATABASE_URI=url, TASKQUEUE_CREATE_TABLES=True, TASKQUEUE_DISPATCHER="off"
    )
    db = SQLAlchemy(app, model_class=Base)
    tasks = TaskQueue(app, db)
    tasks.worker("/worker")(lambda: None)
    app.add_url_rule("/bare", view_func=lambda: ("", 204), methods=["POST"], endpoint="bare")
    return app, tasks


def bare(app: Flask, calls: int) -> float:
    """Calls per second of a hand-built environ through ``app.wsgi_app``."""
    template = EnvironBuilder(path="/bare", method="POST", data={"key": "x"}).get_environ()
    started = time.perf_counter()
    for _ in range(calls):
        chunks, status, _ = run_wsgi_app(app.wsgi_app, template)
        b"".join(chunks)
        assert status.startswith("204")
    return calls / (time.perf_counter() - started)


def drained(tasks: TaskQueue, count: int) -> tuple[float, float]:
    """Adds per second, one by one, and then tasks per second until none is left."""
    started = time.perf_counter()
    for _ in range(count):
        tasks.add("/worker", {"key": "x"})
    added = time.perf_counter()
    assert tasks.drain() == count
    return count / (added - started), count / (time.perf_counter() - added)


def main() -> None:
    """Measure in turn, and print medians and ranges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--database", help="an SQLAlchemy URL; by default a SQLite file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        app, tasks = create(arguments.database or f"sqlite:///{Path(directory) / 'queue.db'}")
        with app.app_context():
            figures = [(bare(app, arguments.tasks), *drained(tasks, arguments.tasks)) for _ in range(arguments.rounds)]
    print(f"{'':22}{'median':>10}{'least':>10}{'most':>10}")
    for name, column in zip(("bare calls/s", "add()/s", "drain tasks/s"), zip(*figures, strict=True), strict=True):
        print(f"{name:22}{statistics.median(column):10.0f}{min(column):10.0f}{max(column):10.0f}")
    ratios = [drain / loop for loop, _, drain in figures]
    print(f"{'drain / bare':22}{statistics.median(ratios):10.2f}{min(ratios):10.2f}{max(ratios):10.2f}")


if __name__ == "__main__":
    main()
