"""What the statistics of a queue cost on a large table, beside counting its rows.

    python -m benchmarks.counting [--rows 1000000] [--database URL]

Nine tenths of the tasks have succeeded; the others are dead, scheduled and cancelled.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from flask import Flask

from flask_taskqueue import TaskQueue

SHARES = {"succeeded": 0.90, "dead": 0.05, "scheduled": 0.04, "cancelled": 0.01}
QUEUES = ("default", "mail", "reports")


def fill(store: Any, rows: int) -> None:
    """Put so many tasks into the table, and count what has ended, as it is counted when it ends."""
    task, tally = store.database.tables.task, store.database.tables.tally
    columns = {column.name: None for column in task.c}
    columns |= {
        "priority": 0,
        "method": "POST",
        "url": "/worker",
        "body": b"key=x",
        "created_at": 1,
        "eta": 1,
        "keep_result": 0,
        "for_worker": 0,
    }
    columns |= dict.fromkeys(("attempts", "executions", "answered", "crashes", "pardons"), 0)
    later = time.time_ns() // 1000 + 10**9
    number = 0
    for state, share in SHARES.items():
        for start in range(0, int(rows * share), 10_000):
            size = min(10_000, int(rows * share) - start)
            chunk = []
            for _ in range(size):
                number += 1
                due = (
                    {"due_at": later + number} if state == "scheduled" else {"finished_at": number}
                )
                chunk.append(
                    {
                        **columns,
                        "id": f"{number:026d}",
                        "state": state,
                        "queue": QUEUES[number % 3],
                        **due,
                    }
                )
            with store.database.engine.begin() as connection:
                connection.execute(sa.insert(task), chunk)
    with store.database.engine.begin() as connection:
        counts = sa.select(task.c.queue, task.c.state, sa.func.count().label("number")).group_by(
            task.c.queue, task.c.state
        )
        found = {(row.queue, row.state): row.number for row in connection.execute(counts)}
        for queue in QUEUES:
            ended = {
                state: found.get((queue, state), 0) for state in ("succeeded", "dead", "cancelled")
            }
            connection.execute(
                sa.insert(tally).values(
                    queue=queue, slot=0, source="", attempts=0, failures=0, **ended
                )
            )
    with store.database.engine.connect().execution_options(
        isolation_level="AUTOCOMMIT"
    ) as connection:
        connection.execute(
            sa.text(
                "ANALYZE"
                if "mysql" not in str(store.database.engine.url)
                else f"ANALYZE TABLE {task.name}"
            )
        )


def milliseconds(call: Callable[[], object], times: int) -> list[float]:
    """How long each of some calls took, after one to warm up."""
    call()
    found = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        found.append(1000 * (time.perf_counter() - started))
    return found


def main() -> None:
    """Fill, measure, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--database", help="an SQLAlchemy URL; by default a SQLite file")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        app = Flask(__name__)
        app.config.update(
            SECRET_KEY="a secret for the benchmark",
            TASKQUEUE_DATABASE_URI=given.database or f"sqlite:///{Path(directory) / 'queue.db'}",
            TASKQUEUE_CREATE_TABLES=True,
            TASKQUEUE_TABLE_PREFIX=f"counting{os.getpid()}_",
            TASKQUEUE_QUEUES={name: {} for name in QUEUES},
        )
        tasks = TaskQueue(app)
        store = app.extensions["taskqueue"].store
        task = store.database.tables.task
        tasks.statistics()
        fill(store, given.rows)

        def by_counting() -> dict[tuple[str, str], int]:
            statement = sa.select(
                task.c.queue, task.c.state, sa.func.count().label("number")
            ).group_by(task.c.queue, task.c.state)
            with store.reading() as connection:
                return {(row.queue, row.state): row.number for row in connection.execute(statement)}

        for name, call, times in (
            ("one queue", tasks.queue("mail").statistics, 20),
            ("all queues", tasks.statistics, 20),
            ("GROUP BY of the table", by_counting, 3),
        ):
            found = milliseconds(call, times)
            print(
                f"{name:24}median {statistics.median(found):8.1f} ms   least "
                f"{min(found):8.1f}   most {max(found):8.1f}"
            )
        counted = by_counting()
        agree = all(
            getattr(counts, state) == counted.get((counts.queue, state), 0)
            for counts in tasks.statistics()
            for state in SHARES
        )
        print(
            "the statistics agree with the count"
            if agree
            else "THE STATISTICS DIFFER FROM THE COUNT"
        )
        tables = store.database.tables
        tables.task.metadata.drop_all(store.database.engine, tables=tables.all)


if __name__ == "__main__":
    main()
