"""Dispatcher processes that share a database: throughput of one, two and eight, what they use, and
who waits for whom.

    python -m benchmarks processes --database URL [--tasks 6000] [--rounds 3]

The tasks are added while the queue is paused, and the first and the last tenth are not counted. On
PostgreSQL it also looks every few milliseconds whether any backend waits for a lock.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections import Counter as Tally
from itertools import pairwise

import psutil
import sqlalchemy as sa
from flask import Flask

from flask_taskqueue.core.times import plural

from .apps import application, db_tasks, dispatchers, ended, nothing
from .table import Table

_WAITS = sa.text(
    "SELECT wait_event_type || ' ' || wait_event, left(regexp_replace(query, '\\s+', ' ', "
    "'g'), 60) FROM pg_stat_activity "
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
    return sum(counts.succeeded for counts in db_tasks.statistics())


def rate(app: Flask, tasks: int, processes: int) -> tuple[float, float]:
    """Tasks a second, and microseconds of processor time that the dispatchers use for each."""
    before = succeeded(app)
    running = dispatchers(processes)
    queue = db_tasks.queue("default")
    queue.pause()
    try:
        while sum(dispatcher.is_alive for dispatcher in db_tasks.dispatchers()) < processes:
            time.sleep(0.1)
        db_tasks.add_many(nothing.spec() for _ in range(tasks))
        queue.resume()
        family = [
            psutil.Process(running.pid),
            *psutil.Process(running.pid).children(recursive=True),
        ]
        (began, used), (now, used_now) = [
            _reached(app, before + tasks * tenths // 10, family) for tenths in (1, 9)
        ]
        return 0.8 * tasks / (now - began), (used_now - used) / (0.8 * tasks) * 1e6
    finally:
        ended(running)
        queue.resume()


def _reached(app: Flask, number: int, family: list[psutil.Process]) -> tuple[float, float]:
    """When so many tasks have ended, and how much processor time some processes have used by
    then, in seconds.
    """
    while succeeded(app) < number:
        time.sleep(0.02)
    return time.perf_counter(), sum(sum(sample.cpu_times()[:2]) for sample in family)


def _name(processes: int) -> str:
    return plural(processes, "process", "processes")


def main() -> None:
    """Measure in turn, and print medians and ranges."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--processes", type=int, nargs="*", default=[1, 2, 8])
    parser.add_argument("--database", help="an SQLAlchemy URL; by default a SQLite file")
    given = parser.parse_args()
    table, used = Table("tasks per second"), Table("processor time of a task, µs")
    waits: Tally[str] = Tally()
    done = threading.Event()
    with application(given.database) as app, app.app_context():
        engine = app.extensions["taskqueue"].store.database.engine
        if engine.dialect.name == "postgresql":
            threading.Thread(target=watch, args=(engine, done, waits), daemon=True).start()
        for _ in range(given.rounds):
            for number in given.processes:
                per_second, microseconds = rate(app, given.tasks, number)
                table.add(_name(number), per_second)
                used.add(_name(number), microseconds)
        done.set()
        time.sleep(0.1)
    ratios = {_name(more): _name(fewer) for fewer, more in pairwise(given.processes)}
    table.show(ratios)
    print()
    used.show(ratios)
    if waits:
        print(f"\nof {waits.pop('looks')} looks so many found a backend that waits for a lock:")
        print("\n".join(f"{number:6} {what}" for what, number in waits.most_common(8)) or "     0")


if __name__ == "__main__":
    main()
