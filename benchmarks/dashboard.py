"""What pages of the dashboard cost the server on a large table.

    python -m benchmarks.dashboard [--rows 1000000] [--database URL]

Nine tenths of the tasks have succeeded; the others are dead, scheduled and cancelled.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from benchmarks.counting import fill, milliseconds
from flask_taskqueue import TaskQueue
from flask_taskqueue.store import SLOT
from flask_taskqueue.store.counters.counters import QUARTER

PAGES = {
    "overview": "",
    "overview, 30 days": "?range=30d",
    "tasks, recent": "tasks",
    "tasks, dead": "tasks?state=dead",
    "tasks, scheduled": "tasks?state=scheduled",
    "tasks, succeeded, one queue": "tasks?state=succeeded&queue=mail",
    "tasks, a filter that matches nothing": "tasks?url=/nowhere",
    "tasks, a search that matches nothing": "tasks?q=nowhere",
    "queues": "queues",
    "handlers": "handlers",
    "errors": "errors",
}


_TEXT = "OperationalError: " + "the server did not answer within the time allowed; " * 4


def measure(client: FlaskClient, path: str, times: int) -> list[float]:
    """Milliseconds of some requests, routing and rendering included."""

    def request() -> None:
        reply = client.get(f"/taskqueue/{path}")
        if reply.status_code != 200:
            raise RuntimeError(f"{path} answered {reply.status_code}")

    return milliseconds(request, times)


def fill_attempts(store: Any) -> None:
    """An attempt for each task that has ended, one every 50 ms up to now; failures have texts."""
    task, attempt = store.database.tables.task, store.database.tables.attempt
    ended = task.c.finished_at.is_not(None)
    with store.database.engine.begin() as connection:
        last = connection.scalar(sa.select(sa.func.max(task.c.finished_at))) or 0
        begin = time.time_ns() // 1000 - last * 50_000
        connection.execute(
            sa.update(task).where(ended).values(finished_at=begin + task.c.finished_at * 50_000)
        )
        made = {
            "task_id": task.c.id,
            "number": sa.literal(1),
            "lease_id": sa.literal("lease"),
            "started_at": task.c.finished_at - 120_000,
            "finished_at": task.c.finished_at,
            "reason": sa.case((task.c.state == "succeeded", "success"), else_="failure"),
            "error": sa.case(
                (task.c.state == "succeeded", None), else_=_TEXT + sa.func.substr(task.c.id, -2)
            ),
        }
        rows = sa.select(*made.values()).where(ended)
        connection.execute(sa.insert(attempt).from_select(list(made), rows))


def fill_past(store: Any) -> None:
    """Thirty days of attempts in ten queues, a row for each quarter of an hour."""
    now = time.time_ns() // 1000 // SLOT // QUARTER
    rows = [
        {"queue": f"queue{queue}", "slot": (now - ago) * QUARTER, "attempts": 40, "failures": 2}
        for ago in range(5, 30 * 96)
        for queue in range(10)
    ]
    with store.database.engine.begin() as connection:
        connection.execute(sa.insert(store.database.tables.past), rows)


def main() -> None:
    """Fill a database, ask for the pages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--database", help="by default a new SQLite file")
    parser.add_argument("--times", type=int, default=15)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        url = arguments.database or f"sqlite:///{Path(folder) / 'large.db'}"
        app = Flask("large")
        app.config.update(
            SECRET_KEY="only for this benchmark",
            TASKQUEUE_DATABASE_URI=url,
            TASKQUEUE_CREATE_TABLES=True,
        )
        app.config.update(TASKQUEUE_QUEUES={"mail": {}, "reports": {}}, TASKQUEUE_DISPATCHER="off")
        app.config.update(TASKQUEUE_DASHBOARD=True, TASKQUEUE_DASHBOARD_ACCESS=lambda: True)
        TaskQueue(app)
        store = app.extensions["taskqueue"].store
        store.ensure_queues()
        fill(store, arguments.rows)
        fill_past(store)
        fill_attempts(store)
        print(
            f"{arguments.rows:,} tasks on {store.database.engine.url.get_backend_name()}, "
            f"{os.cpu_count()} processors"
        )
        for name, path in PAGES.items():
            found = measure(app.test_client(), path, arguments.times)
            print(
                f"{name:40} median {statistics.median(found):7.1f} ms, slowest {max(found):7.1f} ms"
            )
        store.database.close()


if __name__ == "__main__":
    main()
