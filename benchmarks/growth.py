"""What a claim and an add cost on an empty table, and on a large one.

    python -m benchmarks growth [--scale 0.1] [--calls 300] [--database URL]

At ``--scale 1`` the large table has 1,000,000 finished, 1,000,000 future and 100,000 paused tasks.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from .apps import application, nothing
from .table import Table


def fill(store: Any, state: str, queue: str, rows: int, **columns: Any) -> None:
    """So many tasks of one state."""
    task = store.database.tables.task
    base = {column.name: None for column in task.c if column.name not in ("id",)} | columns
    base |= {"state": state, "queue": queue, "priority": 0, "method": "POST", "url": "/worker", "body": b"", "created_at": 1, "eta": 1}
    base |= dict.fromkeys(("attempts", "executions", "answered", "crashes", "pardons", "keep_result"), 0)
    for start in range(0, rows, 5000):
        with store.database.engine.begin() as connection:
            chunk = [{**base, "id": f"{state[:2]}{queue[:2]}{number:022d}"} for number in range(start, min(rows, start + 5000))]
            connection.execute(sa.insert(task), chunk)


def p95(call: Callable[[], object], calls: int) -> float:
    """The 95th percentile, in milliseconds."""
    found = []
    for _ in range(calls):
        started = time.perf_counter()
        call()
        found.append(1000 * (time.perf_counter() - started))
    return sorted(found)[int(0.95 * calls)]


def measure(app: Any, table: Table, name: str, calls: int) -> None:
    """Five rounds of adds and of turns that look and claim one task."""
    runtime = app.extensions["taskqueue"]
    taking = runtime.dispatcher()[0]._taking

    def claim() -> None:
        taken = runtime.store.transact(lambda connection: taking.take(connection, taking.look(connection, afresh=True), 1, []))
        assert len(taken) == 1

    for _ in range(5):
        table.add(f"add, {name}", p95(nothing.add, calls))
        table.add(f"claim, {name}", p95(claim, calls))


def main() -> None:
    """Measure, fill, measure again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--database", help="an SQLAlchemy URL; by default a SQLite file")
    given = parser.parse_args()
    table = Table("p95, ms")
    with application(given.database) as app:
        store = app.extensions["taskqueue"].store
        measure(app, table, "empty", given.calls)
        later = time.time_ns() // 1000 + 10**12
        fill(store, "succeeded", "default", int(1e6 * given.scale), finished_at=time.time_ns() // 1000)
        fill(store, "scheduled", "default", int(1e6 * given.scale), due_at=later)
        with store.database.engine.begin() as connection:
            connection.execute(store.database.dialect.insert_missing(store.database.tables.queue), {"name": "paused", "paused_at": 1})
        fill(store, "scheduled", "paused", int(1e5 * given.scale), due_at=1)
        measure(app, table, "large", given.calls)
    table.show({"add, large": "add, empty", "claim, large": "claim, empty"})


if __name__ == "__main__":
    main()
