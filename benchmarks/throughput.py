"""What a task costs in this process, each row beside what it would cost without the queue, in the
same run.

    python -m benchmarks throughput [--tasks 2000] [--rounds 5] [--database URL]

Absolute figures are this machine's; the ratios are what counts. The bare loop calls the same
application with a hand-built environ; the others are what SQLAlchemy Core does without a queue.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import sqlalchemy as sa
from flask import Flask
from werkzeug.test import EnvironBuilder, run_wsgi_app

from .apps import application, count, db, db_tasks, nothing
from .table import Table

RATIOS = {
    "drain, no-op handler": "bare loop of requests",
    "drain, transactional handler": "bare loop of update and commit",
    "add(), one by one": "bare insert and commit",
    "add_many()": "bare executemany",
}


def per_second(work: Callable[[int], object], number: int) -> float:
    """How many a second."""
    started = time.perf_counter()
    work(number)
    return number / (time.perf_counter() - started)


def bare_requests(app: Flask) -> Callable[[int], None]:
    """Calls of the application, nothing around them."""
    environ = EnvironBuilder(path="/bare", method="POST", data={"key": "x"}).get_environ()

    def loop(number: int) -> None:
        for _ in range(number):
            chunks, status, _ = run_wsgi_app(app, environ)
            b"".join(chunks)
            if hasattr(chunks, "close"):
                chunks.close()
            assert status.startswith("204")

    return loop


def bare_updates(app: Flask) -> Callable[[int], None]:
    """What the transactional handler does and a commit, each in a context of the application."""

    def loop(number: int) -> None:
        for _ in range(number):
            with app.app_context():
                count.function()
                db.session.commit()

    return loop


def bare_inserts(
    engine: sa.Engine, task: sa.Table
) -> tuple[Callable[[int], None], Callable[[int], None]]:
    """Rows as wide as a task's, one by one and many at a time, into a table with the same
    columns and no other index.
    """
    plain = sa.Table(
        "bench_plain",
        sa.MetaData(),
        *(sa.Column(column.name, column.type, primary_key=column.primary_key) for column in task.c),
    )
    plain.drop(engine, checkfirst=True)
    plain.create(engine)
    row = {name: None for name in plain.c.keys()} | {
        **{
            "queue": "default",
            "priority": 0,
            "state": "scheduled",
            "method": "POST",
            "url": "/worker",
            "body": b"",
            "keep_result": 0,
        },
        **dict.fromkeys(("eta", "due_at", "created_at"), 1),
        **dict.fromkeys(("attempts", "executions", "answered", "crashes", "pardons"), 0),
    }
    counter = iter(range(10**9))

    def rows(number: int) -> list[dict[str, object]]:
        return [{**row, "id": f"{next(counter):026d}"} for _ in range(number)]

    def singly(number: int) -> None:
        for row in rows(number):
            with engine.begin() as connection:
                connection.execute(sa.insert(plain), row)

    def many(number: int) -> None:
        for start in range(0, number, 500):
            with engine.begin() as connection:
                connection.execute(sa.insert(plain), rows(min(500, number - start)))

    return singly, many


def measure(app: Flask, table: Table, tasks: int, rounds: int) -> None:
    """Each row once a round."""
    store = app.extensions["taskqueue"].store
    engine = store.database.engine
    requests, updates = bare_requests(app), bare_updates(app)
    singly, many = bare_inserts(engine, store.database.tables.task)

    def drain(number: int) -> None:
        assert db_tasks.drain() == number

    def add(number: int) -> None:
        for _ in range(number):
            nothing.add()

    requests(50)  # at its first one the app is checked, once
    for _ in range(rounds):
        table.add("bare loop of requests", per_second(requests, tasks))
        table.add("bare executemany", per_second(many, tasks))
        table.add(
            "add_many()",
            per_second(
                lambda number: db_tasks.add_many(nothing.spec() for _ in range(number)), tasks
            ),
        )
        table.add("drain, no-op handler", per_second(drain, tasks))
        table.add("bare insert and commit", per_second(singly, tasks // 4))
        table.add("add(), one by one", per_second(add, tasks // 4))
        drain(tasks // 4)
        table.add("bare loop of update and commit", per_second(updates, tasks // 4))
        db_tasks.add_many(count.spec() for _ in range(tasks // 4))
        table.add("drain, transactional handler", per_second(drain, tasks // 4))
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE bench_plain")


def main() -> None:
    """Measure in turn, and print medians and ranges."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--database", help="an SQLAlchemy URL; by default a SQLite file")
    given = parser.parse_args()
    table = Table("per second")
    with application(given.database) as app:
        measure(app, table, given.tasks, given.rounds)
    table.show(RATIOS)


if __name__ == "__main__":
    main()
