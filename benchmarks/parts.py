"""What each part of a task costs between its claim and its record, timed alone.

    python -m benchmarks parts [--tasks 1000] [--rounds 15] [--database URL]

Each row contains the rows above it. Its unit is the first row, a request that a loop makes of the
same application, which has a secret key. The loops take turns in one process.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flask import Flask
from werkzeug.test import EnvironBuilder, run_wsgi_app

from flask_taskqueue.core import signals
from flask_taskqueue.core.delivery.delivery import ENVIRON_KEY, Delivery
from flask_taskqueue.core.states import Record
from flask_taskqueue.engine.attempt import Attempts
from flask_taskqueue.engine.outgoing_requests import OutgoingRequests
from flask_taskqueue.engine.pool import Pool

from .apps import application, db_tasks, nothing
from .table import Table

UNIT = "bare request"
DRAIN = "with drain and database"
_TURN = 100
"""The number of tasks for which each loop runs before it is the next one's turn."""

Loop = Callable[[int], object]


def request_loop(app: Flask, environ: dict[str, Any]) -> Loop:
    """Requests to the application, nothing around them."""

    def loop(number: int) -> None:
        for _ in range(number):
            chunks, status, _ = run_wsgi_app(app, environ)
            b"".join(chunks)
            if hasattr(chunks, "close"):
                chunks.close()
            assert status.startswith("204")

    return loop


@contextmanager
def noted(app: Flask) -> Iterator[tuple[list[Record], list[dict[str, Any]]]]:
    """Note the records and the environs of the tasks that are attempted meanwhile."""
    records: list[Record] = []
    environs: list[dict[str, Any]] = []
    call = app.wsgi_app

    def note(_: Flask, record: Record) -> None:
        records.append(record)

    def note_environ(environ: dict[str, Any], start_response: Any) -> Any:
        environs.append(environ.copy())
        return call(environ, start_response)

    app.wsgi_app = note_environ  # type: ignore[method-assign]
    try:
        with signals.attempt_started.connected_to(note):
            yield records, environs
    finally:
        app.wsgi_app = call  # type: ignore[method-assign]


def pool_loop(attempts: Attempts, record: Record) -> Loop:
    """Attempts in the threads of a pool."""
    pool = Pool(8, attempts)

    def loop(number: int) -> None:
        pool.submit(attempts.begin([record] * number))
        while number:
            collected = pool.collect(1)
            recalled = [delivery for delivery, result in collected if result is None]
            pool.submit(recalled)
            number -= len(collected) - len(recalled)

    return loop


def loops(app: Flask) -> dict[str, Loop]:
    """The loops by name, each with one part more than the one before, up to the drain."""
    runtime = app.extensions["taskqueue"]
    nothing.add()
    with noted(app) as (records, environs):
        db_tasks.drain()
    record, environ = records[0], environs[0]
    _, attempts = runtime.dispatcher()
    routes = runtime.routes(None, "wsgi")
    requests = OutgoingRequests(runtime.settings, runtime.targets, routes, runtime.keys)
    transport, request = requests.prepare(record, own=True)
    delivery = Delivery(record, time.monotonic(), time.monotonic() + 3600)

    def send(number: int) -> None:
        for _ in range(number):
            assert transport.send(request, delivery).status == 204

    def attempt(number: int) -> None:
        for delivery in attempts.begin([record] * number):
            assert attempts.make(delivery).outcome.reason == "success"

    elsewhere = {**environ, "PATH_INFO": "/bare", ENVIRON_KEY: None}
    bare = EnvironBuilder(path="/bare", method="POST", data={"key": "x"}).get_environ()
    return {
        UNIT: request_loop(app, bare),
        "with our headers": request_loop(app, elsewhere),
        "with our view": request_loop(app, {**environ, ENVIRON_KEY: delivery}),
        "sent by the transport": send,
        "the whole attempt": attempt,
        "in the pool's thread": pool_loop(attempts, record),
    }


def spent(loop: Loop, number: int) -> tuple[float, float]:
    """The seconds of wall time and of processor time that one round takes."""
    started, computed = time.perf_counter(), time.process_time()
    loop(number)
    return time.perf_counter() - started, time.process_time() - computed


def alternated(parts: dict[str, Loop], number: int) -> dict[str, tuple[float, float]]:
    """What each loop takes; they take turns, so that all have the same share of other work."""
    found = dict.fromkeys(parts, (0.0, 0.0))
    for _ in range(0, number, _TURN):
        for name, loop in parts.items():
            wall, processor = spent(loop, _TURN)
            found[name] = found[name][0] + wall, found[name][1] + processor
    return found


def drain(number: int) -> None:
    """Claim, attempt and record."""
    assert db_tasks.drain() == number


def main() -> None:
    """Measure in turn, and print medians and ranges of the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--database", help="an SQLAlchemy URL; by default a SQLite file")
    given = parser.parse_args()
    tables = Table("wall time, µs"), Table("processor time, µs")
    with application(given.database) as app:
        parts = loops(app)
        alternated(parts, _TURN)
        number = given.tasks // _TURN * _TURN
        for _ in range(given.rounds):
            found = alternated(parts, number)
            db_tasks.add_many(nothing.spec() for _ in range(number))
            found[DRAIN] = spent(drain, number)
            for name, seconds in found.items():
                for table, one in zip(tables, seconds, strict=True):
                    table.add(name, one * 1e6 / number)
    for table in tables:
        table.show(dict.fromkeys([*list(parts)[1:], DRAIN], UNIT))
        print()


if __name__ == "__main__":
    main()
