"""From the return of add() to the first line of the handler, with a dispatcher that is idle, in
milliseconds.

    python -m benchmarks latency [--tasks 200] [--database sqlite URL ...]

Once the dispatcher runs in the process that adds, once in another: a ``flask taskqueue run``. The
floor is what no dispatcher can do without, after the same pause and so with the same cold caches: a
commit (of one changed row, by SQLAlchemy Core) and a request to a view that does nothing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import sqlalchemy as sa

from .apps import Counter, application, database_name, noted
from .lateness import arguments, measured
from .notes import begun
from .table import show_spread_ratios
from .throughput import bare_requests

FLOOR = "a commit and a request"
PAUSE = 0.03
"""Seconds between two tasks: the dispatcher is idle again."""


def latency(number: int) -> float:
    """Milliseconds until one task begins, when those before are done and the dispatcher is idle
    again.
    """
    time.sleep(PAUSE)
    noted.add(number)
    added = time.time_ns()
    return (begun(number).at - added) / 1e6


def floors(given: argparse.Namespace) -> dict[str, list[float]]:
    """Milliseconds that a commit and a request take after a pause, by database."""
    rows: dict[str, list[float]] = {}
    for url in given.database:
        with application(url) as app:
            engine, request = app.extensions["taskqueue"].store.database.engine, bare_requests(app)
            rows[f"{database_name(app)}, {FLOOR}"] = [
                _floor(engine, request) for _ in range(given.tasks)
            ]
    return rows


def _floor(engine: sa.Engine, request: Callable[[int], None]) -> float:
    time.sleep(PAUSE)
    began = time.perf_counter()
    with engine.begin() as connection:
        connection.execute(sa.update(Counter).values(count=Counter.count + 1))
    request(1)
    return (time.perf_counter() - began) * 1000


def main() -> None:
    """Add tasks one by one."""
    given = arguments(__doc__, tasks=200)
    bare, rows = floors(given), measured(latency, given)
    ratios = {name: f"{name.partition(', ')[0]}, {FLOOR}" for name in rows}
    show_spread_ratios("ms after add()", bare | rows, ratios)


if __name__ == "__main__":
    main()
