"""What a claim and an add cost on a large table, beside an empty one, in turn.

    python -m benchmarks growth [--scale 1] [--calls 500] [--rounds 5] [--database sqlite URL ...]

At ``--scale 1`` the large table has 1,000,000 finished, 1,000,000 future and 100,000 paused tasks.
A claim is a look at what is due and the lease of one task, committed. The empty one has the tasks
that are added and claimed, as the large one has them too. Fifty calls on the one table take turns
with fifty on the other; a round has so many ``--calls`` on each.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import sqlalchemy as sa
from flask import Flask

from flask_taskqueue.engine.claimer import Claimer

from .apps import application, database_name, nothing
from .table import Table

_SEED = 10_000
_TURN = 50
_COUNTS = ("attempts", "executions", "answered", "crashes", "pardons", "keep_result", "priority")


class Filling:
    """Puts many tasks into one table; the database copies them from ten thousand."""

    def __init__(self, store: Any) -> None:
        self._database = store.database
        self._task = store.database.tables.task

    def add(self, kind: int, state: str, queue: str, rows: int, **instants: int) -> None:
        """So many tasks of one state, a microsecond apart; their ids are older than those of
        new ones.
        """
        seed = min(rows, _SEED)
        base = {
            "state": state,
            "queue": queue,
            "method": "POST",
            "url": "/worker",
            "body": b"",
            "created_at": 1,
            "eta": 1,
        }
        base |= dict.fromkeys(_COUNTS, 0)
        some = [
            {
                **base,
                "id": f"00{kind}{0:019d}{number:04d}",
                **{name: at + number for name, at in instants.items()},
            }
            for number in range(seed)
        ]
        with self._database.engine.begin() as connection:
            connection.execute(sa.insert(self._task), some)
        for copy in range(1, rows // seed):
            with self._database.engine.begin() as connection:
                self._copy(connection, f"00{kind}", copy, instants)

    def settle(self) -> None:
        """Do now what the database would do later, beside what is measured: it takes longer to
        plan with statistics than without.
        """
        statement = {"postgresql": "VACUUM ANALYZE", "mysql": "ANALYZE TABLE"}.get(
            self._database.engine.dialect.name
        )
        if statement is not None:
            with self._database.engine.connect().execution_options(
                isolation_level="AUTOCOMMIT"
            ) as connection:
                connection.exec_driver_sql(f"{statement} {self._task.name}")

    def _copy(
        self, connection: sa.Connection, start: str, copy: int, instants: dict[str, int]
    ) -> None:
        task = self._task
        new = {name: task.c[name] + copy * _SEED for name in instants}
        new["id"] = sa.literal(f"{start}{copy:019d}", sa.String) + sa.func.substr(
            task.c.id, 23, type_=sa.String
        )
        columns = [new.get(column.name, column) for column in task.c]
        source = sa.select(*columns).where(task.c.id.like(f"{start}{0:019d}%"))
        connection.execute(sa.insert(task).from_select([column.name for column in task.c], source))


def fill(app: Flask, scale: float) -> None:
    """Make a table large."""
    store = app.extensions["taskqueue"].store
    now = time.time_ns() // 1000
    filling = Filling(store)
    filling.add(1, "succeeded", "default", int(1e6 * scale), finished_at=now)
    filling.add(2, "scheduled", "default", int(1e6 * scale), due_at=now + 10**12)
    with store.database.engine.begin() as connection:
        connection.execute(
            store.database.dialect.insert_missing(store.database.tables.queue),
            {"name": "paused", "paused_at": 1},
        )
    filling.add(3, "scheduled", "paused", int(1e5 * scale), due_at=1)


def adding(app: Flask) -> Callable[[], object]:
    """Adds a task."""

    def add() -> None:
        with app.app_context():
            nothing.add()

    return add


def claiming(app: Flask) -> Callable[[], object]:
    """Claims a task, by a lease that does not run out meanwhile."""
    store = app.extensions["taskqueue"].store
    claimer = Claimer(
        store.claims, store.added_queues, queues=None, held_by="growth", lease=86400, slots=1
    )

    def claim() -> None:
        taken = store.transact(
            lambda connection: claimer.take(
                connection, claimer.last_look.look_anew(connection), 1, []
            )
        )
        assert len(taken.records) == 1

    return claim


def p95(of: dict[str, Callable[[], object]], calls: int) -> dict[str, float]:
    """The 95th percentile of each, in milliseconds, measured in turn."""
    found: dict[str, list[float]] = {name: [] for name in of}
    while min(map(len, found.values())) < calls:
        for name, call in of.items():
            for _ in range(_TURN):
                started = time.perf_counter()
                call()
                found[name].append(1000 * (time.perf_counter() - started))
    return {name: sorted(took)[int(0.95 * len(took))] for name, took in found.items()}


def main() -> None:
    """Fill, measure in turn."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=1)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--database",
        nargs="*",
        default=["sqlite"],
        help="SQLAlchemy URLs; by default a SQLite file",
    )
    given = parser.parse_args()
    table = Table("p95, ms")
    ratios = {}
    for url in given.database:
        with ExitStack() as stack:
            empty, large = (stack.enter_context(application(url)) for _ in range(2))
            name = database_name(empty)
            fill(large, given.scale)
            for app in (empty, large):
                p95({"add": adding(app)}, given.calls)
                Filling(app.extensions["taskqueue"].store).settle()
            for _ in range(given.rounds):
                for what, make in (("add", adding), ("claim", claiming)):
                    of = {
                        f"{name}, {what}, {size}": make(app)
                        for size, app in (("empty", empty), ("large", large))
                    }
                    for row, value in p95(of, given.calls).items():
                        table.add(row, value)
                    ratios[f"{name}, {what}, large"] = f"{name}, {what}, empty"
    table.show(ratios)


if __name__ == "__main__":
    main()
