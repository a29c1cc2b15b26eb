"""Dispatcher processes that share a database: throughput of one, two and eight, and who waits for whom.

    python -m benchmarks processes --database URL [--tasks 6000] [--rounds 3]

On PostgreSQL it also looks every few milliseconds whether any backend waits for a lock.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections import Counter as Tally

import sqlalchemy as sa
from flask import Flask

from .apps import application, db_tasks, dispatchers, ended, nothing
from .table import Table

_WAITS = sa.text(
    "SELECT wait_event_type || ' ' || wait_event, left(regexp_replace(query, '\\s+', ' ', 'g'), 60) FROM pg_stat_activity "
    "WHERE datname = current_database() AND state = 'active' AND wait_event_type = 'Lock'"
)


def watch(engine: sa.Engine, done: threading.Event, found: Tally[str]) -> None:
    """Count what backends wait for."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not done.wait(0.005):
            found["looks"] += 1
            found.update(f"{wait}: {query}" for wait, query in connection.execute(_WAITS))


def succeeded(app: Flask) -> int:
    """How many tasks have ended."""
    return sum(one.succeeded for one in db_tasks.statistics())


def rate(app: Flask, tasks: int, processes: int) -> float:
    """Tasks a second from the first hundred on, when each process has started."""
    before = succeeded(app)
    running = dispatchers(processes)
    try:
        while True:  # all are there, and idle
            if sum(one.is_alive for one in db_tasks.dispatchers()) >= processes:
                break
            time.sleep(0.1)
        db_tasks.add_many(nothing.spec() for _ in range(tasks))
        started, first = time.perf_counter(), succeeded(app) - before
        while succeeded(app) - before < tasks:
            time.sleep(0.02)
        return (tasks - first) / (time.perf_counter() - started)
    finally:
        ended(running)


def main() -> None:
    """Measure in turn, and print medians and ranges."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2, 8])
    parser.add_argument("--database", help="an SQLAlchemy URL; by default a SQLite file")
    given = parser.parse_args()
    table = Table("per second")
    waits: Tally[str] = Tally()
    done = threading.Event()
    with application(given.database) as app, app.app_context():
        engine = app.extensions["taskqueue"].store.database.engine
        if engine.dialect.name == "postgresql":
            threading.Thread(target=watch, args=(engine, done, waits), daemon=True).start()
        for _ in range(given.rounds):
            for number in given.processes:
                table.add(f"{number} process(es)", rate(app, given.tasks, number))
        done.set()
        time.sleep(0.1)
    table.show({f"{number} process(es)": f"{given.processes[0]} process(es)" for number in given.processes[1:]})
    if waits:
        print(f"\nof {waits.pop('looks')} looks so many found a backend that waits for a lock:")
        print("\n".join(f"{number:6} {what}" for what, number in waits.most_common(8)) or "     0")


if __name__ == "__main__":
    main()
