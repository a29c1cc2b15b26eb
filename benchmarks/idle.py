"""What an idle dispatcher costs: processor seconds a minute, and statements a second.

python -m benchmarks idle [--seconds 60] [--database sqlite URL ...]
"""

from __future__ import annotations

import argparse
import resource
import time

import sqlalchemy as sa
from flask import Flask

from .apps import application, database_name


def idle(app: Flask, seconds: float) -> tuple[float, float]:
    """Processor seconds a minute, and statements a second, of a dispatcher that has nothing to
    do.
    """
    runtime = app.extensions["taskqueue"]
    statements: list[str] = []
    runtime.start()
    time.sleep(2)
    sa.event.listen(
        runtime.store.database.engine,
        "after_cursor_execute",
        lambda *given: statements.append(given[2]),
    )
    before = resource.getrusage(resource.RUSAGE_SELF)
    time.sleep(seconds)
    after = resource.getrusage(resource.RUSAGE_SELF)
    runtime.stop()
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return 60 * used / seconds, sum(
        not statement.startswith("BEGIN") for statement in statements
    ) / seconds


def main() -> None:
    """Let a dispatcher run with nothing to do."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument(
        "--database",
        nargs="*",
        default=["sqlite"],
        help="SQLAlchemy URLs; by default a SQLite file",
    )
    given = parser.parse_args()
    print("| idle       | processor, s a minute | statements a second |")
    print("|------------|----------------------:|--------------------:|")
    for url in given.database:
        with application(url) as app:
            processor, statements = idle(app, given.seconds)
            print(
                f"| {database_name(app):10} | {processor:21.2f} | {statements:19.2f} |", flush=True
            )


if __name__ == "__main__":
    main()
