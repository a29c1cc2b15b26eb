"""What a scrape of the metrics costs on a large table, and how quickly finished tasks are
forgotten.

    python -m benchmarks.upkeep [--rows 1000000] [--database URL]

The table is that of `benchmarks.counting`: all that has ended there is older than it is kept.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from flask import Flask

from benchmarks.counting import QUEUES, fill, milliseconds
from flask_taskqueue import TaskQueue


def create(url: str) -> tuple[Flask, Any]:
    """An application with metrics, and its runtime."""
    app = Flask(__name__)
    app.config.update(
        SECRET_KEY="a secret for the benchmark",
        TASKQUEUE_DATABASE_URI=url,
        TASKQUEUE_CREATE_TABLES=True,
        TASKQUEUE_TABLE_PREFIX=f"upkeep{os.getpid()}_",
        TASKQUEUE_QUEUES={name: {} for name in QUEUES},
        TASKQUEUE_METRICS=True,
        TASKQUEUE_METRICS_ACCESS=lambda: True,
        TASKQUEUE_DISPATCHER="off",
    )
    TaskQueue(app).statistics()
    return app, app.extensions["taskqueue"]


def scrape(app: Flask) -> None:
    """Read the metrics once."""
    reply = app.test_client().get("/taskqueue/metrics")
    assert reply.status_code == 200, reply.text


def forget(runtime: Any) -> tuple[int, list[float]]:
    """Forget all that has been kept long enough; how many tasks, and the seconds of each
    transaction.
    """
    total, took = 0, []
    last = time.perf_counter()
    for some in runtime.prune():
        now = time.perf_counter()
        took.append(now - last)
        last, total = now, total + some
    return total, took


def main() -> None:
    """Fill, scrape, forget."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--database", help="an SQLAlchemy URL; by default a SQLite file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        app, runtime = create(given.database or f"sqlite:///{Path(directory) / 'queue.db'}")
        store = runtime.store
        fill(store, given.rows)
        found = milliseconds(lambda: scrape(app), 10)
        print(
            f"scrape             median {statistics.median(found):8.1f} ms   least "
            f"{min(found):8.1f}   most {max(found):8.1f}"
        )
        total, took = forget(runtime)
        print(
            f"forgotten          {total} tasks in {len(took)} transactions, "
            f"{total / sum(took):.0f} tasks/s"
        )
        print(
            f"transaction        median {1000 * statistics.median(took):8.1f} ms   most "
            f"{1000 * max(took):8.1f}"
        )
        store.database.tables.task.metadata.drop_all(
            store.database.engine, tables=store.database.tables.all
        )


if __name__ == "__main__":
    main()
