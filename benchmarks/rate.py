"""How steady a queue's rate is when several dispatcher processes share it.

    python -m benchmarks.rate [--rate 50/s] [--bucket-size 5] [--seconds 60] [--processes 3]
    [--database URL]

Each start is taken from the attempt log, by the database's clock: how many there were against what
the rate allows, and the time between one and the next. ``--max-concurrent`` shows the most in
flight.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import sqlalchemy as sa
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase

from flask_taskqueue import TaskQueue
from flask_taskqueue.core.queues.rates import parse_rate

tasks = TaskQueue()


class Base(DeclarativeBase):
    """The base of no models."""


@tasks.worker("/worker", queue="paced")
def worker() -> None:
    """Take as long as asked."""
    time.sleep(float(os.environ["RATE_WORK"]))


def create_app() -> Flask:
    """The application of this process; its settings come from the environment, so that all
    processes have the same.
    """
    app = Flask(__name__)
    environment = os.environ
    limits = {
        "rate": environment["RATE"],
        "bucket_size": int(environment["RATE_BUCKET"]),
        "max_concurrent": int(environment["RATE_LIMIT"]) or None,
    }
    app.config.update(
        SECRET_KEY="a secret for the benchmark",
        SQLALCHEMY_DATABASE_URI=environment["RATE_DATABASE"],
        TASKQUEUE_CREATE_TABLES=True,
        TASKQUEUE_TABLE_PREFIX=environment["RATE_PREFIX"],
        TASKQUEUE_QUEUES={"paced": limits},
    )
    tasks.init_app(app, SQLAlchemy(app, model_class=Base))
    return app


def attempts(app: Flask) -> list[tuple[float, float]]:
    """When each attempt began and ended, in seconds."""
    store = app.extensions["taskqueue"].store
    attempt = store.database.tables.attempt
    with store.reading() as connection:
        found = connection.execute(
            sa.select(attempt.c.started_at, attempt.c.finished_at).order_by(attempt.c.started_at)
        )
        return [(row.started_at / 1e6, row.finished_at / 1e6) for row in found]


def report(spans: list[tuple[float, float]], rate: float, bucket: int, seconds: float) -> None:
    """Print what happened in so many seconds from the first start on."""
    begun = [start for start, _ in spans if start - spans[0][0] < seconds]
    gaps = sorted(1000 * (later - sooner) for sooner, later in itertools.pairwise(begun))
    allowed = rate * seconds + bucket - 1
    print(
        f"started {len(begun)} in {seconds:g} s; the rate allows {allowed:g} "
        f"({100 * (len(begun) / allowed - 1):+.2f} %)"
    )
    print(f"between starts, ms: least {gaps[0]:.1f}, median {statistics.median(gaps):.1f}, 95 % "
f"{gaps[int(len(gaps) * 0.95)]:.1f}, "
          f"most {gaps[-1]:.1f}, deviation {statistics.pstdev(gaps):.1f}")  # fmt: skip
    print(
        "most in any second: "
        f"{max(sum(start <= one < start + 1 for one in begun) for start in begun)}"
    )
    edges = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    print(f"most in flight: {max(itertools.accumulate(step for _, step in edges))}")


def main() -> None:
    """Add enough tasks, run the dispatchers, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", default="50/s")
    parser.add_argument("--bucket-size", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--max-concurrent", type=int, default=0, help="0 for no limit")
    parser.add_argument("--work", type=float, default=0, help="seconds that a handler takes")
    parser.add_argument("--database", help="an SQLAlchemy URL; by default a SQLite file")
    given = parser.parse_args()
    rate = parse_rate(given.rate, what="--rate")
    with tempfile.TemporaryDirectory() as directory:
        os.environ.update(
            RATE=given.rate,
            RATE_LIMIT=str(given.max_concurrent),
            RATE_BUCKET=str(given.bucket_size),
            RATE_WORK=str(given.work),
            RATE_PREFIX=f"rate{os.getpid()}_",
            RATE_DATABASE=given.database or f"sqlite:///{Path(directory) / 'queue.db'}",
        )
        app = create_app()
        tables = app.extensions["taskqueue"].store.database.tables
        with app.app_context():
            tasks.add_many(worker.spec() for _ in range(int(rate * given.seconds * 1.2) + 10))
        command = [sys.executable, "-m", "flask", "--app", "benchmarks.rate", "taskqueue", "run"]
        running = [
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for _ in range(given.processes)
        ]
        try:
            while len(seen := attempts(app)) < 2 or time.time() < seen[0][0] + given.seconds + 1:
                time.sleep(0.5)
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait(30)
        report(attempts(app), rate, given.bucket_size, given.seconds)
        tables.task.metadata.drop_all(
            app.extensions["taskqueue"].store.database.engine, tables=tables.all
        )


if __name__ == "__main__":
    main()
